"""Whether a configuration was as fast in the last turn as in the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

BLOCKS = 10
"""Neighbouring latencies resemble one another: each turn counts as so many medians of its parts."""
SIGNIFICANCE = 0.01
NOTABLE = 0.05
"""A smaller difference is nothing to a plan, however certain."""


def drift(first: Sequence[int], last: Sequence[int]) -> float | None:
    """How far the median of the ``last`` turn lies from that of the ``first``, as a share of the latter.

    0 where it is less than 5 %, or what noise does as well: by a Mann-Whitney test (two-sided, 1 %) on
    the medians of ten parts of each turn. None where a turn has too few samples for that.
    """
    if min(len(first), len(last)) < BLOCKS:
        return None
    found = median(last) / median(first) - 1
    if abs(found) <= NOTABLE or p_value(_medians(first), _medians(last)) >= SIGNIFICANCE:
        return 0.0
    return found


def p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """Of the Mann-Whitney test, two-sided: normal approximation, corrected for ties and continuity.

    Source: Conover, Practical Nonparametric Statistics, 3rd edition, 5.1.
    """
    n, m = len(one), len(other)
    pooled = sorted((*one, *other))
    first_rank: dict[float, int] = {}
    ties: dict[float, int] = {}
    for rank, value in enumerate(pooled, 1):
        first_rank.setdefault(value, rank)
        ties[value] = ties.get(value, 0) + 1
    ranks = sum(first_rank[value] + (ties[value] - 1) / 2 for value in one)
    u = ranks - n * (n + 1) / 2
    lost = sum(t**3 - t for t in ties.values()) / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - lost)
    if variance <= 0:
        return 1.0
    z = max(abs(u - n * m / 2) - 0.5, 0.0) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def _medians(turn: Sequence[int]) -> list[float]:
    bounds = [len(turn) * part // BLOCKS for part in range(BLOCKS + 1)]
    return [median(turn[start:end]) for start, end in pairwise(bounds)]
