"""How labels pass through a Reshape: which axes of the source make up which axes of the result."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from planner.variants.pruning.labels import Labels
from planner.variants.pruning.shapes import Dim

Block = tuple[list[int], list[int]]
"""Axes of the source and axes of the result that hold the same elements in the same order."""


def blocks(source: Sequence[Dim], result: Sequence[Dim]) -> list[Block]:
    """Independent blocks of axes, matched from both ends; what cannot be matched is in none.

    Sizes must agree, or both be the same unknown. Example: (b, s, 384) to (b, s, 12, 32) gives
    (0)-(0), (1)-(1), (2)-(2, 3).
    """
    front = _from_the_front(source, result)
    i = max((a for block in front for a in block[0]), default=-1) + 1
    j = max((a for block in front for a in block[1]), default=-1) + 1
    rest, made = source[i:][::-1], result[j:][::-1]
    back = [
        ([len(source) - 1 - a for a in src][::-1], [len(result) - 1 - a for a in dst][::-1])
        for src, dst in _from_the_front(rest, made)
    ]
    return front + back[::-1]


def _from_the_front(source: Sequence[Dim], result: Sequence[Dim]) -> list[Block]:
    found: list[Block] = []
    i = j = 0
    while i < len(source) and j < len(result):
        end = _block_end(source, result, i, j)
        if end is None:
            return found
        found.append((list(range(i, end[0])), list(range(j, end[1]))))
        i, j = end
    if found and all(d == 1 for d in (*source[i:], *result[j:])):
        found[-1][0].extend(range(i, len(source)))
        found[-1][1].extend(range(j, len(result)))
    return found


def _block_end(source: Sequence[Dim], result: Sequence[Dim], i: int, j: int) -> tuple[int, int] | None:
    """Where the shortest block that starts at axes ``i`` and ``j`` ends."""
    if source[i] == result[j]:
        return i + 1, j + 1
    end_i, end_j = i + 1, j + 1
    while True:
        src, dst = source[i:end_i], result[j:end_j]
        if not all(isinstance(d, int) for d in (*src, *dst)):
            return None
        have, want = prod(int(d) for d in src), prod(int(d) for d in dst)
        if have == want:
            return end_i, end_j
        if have < want:
            end_i += 1
        else:
            end_j += 1
        if end_i > len(source) or end_j > len(result):
            return None


def merge(axes: Sequence[Labels], kept: int) -> Labels:
    """Labels of the one axis that ``axes`` are flattened into, where only ``axes[kept]`` is labelled."""
    shape = [len(a) for a in axes]
    along = [1] * len(shape)
    along[kept] = -1
    return np.broadcast_to(axes[kept].reshape(along), shape).reshape(-1)


def split(flat: Labels, sizes: Sequence[int], chosen: int) -> tuple[Labels, Labels]:
    """Labels along axis ``chosen`` of ``flat`` cut into ``sizes``, and [k, n] rows that must equal them."""
    rows = np.moveaxis(flat.reshape(sizes), chosen, -1).reshape(-1, sizes[chosen])
    return rows[0], rows


def constant_axis(flat: Labels, sizes: Sequence[int]) -> int | None:
    """The longest axis of ``flat`` cut into ``sizes`` along which alone the labels vary, if there is one."""
    fit = [k for k, d in enumerate(sizes) if d > 1 and _varies_only_along(flat, sizes, k)]
    return max(fit, key=lambda k: sizes[k], default=None)


def _varies_only_along(flat: Labels, sizes: Sequence[int], k: int) -> bool:
    first, rows = split(flat, sizes, k)
    return bool((rows == first).all())
