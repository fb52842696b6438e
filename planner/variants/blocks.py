"""4-bit integers in blocks along the inputs of a weight matrix, each block with its own scale.

Rounding to nearest; a block's scale is the one of a few, shrunk from that which reaches its largest value,
that leaves the least squared error. Source: the layout of blocks is that of ONNX's blocked
DequantizeLinear (opset 21) and of com.microsoft.MatMulNBits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.variants.qdq import bfloat16_above

Floats = NDArray[np.float32]

_Quantize = Callable[[Floats], tuple[NDArray[np.int8], Floats, NDArray[np.int8]]]

_SHRUNK = np.linspace(1.0, 0.7, 13, dtype=np.float32)
# Columns at once: what a block of weights takes while its scale is searched stays in the tens of MB.
_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True, slots=True)
class Blocks:
    """weight ≈ (codes - zeros) · scales: codes [inputs, outputs] int8, scales and zeros [blocks, outputs]."""

    codes: NDArray[np.int8]
    scales: Floats
    zeros: NDArray[np.int8]
    size: int

    def values(self) -> Floats:
        """What the codes stand for, [inputs, outputs]."""
        rows = len(self.codes)
        scales = np.repeat(self.scales, self.size, 0)[:rows]
        zeros = np.repeat(self.zeros, self.size, 0)[:rows]
        return np.asarray((self.codes - zeros) * scales, np.float32)


def symmetric(weight: Floats, size: int) -> Blocks:
    """Codes -8..7, zeros all 0; scales are values of bfloat16 (see ``qdq``)."""
    return _in_chunks(weight, size, _symmetric)


def asymmetric(weight: Floats, size: int) -> Blocks:
    """Codes 0..15 with a zero point 0..15 for each block: its range need not lie evenly around 0."""
    return _in_chunks(weight, size, _asymmetric)


def _in_chunks(weight: Floats, size: int, quantize: _Quantize) -> Blocks:
    inputs, outputs = weight.shape
    count = -(-inputs // size)
    codes = np.empty((inputs, outputs), np.int8)
    scales = np.empty((count, outputs), np.float32)
    zeros = np.empty((count, outputs), np.int8)
    step = max(_CHUNK_VALUES // (count * size), 1)
    for start in range(0, outputs, step):
        part = slice(start, start + step)
        columns = np.zeros((count * size, min(step, outputs - start)), np.float32)
        columns[:inputs] = weight[:, part]
        found, scales[:, part], zeros[:, part] = quantize(columns.reshape(count, size, -1))
        codes[:, part] = found.reshape(count * size, -1)[:inputs]
    return Blocks(codes, scales, zeros, size)


def _symmetric(blocks: Floats) -> tuple[NDArray[np.int8], Floats, NDArray[np.int8]]:
    """``blocks`` [count, size, outputs]. The grid is lopsided, so a block may reach -8 or 7, not 8."""
    full = np.maximum(-blocks.min(1) / 8, blocks.max(1) / 7)
    best = np.full(full.shape, np.inf, np.float32)
    scales = np.ones_like(full)
    for share in _SHRUNK:
        scale = bfloat16_above(full * share)
        codes = np.clip(np.rint(blocks / scale[:, None]), -8, 7)
        _keep_better(blocks, codes * scale[:, None], best, (scales, scale))
    codes = np.clip(np.rint(blocks / scales[:, None]), -8, 7).astype(np.int8)
    return codes, scales, np.zeros(scales.shape, np.int8)


def _asymmetric(blocks: Floats) -> tuple[NDArray[np.int8], Floats, NDArray[np.int8]]:
    low, high = np.minimum(blocks.min(1), 0), np.maximum(blocks.max(1), 0)
    best = np.full(low.shape, np.inf, np.float32)
    scales, zeros = np.ones_like(low), np.zeros_like(low)
    for share in _SHRUNK:
        scale = bfloat16_above((high - low) * share / 15)
        zero = np.clip(np.rint(-low * share / scale), 0, 15)
        codes = np.clip(np.rint(blocks / scale[:, None]) + zero[:, None], 0, 15)
        _keep_better(blocks, (codes - zero[:, None]) * scale[:, None], best, (scales, scale), (zeros, zero))
    codes = np.clip(np.rint(blocks / scales[:, None]) + zeros[:, None], 0, 15)
    return codes.astype(np.int8), scales, zeros.astype(np.int8)


def _keep_better(blocks: Floats, made: Floats, best: Floats, *pairs: tuple[Floats, Floats]) -> None:
    """Where ``made`` is closer than the best so far, takes each pair's second into its first, in place."""
    error = np.square(made - blocks).sum(1)
    better = error < best
    best[better] = error[better]
    for kept, candidate in pairs:
        kept[better] = candidate[better]


def packed(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pairs of codes 0..15 along the last axis (even in length) in one byte, the first in the low half."""
    unsigned = codes.astype(np.uint8)
    return np.asarray(unsigned[..., ::2] | (unsigned[..., 1::2] << 4))
