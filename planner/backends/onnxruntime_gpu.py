"""ONNX Runtime on NVIDIA GPUs: its CUDA and TensorRT providers.

Where a shared library is missing, ONNX Runtime logs it to stderr and goes on, on the CPU. Here that is an
error, and the system's loader is asked for its cause: only after ONNX Runtime itself has tried, for a
provider's library that is loaded before ONNX Runtime made itself its host would crash.
Sources: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html, and the same page of
TensorRT (provider options); ``onnxruntime.preload_dlls``.
"""

from __future__ import annotations

import ctypes
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from planner.backends.base import NVIDIA_GPU, Feed, Session
from planner.backends.onnxruntime import (
    OnnxRuntime,
    Provider,
    imported,
    installed_version,
    session,
)
from planner.errors import BackendError, MissingDependencyError

CUDA_PROVIDER, TENSORRT_PROVIDER = "CUDAExecutionProvider", "TensorrtExecutionProvider"
DEVICE = 0
"""CUDA numbers the visible devices from 0: which one that is, CUDA_VISIBLE_DEVICES says."""

_NO_CUDA_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
# Compute in what the graph says: TF32 would round the products of an fp32 variant to ten bits.
_CUDA: Provider = (CUDA_PROVIDER, {"device_id": str(DEVICE), "use_tf32": "0"})
_TENSORRT: Provider = (TENSORRT_PROVIDER, {"device_id": str(DEVICE)})

Dlopen = Callable[[str], Any]


class GpuSession:
    """Inputs and outputs are bound explicitly: each inference copies the ones there, the others back."""

    def __init__(self, made: Any, device: str = "cuda") -> None:
        self._session, self._device = made, device
        self._value = imported().OrtValue.ortvalue_from_numpy
        self._outputs = [output.name for output in made.get_outputs()]

    def infer(self, feed: Feed) -> list[np.ndarray]:
        binding = self._session.io_binding()
        for name, array in feed.items():
            # Blocks until the input is on the device.
            binding.bind_ortvalue_input(name, self._value(array, self._device, DEVICE))
        for name in self._outputs:
            binding.bind_output(name, self._device, DEVICE)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        outputs: list[np.ndarray] = binding.copy_outputs_to_cpu()
        return outputs


class OnnxRuntimeCuda(OnnxRuntime):
    """Latencies include the copies to the device and back. TF32 is off: an fp32 variant computes in fp32."""

    name = "onnxruntime-cuda"
    runs_on = NVIDIA_GPU
    providers: tuple[Provider, ...] = (_CUDA,)

    def missing(self) -> str | None:
        try:
            onnxruntime = imported()
        except MissingDependencyError as error:
            return str(error)
        try:
            self._session(onnxruntime, _identity(), 1, True)
        except BackendError as error:
            return str(error)
        return None

    def libraries(self) -> tuple[tuple[str, str], ...]:
        """With the CUDA version that this build is of; the driver is the environment's to tell."""
        return (("onnxruntime", installed_version()), ("cuda", str(imported().cuda_version)))

    @contextmanager
    def load(self, engine: Path, threads: int, optimized: bool = True) -> Iterator[Session]:
        try:
            made = self._session(imported(), engine, threads, optimized)
        except BackendError as error:
            raise BackendError(f"{engine.name}: {self.name}: {error}") from None
        yield GpuSession(made)

    def _session(self, onnxruntime: Any, model: Path | bytes, threads: int, optimized: bool) -> Any:
        wanted = self.providers[0][0]
        if wanted not in onnxruntime.get_available_providers():
            raise BackendError(
                f"the installed ONNX Runtime was built without {wanted}; install the build that has it with: "
                "pip uninstall onnxruntime && pip install onnxruntime-gpu"
            )
        _preload(onnxruntime)
        try:
            return session(model, threads, optimized, self.providers)
        except BackendError:
            folder = Path(onnxruntime.__file__).parent / "capi"
            reason = unloadable(self.providers, folder, onnxruntime.cuda_version) or without_gpu()
            if reason is None:
                raise
            raise BackendError(reason) from None


class OnnxRuntimeTensorRT(OnnxRuntimeCuda):
    """TensorRT for the subgraphs that it takes, CUDA for the rest; engines are built when loading."""

    name = "onnxruntime-tensorrt"
    providers = (_TENSORRT, _CUDA)

    def libraries(self) -> tuple[tuple[str, str], ...]:
        found = super().libraries()
        with suppress(ImportError):
            return (*found, ("tensorrt", str(import_module("tensorrt").__version__)))
        return found


def unloadable(
    providers: tuple[Provider, ...], folder: Path, cuda_version: str, dlopen: Dlopen | None = None
) -> str | None:
    """The first shared library that a provider lacks, and how to get it; None where all load.

    ``folder`` holds the providers' own libraries, ``cuda_version`` is what they were built with.
    """
    dlopen = dlopen or _dlopen
    # The CUDA provider opens cuDNN only when it is used.
    needed = ["shared", *(("tensorrt" if name == TENSORRT_PROVIDER else "cuda") for name, _ in providers)]
    libraries = [str(folder / _file_name(part)) for part in needed]
    for library in [*libraries, *([] if sys.platform == "win32" else ["libcudnn.so.9"])]:
        try:
            dlopen(library)
        except OSError as error:
            said = str(error).strip().splitlines()[0]
            return f"{said}; {_mended_by(said, cuda_version)}"
    return None


def without_gpu(dlopen: Dlopen | None = None) -> str | None:
    """Why CUDA sees no GPU, in one line; None where it sees one.

    Source: CUDA driver API, cuInit and cuDeviceGetCount.
    """
    dlopen = dlopen or _dlopen
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = dlopen(name)
    except OSError as error:
        return f"{str(error).strip().splitlines()[0]}; install the NVIDIA driver"
    code = driver.cuInit(0)
    count = ctypes.c_int(0)
    if code == 0:
        code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code not in (0, _NO_CUDA_DEVICE):
        return f"the NVIDIA driver does not start (CUDA error {code}); see what nvidia-smi says"
    return (
        None if code == 0 and count.value else "the NVIDIA driver sees no GPU (or none of it is visible here)"
    )


def _mended_by(said: str, cuda_version: str) -> str:
    if "libcuda.so" in said:
        return "install the NVIDIA driver"
    major = cuda_version.partition(".")[0] or "12"
    if "nvinfer" in said or "nvonnxparser" in said:
        return (
            f"install it with: pip install 'tensorrt-cu{major}<11'"
            if ".so.10" in said
            else (f"install it with: pip install tensorrt-cu{major}")
        )
    return "install it with: pip install 'onnxruntime-gpu[cuda,cudnn]'"


def _identity() -> bytes:
    """The least model there is, to see whether a provider starts."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    opset = helper.make_opsetid("", 17)
    made: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    return made


def _preload(onnxruntime: Any) -> None:
    """Make what pip installed known to the loader, which does not look into site-packages by itself."""
    with redirect_stdout(io.StringIO()), suppress(Exception):
        onnxruntime.preload_dlls()
    with suppress(Exception):
        # Importing it loads libnvinfer and its parser.
        import_module("tensorrt")


def _dlopen(library: str) -> Any:
    return ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)


def _file_name(part: str) -> str:
    return (
        f"onnxruntime_providers_{part}.dll"
        if sys.platform == "win32"
        else f"libonnxruntime_providers_{part}.so"
    )
