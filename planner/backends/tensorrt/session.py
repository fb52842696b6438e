"""A loaded engine, run and timed on its device.

An *instance* is what serves one batch at a time; each has a *lane* for every optimization profile that it
was asked to run: an execution context with its own stream, buffers and CUDA graph. Contexts share the
engine's weights, so that more instances cost activations and buffers only.

Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from planner.backends.base import Feed
from planner.backends.tensorrt.cudart import Cuda
from planner.backends.tensorrt.lane import Lane, Loaded, Timing
from planner.backends.tensorrt.library import Library, recorder
from planner.backends.tensorrt.record import EngineRecord
from planner.backends.tensorrt.tensors import check_feed, tensors_of
from planner.errors import BackendError

__all__ = ["Instance", "TensorRtSession", "Timing", "opened"]


@dataclass(slots=True)
class Instance:
    """Serves one batch at a time; instances of one session may run in threads side by side."""

    loaded: Loaded
    lanes: dict[int, Lane] = field(default_factory=dict)

    def infer(self, feed: Feed) -> list[np.ndarray]:
        """Outputs in the model's order, copied to the host; returns when the device is done."""
        return self._lane(feed).infer(feed)

    def timed(self, feed: Feed) -> Timing:
        """One inference, timed on the device by CUDA events."""
        return self._lane(feed).timed(feed)

    def _lane(self, feed: Feed) -> Lane:
        """The lane of the optimization profile of ``feed``'s batch size, made when first asked for."""
        order = self.loaded.record.order
        batch_size = check_feed(order.inputs, self.loaded.tensors, feed, self.loaded.name)
        profile = order.profile_of(batch_size)
        if profile is None:
            raise BackendError(
                f"{self.loaded.name}: built for batches up to {order.batch_sizes[-1]}, got {batch_size}"
            )
        if profile not in self.lanes:
            self.lanes[profile] = Lane(self.loaded, profile)
        return self.lanes[profile]

    def close(self) -> None:
        with ExitStack() as stack:
            while self.lanes:
                # Also by those that an earlier one's failure would have skipped.
                stack.callback(self.lanes.popitem()[1].close)


class TensorRtSession:
    """``infer`` and ``timed`` run on the first of ``instances``."""

    def __init__(self, loaded: Loaded, instances: tuple[Instance, ...], free_bytes: int) -> None:
        self.instances = instances
        self._loaded = loaded
        self._free_bytes = free_bytes

    def infer(self, feed: Feed) -> list[np.ndarray]:
        return self.instances[0].infer(feed)

    def timed(self, feed: Feed) -> Timing:
        return self.instances[0].timed(feed)

    @property
    def notes(self) -> tuple[str, ...]:
        """What runs otherwise than asked: such as an engine that no CUDA graph could be captured of."""
        return tuple(dict.fromkeys(self._loaded.notes))

    def device_bytes(self) -> int:
        """How much less device memory is free than before the engine was loaded: weights, activations and
        buffers of all instances so far, not the CUDA context itself. Others' use of the device counts too."""
        return max(self._free_bytes - self._loaded.cuda.free_bytes(), 0)

    def use_device(self) -> None:
        """Every thread that runs an instance has to call this first."""
        self._loaded.cuda.use()


@contextmanager
def opened(
    library: Library, cuda: Cuda, plan: bytes, record: EngineRecord, name: str, instances: int, graphs: bool
) -> Iterator[TensorRtSession]:
    """Deserialize ``plan``, which has to be trusted, and free all of it at the end, also after errors.

    Raises BackendError where TensorRT refuses it or the device has too little memory.
    """
    free_bytes = cuda.free_bytes()
    loaded = Loaded(library, cuda, recorder(library.trt), record, name, graphs)
    made = tuple(Instance(loaded) for _ in range(instances))
    try:
        _deserialize(loaded, plan)
        yield TensorRtSession(loaded, made, free_bytes)
    except BaseException:
        _close(made, failing=True)
        raise
    else:
        _close(made, failing=False)
    finally:
        # In this order, and held by nothing else.
        loaded.engine = None
        loaded.runtime = None


def _deserialize(loaded: Loaded, plan: bytes) -> None:
    trt = loaded.library.trt
    loaded.runtime = trt.Runtime(loaded.log)
    loaded.engine = loaded.runtime.deserialize_cuda_engine(plan)
    if loaded.engine is None:
        raise BackendError(f"{loaded.name}: {loaded.library.name} cannot load it: {loaded.log.cause()}")
    loaded.tensors = tensors_of(trt, loaded.engine, loaded.record, loaded.name)


def _close(instances: tuple[Instance, ...], *, failing: bool) -> None:
    """Close all; a failure to free is the error to report only where there is no other."""
    first: BackendError | None = None
    for instance in instances:
        try:
            instance.close()
        except BackendError as error:
            first = first or error
    if first is not None and not failing:
        raise first
