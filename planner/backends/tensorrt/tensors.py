"""An engine's inputs and outputs, and the feeds that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from planner.backends.base import Feed
from planner.backends.tensorrt.record import EngineRecord
from planner.domain.model import BoundInput
from planner.errors import BackendError

# TensorRT's own mapping to NumPy knows none of the types that ml_dtypes brings.
_DTYPES = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP8": np.dtype(ml_dtypes.float8_e4m3fn),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """``dtype`` is NumPy's, or one of ml_dtypes."""

    name: str
    dtype: np.dtype[Any]
    is_input: bool


def tensors_of(trt: Any, engine: Any, record: EngineRecord, name: str) -> tuple[EngineTensor, ...]:
    """Inputs, then outputs in the model's order. Raises BackendError where the host cannot hold one."""
    found = {}
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(tensor).name
        if kind not in _DTYPES:
            # Two values to a byte: no array of the host is laid out so.
            raise BackendError(
                f"{name}: {tensor} is {kind}, which has no type on the host; cast it inside the model"
            )
        is_input = engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT
        found[tensor] = EngineTensor(tensor, _DTYPES[kind], is_input)
    wanted = [i.name for i in record.order.inputs] + list(record.outputs)
    if found.keys() != set(wanted):
        raise BackendError(
            f"{name}: it has tensors {', '.join(found)}, its record {', '.join(wanted)}; build it again"
        )
    return tuple(found[tensor] for tensor in wanted)


def check_feed(inputs: Sequence[BoundInput], tensors: Sequence[EngineTensor], feed: Feed, name: str) -> int:
    """The batch size of ``feed``; 1 for a model without a batch axis. Raises BackendError where it does
    not fit: TensorRT would read whatever bytes are there."""
    dtypes = {t.name: t.dtype for t in tensors if t.is_input}
    if feed.keys() != dtypes.keys():
        raise BackendError(f"{name}: takes {', '.join(dtypes)}, got {', '.join(feed) or 'nothing'}")
    batch_size = min((n for i in inputs for n in _batch_sizes(i, feed[i.name])), default=1)
    for wanted in inputs:
        array, shape = feed[wanted.name], wanted.shape_at(batch_size)
        if array.shape != shape or array.dtype != dtypes[wanted.name]:
            raise BackendError(
                f"{name}: input {wanted.name} is {array.dtype} {list(array.shape)}, "
                f"{dtypes[wanted.name]} {list(shape)} is wanted"
            )
    if batch_size < 1:
        raise BackendError(f"{name}: the batch is empty")
    return batch_size


def _batch_sizes(wanted: BoundInput, array: np.ndarray) -> tuple[int, ...]:
    """One, or none where ``wanted`` has no batch axis or ``array`` does not reach to it."""
    axis = wanted.batch_axis
    return () if axis is None else array.shape[axis : axis + 1]
