"""The CUDA runtime: every call's status is checked. The only module that imports ``cuda.bindings``.

Source: https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html; each function returns
its status and then its results.
"""

from __future__ import annotations

from typing import Any

from planner.errors import BackendError, MissingDependencyError
from planner.units import format_bytes

_NS_PER_MS = 1_000_000


def cuda(device: int = 0) -> Cuda:
    """The CUDA runtime on ``device`` (of those that CUDA_VISIBLE_DEVICES leaves visible).

    Raises MissingDependencyError without its bindings, BackendError without a GPU or its driver.
    """
    try:
        from cuda.bindings import runtime as cudart
    except ImportError as error:
        raise MissingDependencyError(
            f"cuda.bindings cannot be imported ({error}); install it with: pip install cuda-bindings"
        ) from None
    return Cuda(cudart, device)


class Cuda:
    """Calls on one device, which is this thread's once made."""

    def __init__(self, cudart: Any, device: int) -> None:
        self._rt = cudart
        self.device = device
        self.use()

    def use(self) -> None:
        """Make the device the calling thread's; every thread has to."""
        self._check(self._rt.cudaSetDevice(self.device), f"using device {self.device}")

    # The device

    def device_name(self) -> str:
        name = self._properties().name
        return (name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0")

    def compute_capability(self) -> str:
        properties = self._properties()
        return f"{properties.major}.{properties.minor}"

    def driver_cuda_version(self) -> str:
        """The newest CUDA that the driver knows."""
        return _version(self._check(self._rt.cudaDriverGetVersion(), "asking the driver's version"))

    def runtime_version(self) -> str:
        return _version(self._check(self._rt.cudaRuntimeGetVersion(), "asking the runtime's version"))

    def free_bytes(self) -> int:
        free, _ = self._check(self._rt.cudaMemGetInfo(), "asking for free memory")
        return int(free)

    def _properties(self) -> Any:
        return self._check(self._rt.cudaGetDeviceProperties(self.device), "asking the device's properties")

    # Memory

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes on the device."""
        result = self._rt.cudaMalloc(size)
        if result[0] == self._rt.cudaError_t.cudaErrorMemoryAllocation:
            self._rt.cudaGetLastError()
            raise BackendError(
                f"out of device memory: {format_bytes(size)} wanted, {format_bytes(self.free_bytes())} free; "
                "use a smaller batch or fewer instances"
            )
        return int(self._check(result, "allocating device memory"))

    def free(self, address: int) -> None:
        self._check(self._rt.cudaFree(address), "freeing device memory")

    def allocate_pinned(self, size: int) -> int:
        """Address of ``size`` bytes of page-locked host memory, which the device copies from directly."""
        flags = self._rt.cudaHostAllocDefault
        return int(self._check(self._rt.cudaHostAlloc(size, flags), "allocating pinned host memory"))

    def free_pinned(self, address: int) -> None:
        self._check(self._rt.cudaFreeHost(address), "freeing pinned host memory")

    def to_device(self, device: int, host: int, size: int, stream: Any) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._check(self._rt.cudaMemcpyAsync(device, host, size, kind, stream), "copying to the device")

    def to_host(self, host: int, device: int, size: int, stream: Any) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._check(self._rt.cudaMemcpyAsync(host, device, size, kind, stream), "copying to the host")

    # Streams and events

    def stream(self) -> Any:
        """A stream of its own: on the default one TensorRT synchronizes the whole device."""
        flags = self._rt.cudaStreamNonBlocking
        return self._check(self._rt.cudaStreamCreateWithFlags(flags), "creating a stream")

    def destroy_stream(self, stream: Any) -> None:
        self._check(self._rt.cudaStreamDestroy(stream), "destroying a stream")

    def synchronize(self, stream: Any) -> None:
        """Wait until the device has done all that was put into ``stream``."""
        self._check(self._rt.cudaStreamSynchronize(stream), "running on the device")

    def event(self) -> Any:
        return self._check(self._rt.cudaEventCreateWithFlags(self._rt.cudaEventDefault), "creating an event")

    def destroy_event(self, event: Any) -> None:
        self._check(self._rt.cudaEventDestroy(event), "destroying an event")

    def record(self, event: Any, stream: Any) -> None:
        self._check(self._rt.cudaEventRecord(event, stream), "recording an event")

    def elapsed_ns(self, start: Any, end: Any) -> int:
        """Between two events that have happened; CUDA resolves about half a microsecond."""
        elapsed_ms: float = self._check(self._rt.cudaEventElapsedTime(start, end), "reading event times")
        return round(elapsed_ms * _NS_PER_MS)

    # Graphs

    def begin_capture(self, stream: Any) -> None:
        """From here on work put into ``stream`` is recorded, not run.

        Thread-local, so that other instances may allocate in their threads meanwhile.
        """
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._check(self._rt.cudaStreamBeginCapture(stream, mode), "beginning a graph capture")

    def end_capture(self, stream: Any) -> Any:
        """The graph recorded. Raises BackendError where something in it could not be."""
        try:
            return self._check(self._rt.cudaStreamEndCapture(stream), "capturing a graph")
        except BackendError:
            self._rt.cudaGetLastError()  # or the next call would report this failure as its own
            raise

    def instantiate(self, graph: Any) -> Any:
        return self._check(self._rt.cudaGraphInstantiate(graph, 0), "instantiating a graph")

    def destroy_graph(self, graph: Any) -> None:
        self._check(self._rt.cudaGraphDestroy(graph), "destroying a graph")

    def launch(self, executable: Any, stream: Any) -> None:
        self._check(self._rt.cudaGraphLaunch(executable, stream), "launching a graph")

    def destroy_executable(self, executable: Any) -> None:
        self._check(self._rt.cudaGraphExecDestroy(executable), "destroying a graph")

    def _check(self, result: tuple[Any, ...], doing: str) -> Any:
        status, *values = result
        if status != self._rt.cudaError_t.cudaSuccess:
            raise BackendError(f"CUDA failed {doing}: {self._describe(status)}")
        return values[0] if len(values) == 1 else tuple(values)

    def _describe(self, status: Any) -> str:
        """``cudaErrorIllegalAddress (an illegal memory access was encountered)``."""
        name, text = (
            value.decode() if isinstance(value, bytes) else str(value)
            for _, value in (self._rt.cudaGetErrorName(status), self._rt.cudaGetErrorString(status))
        )
        return f"{name} ({text})"


def _version(number: int) -> str:
    """CUDA's 13050 is 13.5."""
    return f"{number // 1000}.{number % 1000 // 10}"
