"""OpenVINO on CPUs and Intel GPUs.

Precision is the variant's, never the device's choice: left alone, OpenVINO computes an fp32 model in
bfloat16 on CPUs that have it (AMX, AVX512-BF16) and in float16 on GPUs, and what was measured would not be
what was judged. ``f32`` leaves what the graph holds in bfloat16 or int8 as it is; a graph with float16
tensors asks for ``f16``, where the device computes in it (elsewhere that hint would silently mean bfloat16).
Source: https://docs.openvino.ai/2026/openvino-workflow/running-inference/optimize-inference/precision-control.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from planner.backends.base import CPU, INTEL_GPU, Feed, Session
from planner.errors import BackendError, MissingDependencyError

INSTALL = "pip install openvino"
_FLOAT16 = "f16"
_SHARED_TYPES = {"boolean", "f16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"}


class OpenVino:
    """Engines are ONNX files. Tuned for one request at a time: all threads work on it (latency hint)."""

    name = "openvino"
    family = "openvino"
    runs_on = CPU
    device = "CPU"
    hint = "LATENCY"

    def missing(self) -> str | None:
        try:
            core = _imported().Core()
            if any(found.partition(".")[0] == self.device for found in core.available_devices):
                return None
            # Asking for it makes OpenVINO say why there is none.
            core.get_property(self.device, "FULL_DEVICE_NAME")
            cause = ""
        except MissingDependencyError as error:
            return str(error)
        except RuntimeError as error:
            cause = " (" + _telling_line(error).rpartition('": ')[2] + ")"
        return f"OpenVINO finds no {self.device} here{cause}; {_DRIVERS}"

    def libraries(self) -> tuple[tuple[str, str], ...]:
        try:
            return (("openvino", version("openvino")),)
        except PackageNotFoundError:
            raise MissingDependencyError(f"openvino is missing; install it with: {INSTALL}") from None

    @contextmanager
    def load(self, engine: Path, threads: int, optimized: bool = True) -> Iterator[Session]:
        """Not ``optimized`` is refused: OpenVINO has no way to run a graph as it is written."""
        openvino = _imported()
        if not optimized:
            raise BackendError(
                f"{engine.name}: OpenVINO cannot run a graph as it is written, without its optimizations; "
                "use onnxruntime for that"
            )
        try:
            core = openvino.Core()
            model = core.read_model(str(engine))
            compiled = core.compile_model(model, self.device, self._settings(core, model, threads))
            made = self._session(compiled)
        except BackendError as error:
            raise BackendError(f"{engine.name}: {error}") from None
        except RuntimeError as error:
            raise BackendError(f"{engine.name}: OpenVINO cannot load it: {_telling_line(error)}") from None
        yield made

    def _settings(self, core: Any, model: Any, threads: int) -> dict[str, Any]:
        precision = _FLOAT16 if _asks_for_float16(core, model, self.device) else "f32"
        settings: dict[str, Any] = {"PERFORMANCE_HINT": self.hint, "INFERENCE_PRECISION_HINT": precision}
        if self.runs_on == CPU:
            # Replicas share the machine: pinned, each would take the same first cores.
            settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        return settings

    def _session(self, compiled: Any) -> Session:
        return _OneRequest(compiled)


class OpenVinoThroughput(OpenVino):
    """The threads are split into streams, and a batch into as many parts: each stream infers its own.

    For models whose inputs and outputs all have the batch as their first axis, and it dynamic; others are
    refused. Often faster than one large batch where single requests are enough work for one core.
    """

    name = "openvino-throughput"
    hint = "THROUGHPUT"

    def _session(self, compiled: Any) -> Session:
        ports = [*compiled.inputs, *compiled.outputs]
        shapes = [port.get_partial_shape() for port in ports]
        if not all(shape.rank.is_static and len(shape) and shape[0].is_dynamic for shape in shapes):
            raise BackendError(
                "the throughput hint splits batches along the first axis, which has to be dynamic for every "
                f"input and output; use {OpenVino.name}"
            )
        return _Streams(compiled)


class OpenVinoGpu(OpenVino):
    """Intel GPUs; with more than one, the first."""

    name = "openvino-gpu"
    runs_on = INTEL_GPU
    device = "GPU"


class _OneRequest:
    def __init__(self, compiled: Any) -> None:
        self._request, self._tensor = compiled.create_infer_request(), _imported().Tensor
        self._inputs, self._dtypes = _names(compiled), _dtypes(compiled)
        self._outputs = range(len(compiled.outputs))

    def infer(self, feed: Feed) -> list[np.ndarray]:
        inputs = _by_position(feed, self._inputs)
        try:
            if all(_shareable(array, self._dtypes[index]) for index, array in inputs.items()):
                # What ``infer`` would come to with ``share_inputs``, after more than 100 µs of looking.
                for index, array in inputs.items():
                    self._request.set_input_tensor(index, self._tensor(array, shared_memory=True))
                results = self._request.infer()
            else:
                results = self._request.infer(inputs, share_inputs=True)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot infer: {_telling_line(error)}") from None
        return [results[index] for index in self._outputs]


class _Streams:
    def __init__(self, compiled: Any) -> None:
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = [compiled.create_infer_request() for _ in range(count)]
        self._inputs = _names(compiled)
        self._outputs = range(len(compiled.outputs))

    def infer(self, feed: Feed) -> list[np.ndarray]:
        inputs = _by_position(feed, self._inputs)
        size = len(inputs[0])
        used = self._requests[:size]
        bounds = [size * part // len(used) for part in range(len(used) + 1)]
        try:
            for request, start, end in zip(used, bounds, bounds[1:], strict=False):
                request.start_async({i: array[start:end] for i, array in inputs.items()}, share_inputs=True)
            for request in used:
                request.wait()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot infer: {_telling_line(error)}") from None
        # Concatenating copies: the requests' own buffers are written to again by the next inference.
        return [np.concatenate([r.get_output_tensor(i).data for r in used]) for i in self._outputs]


def _imported() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            f"openvino cannot be imported ({error}); install it with: {INSTALL}"
        ) from None
    return openvino


_DRIVERS = "install the device's driver, see https://docs.openvino.ai (system requirements)"


def _asks_for_float16(core: Any, model: Any, device: str) -> bool:
    """Whether the graph computes in float16 and the device can."""
    able = "FP16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    return able and any(
        output.get_element_type().get_type_name() == _FLOAT16
        for node in model.get_ordered_ops()
        if node.get_type_name() not in ("Constant", "Convert", "Parameter")
        for output in node.outputs()
    )


def _names(compiled: Any) -> tuple[frozenset[str], ...]:
    """The names that each input goes by; a tensor can have several."""
    return tuple(frozenset(port.get_names()) for port in compiled.inputs)


def _dtypes(compiled: Any) -> tuple[np.dtype[Any] | None, ...]:
    """What NumPy calls each input's type; None where it has no such type."""
    types = [port.get_element_type() for port in compiled.inputs]
    return tuple(np.dtype(t.to_dtype()) if t.get_type_name() in _SHARED_TYPES else None for t in types)


def _shareable(array: np.ndarray, dtype: np.dtype[Any] | None) -> bool:
    """Whether OpenVINO can read it where it lies."""
    if dtype is None or array.dtype != dtype or array.ndim == 0:
        return False
    return array.flags.c_contiguous and array.flags.writeable


def _by_position(feed: Feed, inputs: Sequence[frozenset[str]]) -> dict[int, np.ndarray]:
    """Each input's array. OpenVINO would take what the last request left in an input that is not given."""
    arrays = {index: feed[name] for index, names in enumerate(inputs) for name in names if name in feed}
    if len(arrays) < len(inputs):
        missing = next(min(names) for index, names in enumerate(inputs) if index not in arrays)
        raise BackendError(f"input {missing}: missing from the feed")
    return arrays


def _telling_line(error: Exception) -> str:
    """What OpenVINO says, less the places in its source that it came by; of a report, its items."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if items := [line.removeprefix("-- ") for line in lines if line.startswith("-- ")]:
        return "; ".join(items)
    telling = [line for line in lines if not line.startswith(("Exception from ", "Check '"))]
    return (telling or lines or [type(error).__name__])[0]
