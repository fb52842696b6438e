"""One execution context on one optimization profile, with all that it needs to run alone."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from planner.backends.base import Feed
from planner.backends.tensorrt.cudart import Cuda
from planner.backends.tensorrt.library import Library
from planner.backends.tensorrt.record import EngineRecord
from planner.backends.tensorrt.rtx import execution_context
from planner.backends.tensorrt.tensors import EngineTensor
from planner.errors import BackendError

_Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """One inference by the device's own clock (CUDA events)."""

    compute_ns: int
    """Kernels only: what is published as latency without transfers."""
    with_transfer_ns: int
    """From the first byte copied to the device to the last one back in pinned host memory."""


@dataclass(slots=True)
class Loaded:
    """An engine on its device, as all of its lanes share it. ``graphs``: whether to use CUDA graphs."""

    library: Library
    cuda: Cuda
    log: Any
    record: EngineRecord
    name: str
    graphs: bool
    runtime: Any = None
    engine: Any = None
    tensors: tuple[EngineTensor, ...] = ()
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Buffer:
    """The same tensor on the device and in pinned memory, and a view of the latter."""

    device: int
    host: int
    array: np.ndarray


class Lane:
    """Made whole or not at all; ``close`` frees it. Raises BackendError wherever CUDA or TensorRT refuse."""

    def __init__(self, loaded: Loaded, profile: int) -> None:
        self._loaded, self._cuda = loaded, loaded.cuda
        self._shapes: _Shapes | None = None
        self._context: Any = None
        self._buffers: dict[str, _Buffer] = {}
        self._graph: Any = None
        with ExitStack() as stack:
            self._stream = self._cuda.stream()
            stack.push(_freeing(self._cuda.destroy_stream, self._stream))
            self._events = [self._event(stack) for _ in range(4)]
            stack.callback(self._drop_context)
            self._make_context(profile)
            # What belongs to the shapes of the last feed.
            self._bound = stack.enter_context(ExitStack())
            # Before anything is freed: the device may still work with it.
            stack.push(_freeing(self._cuda.synchronize, self._stream))
            self._owned = stack.pop_all()

    def infer(self, feed: Feed) -> list[np.ndarray]:
        """Outputs in the model's order; returns when the device is done."""
        self._prepare(feed)
        self._copy_in()
        self._compute()
        self._copy_out()
        self._cuda.synchronize(self._stream)
        return [self._buffers[t.name].array.copy() for t in self._loaded.tensors if not t.is_input]

    def timed(self, feed: Feed) -> Timing:
        """As ``infer``, with the time of each part instead of the outputs."""
        self._prepare(feed)
        started, copied_in, computed, copied_out = self._events
        self._cuda.record(started, self._stream)
        self._copy_in()
        self._cuda.record(copied_in, self._stream)
        self._compute()
        self._cuda.record(computed, self._stream)
        self._copy_out()
        self._cuda.record(copied_out, self._stream)
        self._cuda.synchronize(self._stream)
        return Timing(
            compute_ns=self._cuda.elapsed_ns(copied_in, computed),
            with_transfer_ns=self._cuda.elapsed_ns(started, copied_out),
        )

    def close(self) -> None:
        self._owned.close()

    def _event(self, stack: ExitStack) -> Any:
        event = self._cuda.event()
        stack.push(_freeing(self._cuda.destroy_event, event))
        return event

    # The context is held by ``self`` alone: a local would keep it, and its memory, for as long as the
    # traceback of an error raised beside it.

    def _make_context(self, profile: int) -> None:
        loaded = self._loaded
        if loaded.library.is_rtx:
            self._context = execution_context(loaded.library, loaded.engine, loaded.graphs)
        else:
            self._context = loaded.engine.create_execution_context()
        if self._context is None:
            raise self._refused("makes no execution context (too little device memory?)")
        if not self._context.set_optimization_profile_async(profile, int(self._stream)):
            raise self._refused(f"refuses optimization profile {profile}")
        self._cuda.synchronize(self._stream)

    def _drop_context(self) -> None:
        self._context = None

    # Once for each shape

    def _prepare(self, feed: Feed) -> None:
        """Put ``feed`` into pinned memory; where its shapes are new, give the context buffers for them."""
        inputs = [t for t in self._loaded.tensors if t.is_input]
        shapes = tuple(feed[t.name].shape for t in inputs)
        if shapes != self._shapes:
            self._unbind()
            try:
                self._bind({t.name: shape for t, shape in zip(inputs, shapes, strict=True)})
                self._fill(feed)
                self._first_run()
            except BaseException:
                self._give_up()
                raise
            self._shapes = shapes
        else:
            self._fill(feed)

    def _unbind(self) -> None:
        self._shapes, self._graph = None, None
        self._buffers.clear()
        self._bound.close()

    def _give_up(self) -> None:
        """Free what a failed set-up holds: others on this device may need it, and be able to go on."""
        with suppress(BackendError):
            self._cuda.synchronize(self._stream)
            self._unbind()

    def _bind(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise self._refused(f"refuses {list(shape)} for {name}")
        for tensor in self._loaded.tensors:
            shape = shapes.get(tensor.name) or tuple(self._context.get_tensor_shape(tensor.name))
            if any(d < 0 for d in shape):
                raise BackendError(
                    f"{self._loaded.name}: the shape of {tensor.name} depends on the input's values; "
                    "such an output cannot be given a buffer beforehand"
                )
            self._buffers[tensor.name] = self._allocate(tensor, shape)
            if not self._context.set_tensor_address(tensor.name, self._buffers[tensor.name].device):
                raise self._refused(f"refuses a buffer for {tensor.name}")

    def _allocate(self, tensor: EngineTensor, shape: tuple[int, ...]) -> _Buffer:
        # At least 1: CUDA answers a request for nothing with no address.
        room = max(math.prod(shape) * tensor.dtype.itemsize, 1)
        device = self._cuda.allocate(room)
        self._bound.push(_freeing(self._cuda.free, device))
        host = self._cuda.allocate_pinned(room)
        self._bound.push(_freeing(self._cuda.free_pinned, host))
        pinned = (ctypes.c_byte * room).from_address(host)
        return _Buffer(device, host, np.ndarray(shape, tensor.dtype, buffer=memoryview(pinned)))

    def _fill(self, feed: Feed) -> None:
        for tensor in self._loaded.tensors:
            if tensor.is_input:
                np.copyto(self._buffers[tensor.name].array, feed[tensor.name], casting="no")

    def _first_run(self) -> None:
        """Run once as it is: TensorRT finishes its set-up then, which no graph can hold; then capture."""
        self._copy_in()
        self._enqueue()
        self._cuda.synchronize(self._stream)
        if not self._loaded.graphs or self._loaded.library.is_rtx:
            return
        try:
            self._graph = self._captured()
        except BackendError as error:
            self._loaded.log.errors.clear()
            self._loaded.notes.append(f"no CUDA graph: {error}")

    def _captured(self) -> Any:
        """The engine's kernels as one launch. Raises BackendError where they cannot be captured."""
        self._cuda.begin_capture(self._stream)
        try:
            self._enqueue()
        except BackendError:
            with suppress(BackendError):  # the stream is unusable until its capture has ended
                self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
            raise
        graph = self._cuda.end_capture(self._stream)
        try:
            executable = self._cuda.instantiate(graph)
        finally:
            self._cuda.destroy_graph(graph)
        self._bound.push(_freeing(self._cuda.destroy_executable, executable))
        return executable

    # Once for each inference

    def _copy_in(self) -> None:
        for tensor in self._loaded.tensors:
            if tensor.is_input:
                buffer = self._buffers[tensor.name]
                self._cuda.to_device(buffer.device, buffer.host, buffer.array.nbytes, self._stream)

    def _copy_out(self) -> None:
        for tensor in self._loaded.tensors:
            if not tensor.is_input:
                buffer = self._buffers[tensor.name]
                self._cuda.to_host(buffer.host, buffer.device, buffer.array.nbytes, self._stream)

    def _compute(self) -> None:
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise self._refused("cannot run it")

    def _refused(self, what: str) -> BackendError:
        loaded = self._loaded
        return BackendError(f"{loaded.name}: {loaded.library.name} {what}: {loaded.log.cause()}")


_Exit = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], bool]


def _freeing(free: Callable[[Any], None], handle: Any) -> _Exit:
    """Frees ``handle`` on exit; where something failed before, that is the error to report, not this one."""

    def leave(
        kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            free(handle)
        except BackendError:
            if error is None:
                raise
        return False

    return leave
