"""Scripted stand-ins for the CUDA runtime and TensorRT, where there is no GPU.

They keep the rules that a GPU would enforce: work is done in a stream's order and only when it is waited
for, copies must stay inside live memory of the right kind, nothing is freed twice, captured work does not
run. The engine computes ``y = 2 x`` in float32, for x of [n, 3].
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from planner.backends.tensorrt.cudart import Cuda
from planner.backends.tensorrt.files import sha256
from planner.backends.tensorrt.library import RTX, STANDARD, Library
from planner.backends.tensorrt.order import Order
from planner.backends.tensorrt.place import Place, place_here
from planner.backends.tensorrt.record import EngineRecord
from planner.domain.model import BoundInput

Work = Callable[[], None]
Queued = tuple[float, Work, frozenset[int]]
"""What it costs in ms, what it does, and the addresses that it touches."""

COPY_MS, KERNEL_MS, GRAPH_MS = 0.001, 0.020, 0.010


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class Properties:
    name = b"Scripted GPU"
    major, minor = 8, 9


class Handle:
    """A stream, event or graph; streams know what waits in them."""

    count = 0

    def __init__(self) -> None:
        Handle.count += 1
        self.number = Handle.count
        self.waiting: list[Queued] = []
        self.captured: list[Queued] | None = None
        self.time_ms: float | None = None

    def __int__(self) -> int:
        return self.number


class ScriptedCuda:
    """``calls`` are the names in order; ``fail[name]`` makes the next calls of that name answer those."""

    cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode = cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode
    cudaStreamNonBlocking, cudaHostAllocDefault, cudaEventDefault = 1, 0, 0

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail: dict[str, list[cudaError_t]] = {}
        self.clock_ms = 0.0
        self.live: dict[str, dict[int, Any]] = {
            kind: {} for kind in ("device", "pinned", "stream", "event", "graph", "executable")
        }
        self.memory_bytes = 1 << 20

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(value) or isinstance(value, type):
            return value

        def call(*args: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            script = self.fail.get(name, [])
            if script and (status := script.pop(0)) is not cudaError_t.cudaSuccess:
                if name == "cudaStreamEndCapture":  # over all the same, as CUDA has it
                    self.stream(int(args[0])).captured = None
                return (status, None, None) if name == "cudaMemGetInfo" else (status, None)
            return value(*args)

        return call

    @property
    def leaks(self) -> list[str]:
        return [kind for kind, handles in self.live.items() for _ in handles]

    def in_use(self) -> int:
        return sum(len(memory) for memory in self.live["device"].values())

    def stream(self, number: int) -> Handle:
        return self.live["stream"][number]

    def memory(self, kind: str, address: int, size: int) -> None:
        assert size <= len(self.live[kind][address]), "a copy beyond its memory"

    def put(self, stream: Any, cost_ms: float, work: Work, touched: Iterable[int] = ()) -> None:
        handle = self.stream(int(stream))
        (handle.waiting if handle.captured is None else handle.captured).append(
            (cost_ms, work, frozenset(touched))
        )

    def _new(self, kind: str) -> tuple[cudaError_t, Handle]:
        handle = Handle()
        self.live[kind][int(handle)] = handle
        return cudaError_t.cudaSuccess, handle

    def _end(self, kind: str, handle: Any) -> tuple[cudaError_t]:
        del self.live[kind][int(handle)]
        return (cudaError_t.cudaSuccess,)

    def _memory(self, kind: str, size: int) -> tuple[cudaError_t, int | None]:
        assert size > 0
        if kind == "device" and self.in_use() + size > self.memory_bytes:
            return cudaError_t.cudaErrorMemoryAllocation, None
        memory = ctypes.create_string_buffer(size)
        address = ctypes.addressof(memory)
        self.live[kind][address] = memory
        return cudaError_t.cudaSuccess, address

    def cudaSetDevice(self, device: int) -> tuple[cudaError_t]:
        return (cudaError_t.cudaSuccess if device == 0 else cudaError_t.cudaErrorInvalidValue,)

    def cudaGetDeviceProperties(self, device: int) -> tuple[cudaError_t, Properties]:
        return cudaError_t.cudaSuccess, Properties()

    def cudaDriverGetVersion(self) -> tuple[cudaError_t, int]:
        return cudaError_t.cudaSuccess, 13050

    def cudaRuntimeGetVersion(self) -> tuple[cudaError_t, int]:
        return cudaError_t.cudaSuccess, 12080

    def cudaMemGetInfo(self) -> tuple[cudaError_t, int, int]:
        return cudaError_t.cudaSuccess, self.memory_bytes - self.in_use(), self.memory_bytes

    def cudaGetErrorName(self, status: cudaError_t) -> tuple[cudaError_t, bytes]:
        return cudaError_t.cudaSuccess, status.name.encode()

    def cudaGetErrorString(self, status: cudaError_t) -> tuple[cudaError_t, bytes]:
        return cudaError_t.cudaSuccess, b"as scripted"

    def cudaGetLastError(self) -> tuple[cudaError_t]:
        return (cudaError_t.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[cudaError_t, int | None]:
        return self._memory("device", size)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[cudaError_t, int | None]:
        return self._memory("pinned", size)

    def cudaFree(self, address: int) -> tuple[cudaError_t]:
        self._idle(address)
        return self._end("device", address)

    def cudaFreeHost(self, address: int) -> tuple[cudaError_t]:
        self._idle(address)
        return self._end("pinned", address)

    def _idle(self, address: int) -> None:
        for stream in self.live["stream"].values():
            assert not any(address in touched for _, _, touched in stream.waiting), "freed while in use"

    def cudaMemcpyAsync(
        self, to: int, source: int, size: int, kind: cudaMemcpyKind, stream: Any
    ) -> tuple[cudaError_t]:
        inward = kind is cudaMemcpyKind.cudaMemcpyHostToDevice
        self.memory("device" if inward else "pinned", to, size)
        self.memory("pinned" if inward else "device", source, size)
        self.put(stream, COPY_MS, lambda: ctypes.memmove(to, source, size) and None, {to, source})
        return (cudaError_t.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[cudaError_t, Handle]:
        return self._new("stream")

    def cudaStreamDestroy(self, stream: Any) -> tuple[cudaError_t]:
        return self._end("stream", stream)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[cudaError_t]:
        handle = self.stream(int(stream))
        assert handle.captured is None, "waited for a stream that is being captured"
        while handle.waiting:
            cost_ms, work, _ = handle.waiting.pop(0)
            self.clock_ms += cost_ms
            work()
        return (cudaError_t.cudaSuccess,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[cudaError_t, Handle]:
        return self._new("event")

    def cudaEventDestroy(self, event: Any) -> tuple[cudaError_t]:
        return self._end("event", event)

    def cudaEventRecord(self, event: Handle, stream: Any) -> tuple[cudaError_t]:
        event.time_ms = None
        self.put(stream, 0.0, lambda: setattr(event, "time_ms", self.clock_ms))
        return (cudaError_t.cudaSuccess,)

    def cudaEventElapsedTime(self, start: Handle, end: Handle) -> tuple[cudaError_t, float | None]:
        if start.time_ms is None or end.time_ms is None:
            return cudaError_t.cudaErrorNotReady, None
        return cudaError_t.cudaSuccess, end.time_ms - start.time_ms

    def cudaStreamBeginCapture(self, stream: Any, mode: cudaStreamCaptureMode) -> tuple[cudaError_t]:
        self.stream(int(stream)).captured = []
        return (cudaError_t.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Any) -> tuple[cudaError_t, Handle]:
        handle = self.stream(int(stream))
        captured, handle.captured = handle.captured, None
        status, graph = self._new("graph")
        graph.waiting = captured or []
        return status, graph

    def cudaGraphInstantiate(self, graph: Handle, flags: int) -> tuple[cudaError_t, Handle]:
        status, executable = self._new("executable")
        executable.waiting = list(graph.waiting)
        return status, executable

    def cudaGraphDestroy(self, graph: Any) -> tuple[cudaError_t]:
        return self._end("graph", graph)

    def cudaGraphLaunch(self, executable: Handle, stream: Any) -> tuple[cudaError_t]:
        assert int(executable) in self.live["executable"]
        for _, work, touched in executable.waiting:
            self.put(stream, GRAPH_MS, work, touched)
        return (cudaError_t.cudaSuccess,)

    def cudaGraphExecDestroy(self, executable: Any) -> tuple[cudaError_t]:
        return self._end("executable", executable)


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


class ScriptedTrt:
    """The module. ``living`` counts runtimes, engines and contexts; ``refuse`` names calls that answer no."""

    class ILogger:
        ERROR = 1

        def __init__(self) -> None: ...

    class TensorIOMode:
        INPUT, OUTPUT = "in", "out"

    class DynamicShapesKernelSpecializationStrategy:
        EAGER = "eager"

    class CudaGraphStrategy:
        WHOLE_GRAPH_CAPTURE, DISABLED = "whole", "disabled"

    __version__ = "11.4.0"

    def __init__(self, cuda: ScriptedCuda) -> None:
        self.cuda = cuda
        self.living: list[str] = []
        self.freed: list[str] = []
        self.refuse: dict[str, str] = {}
        self.output_kind = "FLOAT"
        self.settings: list[Settings] = []

    def Runtime(self, log: Any) -> Runtime:
        return Runtime(self, log)

    def answers(self, what: str, log: Any) -> bool:
        """False, with the scripted message in the log, where ``what`` is to be refused."""
        if what not in self.refuse:
            return True
        log.log(1, self.refuse[what])
        return False


class Counted:
    def __init__(self, trt: ScriptedTrt, log: Any) -> None:
        self.trt, self.scripted_log = trt, log
        trt.living.append(type(self).__name__)

    def __del__(self) -> None:
        self.trt.living.remove(type(self).__name__)
        self.trt.freed.append(type(self).__name__)


class Runtime(Counted):
    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        return (
            Engine(self.trt, self.scripted_log)
            if self.trt.answers("deserialize", self.scripted_log)
            else None
        )


class Settings:
    dynamic_shapes_kernel_specialization_strategy = cuda_graph_strategy = ""


class Engine(Counted):
    num_io_tensors = 2

    def get_tensor_name(self, index: int) -> str:
        return ("y", "x")[index]

    def get_tensor_dtype(self, name: str) -> Named:
        return Named("FLOAT" if name == "x" else self.trt.output_kind)

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "x" else "out"

    def create_runtime_config(self) -> Settings:
        return Settings()

    def create_execution_context(self, settings: Settings | None = None) -> Context | None:
        if settings is not None:
            self.trt.settings.append(settings)
        return (
            Context(self.trt, self.scripted_log) if self.trt.answers("context", self.scripted_log) else None
        )


class Context(Counted):
    """Serves the profiles of batch sizes (1, 4, 8)."""

    ranges = ((1, 1), (2, 4), (5, 8))

    def __init__(self, trt: ScriptedTrt, log: Any) -> None:
        super().__init__(trt, log)
        self.profile: int | None = None
        self.rows: int | None = None
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.trt.cuda.stream(stream)
        self.profile, self.rows = profile, None
        return self.trt.answers("profile", self.scripted_log)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None and name == "x"
        least, most = self.ranges[self.profile]
        self.rows = shape[0]
        return least <= shape[0] <= most and self.trt.answers("shape", self.scripted_log)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.rows is not None
        return (-1 if "data-dependent" in self.trt.refuse else self.rows, 3)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return self.trt.answers("address", self.scripted_log)

    def execute_async_v3(self, stream: int) -> bool:
        capturing = self.trt.cuda.stream(stream).captured is not None
        if not self.trt.answers("capture" if capturing else "execute", self.scripted_log):
            return False
        assert self.rows is not None and self.addresses.keys() == {"x", "y"}
        # In bfloat16 only the layout is looked at.
        size, addresses = self.rows * 3 * 4, dict(self.addresses)
        if self.trt.output_kind != "FLOAT":
            return True
        for address in addresses.values():
            self.trt.cuda.memory("device", address, size)

        def double() -> None:
            x = np.frombuffer(ctypes.string_at(addresses["x"], size), np.float32)
            ctypes.memmove(addresses["y"], (2 * x).tobytes(), size)

        self.trt.cuda.put(stream, KERNEL_MS, double, addresses.values())
        return True


class Bench:
    """A stand-in with the record of an engine that fits it."""

    def __init__(self, name: str) -> None:
        self.rt = ScriptedCuda()
        self.trt = ScriptedTrt(self.rt)
        self.library = Library(name, self.trt, self.trt.__version__, timing_cache=name == STANDARD)
        self.cuda = Cuda(self.rt, 0)
        self.plan = b"a plan"
        self.place: Place = place_here(self.library, self.cuda)
        self.record = EngineRecord(
            place=self.place,
            order=Order("0" * 64, (BoundInput("x", "float32", (1, 3), 0),), (1, 4, 8)),
            outputs=("y",),
            sha256=sha256(self.plan),
            size_bytes=len(self.plan),
            status="built",
            built_at="2026-01-01T00:00:00+00:00",
        )
        self.rt.calls.clear()


@pytest.fixture
def bench() -> Bench:
    return Bench(STANDARD)


@pytest.fixture
def rtx_bench() -> Bench:
    return Bench(RTX)
