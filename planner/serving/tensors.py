"""Tensors as the Open Inference Protocol writes them: JSON lists, or raw bytes after the JSON.

Raw: little endian, row-major, without gaps; of BYTES each element's length as four bytes before it.
Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and
Triton's binary tensor data extension (docs/protocol/extension_binary_data.md of triton-inference-server).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(bool),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_LENGTH = 4


class TensorError(ValueError):
    """A tensor is not what it claims to be."""


def from_raw(raw: bytes | memoryview, datatype: str, shape: Sequence[int]) -> np.ndarray:
    """Raises TensorError where the bytes are not a tensor of this type and shape."""
    count = math.prod(shape)
    if datatype == BYTES:
        return _strings(bytes(raw), count).reshape(shape)
    dtype = DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise TensorError(f"{datatype}{list(shape)} is {count * dtype.itemsize} bytes, got {len(raw)}")
    found = np.frombuffer(raw, dtype)
    if datatype == "BOOL" and count and found.view(np.uint8).max() > 1:
        raise TensorError("a BOOL is a byte of 0 or 1")
    return found.reshape(shape)


def to_raw(array: np.ndarray, datatype: str) -> bytes:
    if datatype != BYTES:
        return np.ascontiguousarray(array, DTYPES[datatype]).tobytes()
    elements = [_encoded(element) for element in array.ravel()]
    return b"".join(len(e).to_bytes(_LENGTH, "little") + e for e in elements)


def from_json(data: Any, datatype: str, shape: Sequence[int]) -> np.ndarray:
    """Of a flat or nested list. Raises TensorError where it is not a tensor of this type and shape."""
    if not isinstance(data, list):
        raise TensorError("data must be a list")
    flat = _flat(data)
    if len(flat) != math.prod(shape):
        raise TensorError(f"shape {list(shape)} holds {math.prod(shape)} elements, data {len(flat)}")
    if datatype == BYTES:
        if not all(isinstance(element, str) for element in flat):
            raise TensorError("BYTES in JSON are strings")
        return np.array(flat, object).reshape(shape)
    kinds = (bool,) if datatype == "BOOL" else (int,) if "INT" in datatype else (int, float)
    if not all(type(element) in kinds for element in flat):
        raise TensorError(f"data holds elements that are not {datatype}")
    try:
        # OverflowError: out of the type's range; floats become infinite instead.
        with np.errstate(over="ignore"):
            found = np.array(flat, DTYPES[datatype])
    except (OverflowError, ValueError) as error:
        raise TensorError(f"data is not {datatype}: {error}") from None
    if found.dtype.kind not in "biu" and not np.isfinite(found.astype(np.float64)).all():
        raise TensorError(f"data holds numbers beyond {datatype}")
    return found.reshape(shape)


def to_json(array: np.ndarray, datatype: str) -> list[Any]:
    """Flat. Raises TensorError where JSON cannot say it: infinities, not-a-number, bytes that are no text."""
    if datatype == BYTES:
        try:
            return [_encoded(element).decode() for element in array.ravel()]
        except UnicodeDecodeError:
            raise TensorError("its bytes are no text") from None
    if array.dtype.kind not in "biu":
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise TensorError("it holds infinities or not-a-number")
    listed: list[Any] = array.ravel().tolist()
    return listed


def _flat(data: list[Any]) -> list[Any]:
    while any(type(element) is list for element in data):
        if not all(type(element) is list for element in data):
            raise TensorError("data is nested unevenly")
        if len({len(element) for element in data}) > 1:
            raise TensorError("data is nested unevenly")
        data = [inner for element in data for inner in element]
    return data


def _strings(raw: bytes, count: int) -> np.ndarray:
    found: list[str] = []
    at = 0
    while at < len(raw) and len(found) < count:
        length = int.from_bytes(raw[at : at + _LENGTH], "little")
        element = raw[at + _LENGTH : at + _LENGTH + length]
        if len(element) != length or at + _LENGTH > len(raw):
            raise TensorError("BYTES end within an element")
        try:
            found.append(element.decode())
        except UnicodeDecodeError:
            raise TensorError("BYTES must be UTF-8 text") from None
        at += _LENGTH + length
    if len(found) != count or at != len(raw):
        raise TensorError(f"BYTES hold {len(found)} elements or more bytes than that, expected {count}")
    return np.array(found, object)


def _encoded(element: Any) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()
