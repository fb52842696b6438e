"""Tensors to JSON and raw bytes and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
)

from planner.serving.tensors import BYTES, DTYPES, TensorError, from_json, from_raw, to_json, to_raw


@given(
    datatype=st.sampled_from(sorted(DTYPES)),
    shape=st.lists(st.integers(0, 3), max_size=3),
    seed=st.integers(0, 9),
)
def test_what_is_written_is_read_back(datatype: str, shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 2, shape).astype(DTYPES[datatype])
    raw = from_raw(to_raw(array, datatype), datatype, shape)
    listed = from_json(to_json(array, datatype), datatype, shape)
    for found in (raw, listed):
        assert found.dtype == array.dtype and found.shape == array.shape
        assert (found == array).all()


def test_types_are_called_as_triton_s_client_calls_them() -> None:
    known = {name: dtype for name, dtype in DTYPES.items() if name != "BF16"}
    assert {name: np_to_triton_dtype(dtype) for name, dtype in known.items()} == {n: n for n in known}


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=6))
def test_strings_are_those_of_triton_s_client(texts: list[str]) -> None:
    array = np.array(texts, object)
    raw = to_raw(array, BYTES)
    assert [b.decode() for b in deserialize_bytes_tensor(raw)] == texts
    packed = serialize_byte_tensor(array)
    theirs = packed.item() if packed.size else b""
    assert from_raw(theirs, BYTES, [len(texts)]).tolist() == texts
    assert from_json(to_json(array, BYTES), BYTES, [len(texts)]).tolist() == texts


def test_nested_lists_are_rows() -> None:
    assert from_json([[1, 2], [3, 4]], "INT32", [2, 2]).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "why"),
    [
        ("text", "FP32", [4], "must be a list"),
        ([1, 2], "FP32", [3], "holds 3 elements, data 2"),
        ([[1], [2, 3]], "FP32", [3], "unevenly"),
        ([[1], 2], "FP32", [2], "unevenly"),
        ([1.5], "INT32", [1], "not INT32"),
        ([300], "UINT8", [1], "not UINT8"),
        ([-1], "UINT64", [1], "not UINT64"),
        ([10**400], "FP32", [1], "not FP32"),
        ([1e300], "FP32", [1], "beyond FP32"),
        ([True], "INT32", [1], "not INT32"),
        ([1], "BOOL", [1], "not BOOL"),
        ([None], "FP32", [1], "not FP32"),
        ([{}], "FP32", [1], "not FP32"),
        ([1], BYTES, [1], "strings"),
    ],
)
def test_wrong_json_says_what_is_wrong(data: Any, datatype: str, shape: list[int], why: str) -> None:
    with pytest.raises(TensorError, match=why):
        from_json(data, datatype, shape)


@pytest.mark.parametrize(
    ("raw", "datatype", "shape", "why"),
    [
        (b"123", "FP32", [1], "is 4 bytes, got 3"),
        (b"\x02", "BOOL", [1], "0 or 1"),
        (b"\x05\0\0\0ab", BYTES, [1], "end within"),
        (b"\x01\0", BYTES, [1], "end within"),
        (b"\x01\0\0\0a" * 2, BYTES, [1], "expected 1"),
        (b"\x01\0\0\0\xff", BYTES, [1], "UTF-8"),
    ],
)
def test_wrong_bytes_say_what_is_wrong(raw: bytes, datatype: str, shape: list[int], why: str) -> None:
    with pytest.raises(TensorError, match=why):
        from_raw(raw, datatype, shape)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_json_has_no_infinities(value: float) -> None:
    with pytest.raises(TensorError, match="infinities"):
        to_json(np.array([value], np.float32), "FP32")
