"""ONNX to a serialized engine.

Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.backends.tensorrt import timing
from planner.backends.tensorrt.library import Library, one_line, recorder
from planner.backends.tensorrt.order import Order
from planner.backends.tensorrt.rtx import set_capabilities
from planner.domain.model import BoundInput
from planner.errors import BackendError


@dataclass(frozen=True, slots=True)
class Built:
    """``outputs`` are names, in the model's order."""

    plan: bytes
    outputs: tuple[str, ...]


def build(
    library: Library,
    onnx: Path,
    order: Order,
    capabilities: Sequence[str] = (),
    timing_cache: Path | None = None,
) -> Built:
    """Build what ``order`` asks for. External data are read from beside ``onnx``.

    ``capabilities`` are those that TensorRT-RTX builds for. Raises BackendError, in one line, where the graph
    is refused, its inputs are not the order's, or no kernel is found.
    """
    log = recorder(library.trt)
    builder = _builder(library, log)
    network, parser = _parse(library, builder, onnx, log)
    config = _config(library, builder, order)
    if library.is_rtx:
        set_capabilities(library, config, capabilities)
    _add_profiles(builder, network, config, order, onnx.name, log)
    timings, before = None, b""
    if library.timing_cache and timing_cache is not None:
        timings, before = timing.attach(config, timing_cache)
    log.errors.clear()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(f"{onnx.name}: {library.name} builds no engine: {log.cause()}")
    if timings is not None and timing_cache is not None:
        timing.keep(config, timings, before, timing_cache)
    outputs = tuple(network.get_output(i).name for i in range(network.num_outputs))
    # The parser owns the weights that the network points to: it has to outlive the build.
    del parser
    return Built(bytes(memoryview(plan)), outputs)


def _builder(library: Library, log: Any) -> Any:
    try:
        return library.trt.Builder(log)
    except TypeError:  # what pybind11 makes of TensorRT's null pointer
        raise BackendError(
            f"{library.name} cannot build here: {log.cause()}; "
            "it needs an NVIDIA GPU and its driver, tensorrt-rtx builds without them"
        ) from None


def _parse(library: Library, builder: Any, onnx: Path, log: Any) -> tuple[Any, Any]:
    trt = library.trt
    flags = 0
    # Needed on 10; the only kind of network on 11.
    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        error = parser.get_error(0) if parser.num_errors else None
        raise BackendError(f"{onnx.name}: {library.name} {_parse_failure(error) or log.cause()}")
    if not network.num_outputs:  # it takes some files that are no ONNX for empty graphs
        raise BackendError(f"{onnx.name}: {library.name} finds no graph in it; is it an ONNX file?")
    return network, parser


def _parse_failure(error: Any) -> str:
    if error is None:
        return ""
    where = f"cannot parse node {error.node_name()!r} ({error.node_operator()})" if error.node_name() else ""
    return f"{where or 'cannot parse it'}: {one_line(error.desc())}"


def _config(library: Library, builder: Any, order: Order) -> Any:
    trt, options = library.trt, order.options
    config = builder.create_builder_config()
    config.builder_optimization_level = options.builder_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.sparse_weights:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    return config


def _add_profiles(builder: Any, network: Any, config: Any, order: Order, name: str, log: Any) -> None:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    given = {i.name: i for i in order.inputs}
    if {tensor.name for tensor in tensors} != given.keys():
        raise BackendError(
            f"{name}: its inputs are {', '.join(t.name for t in tensors)}; "
            f"shapes were given for {', '.join(given)}"
        )
    for sizes in order.ranges:
        profile = builder.create_optimization_profile()
        for tensor in tensors:
            _check(tensor, given[tensor.name], sizes.most, name)
            least, most = (list(given[tensor.name].shape_at(n)) for n in (sizes.least, sizes.most))
            fixed = all(d >= 0 for d in tensor.shape)
            profile.set_shape(tensor.name, most if fixed else least, most, most)
        if config.add_optimization_profile(profile) < 0:
            raise BackendError(f"{name}: batch sizes {sizes.least} to {sizes.most} refused: {log.cause()}")


def _check(tensor: Any, wanted: BoundInput, batch_size: int, name: str) -> None:
    """Raises BackendError where the network cannot take ``wanted`` at ``batch_size``."""
    if tensor.is_shape_tensor:
        raise BackendError(
            f"{name}: input {tensor.name} decides shapes by its values, which an engine cannot be tuned for; "
            "fix it as a constant in the model"
        )
    here, asked = tuple(tensor.shape), wanted.shape_at(batch_size)
    if len(here) != len(asked) or any(h >= 0 and h != a for h, a in zip(here, asked, strict=True)):
        fixed = ", ".join("?" if d < 0 else str(d) for d in here)
        raise BackendError(f"{name}: input {tensor.name} is [{fixed}], {list(asked)} was asked for")
