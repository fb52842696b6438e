"""Intervals of percentiles that assume nothing about the distribution.

The k-th smallest of n samples is at or below the p-quantile with the probability that Bin(n, p) is at
least k.
Source: David and Nagaraja, Order Statistics, 3rd edition, 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache


def nearest_rank(ordered: Sequence[int], percentile: float) -> int:
    """The empirical percentile of samples in ascending order: the least that this share does not exceed."""
    return ordered[math.ceil(percentile / 100 * len(ordered)) - 1]


def percentile_interval(
    samples: Sequence[int], percentile: float, confidence: float = 0.95
) -> tuple[int, int] | None:
    """Ends of an interval that holds the percentile with at least ``confidence``, the rest split in two.

    None where there are too few samples for it: p99 takes 368 at 95 %.
    """
    ranks = _ranks(len(samples), percentile / 100, (1 - confidence) / 2)
    if ranks is None:
        return None
    ordered = sorted(samples)
    return ordered[ranks[0] - 1], ordered[ranks[1] - 1]


@lru_cache(maxsize=1024)
def _ranks(n: int, p: float, tail: float) -> tuple[int, int] | None:
    """Of the samples that are the interval's ends, counted from 1 in ascending order."""
    below = 0.0
    low = high = None
    for k in range(n + 1):
        # Here ``below`` is P(Bin(n, p) < k): that the k-th smallest lies above the quantile.
        if below <= tail and k >= 1:
            low = k
        if below >= 1 - tail and k >= 1:
            high = k
            break
        below += _probability(n, k, p)
    return None if low is None or high is None else (low, high)


def _probability(n: int, k: int, p: float) -> float:
    """P(Bin(n, p) = k)."""
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))
