"""Whether a configuration was as fast in the last turn as in the first."""

from __future__ import annotations

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
    if abs(found) <= NOTABLE:
        return 0.0
    # Takes a second to import, and most turns do not differ that much.
    from scipy.stats import mannwhitneyu

    test = mannwhitneyu(_medians(first), _medians(last), method="asymptotic")
    return found if test.pvalue < SIGNIFICANCE else 0.0


def _medians(turn: Sequence[int]) -> list[float]:
    bounds = [len(turn) * part // BLOCKS for part in range(BLOCKS + 1)]
    return [median(turn[start:end]) for start, end in pairwise(bounds)]
