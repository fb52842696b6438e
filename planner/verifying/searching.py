"""The highest rate that holds, where each answer is a run and no two runs are alike."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from statistics import median

STEP = 1.15
TOLERANCE = 0.02
SEARCHES = 5
_FURTHEST = 24


def highest_rps(
    holds: Callable[[float], bool], start_rps: float, tolerance: float = TOLERANCE, step: float = STEP
) -> float:
    """A rate that held, while one at most ``tolerance`` above it did not; 0 where none near did.

    From ``start_rps`` by factors of ``step`` until the answer changes, then by halves between the two.
    """
    held = start_rps if holds(start_rps) else 0.0
    failed = 0.0 if held else start_rps
    for _ in range(_FURTHEST):
        if held and failed:
            break
        tried = held * step if held else failed / step
        if holds(tried):
            held = tried
        else:
            failed = tried
    if not held:
        return 0.0
    while failed and failed > held * (1 + tolerance):
        tried = sqrt(held * failed)
        if holds(tried):
            held = tried
        else:
            failed = tried
    return held


def median_of_searches(
    holds: Callable[[float], bool], start_rps: float, searches: int = SEARCHES
) -> tuple[float, tuple[float, ...]]:
    """The median, and what each search found; each begins where the median of those before it lies."""
    found: list[float] = []
    for _ in range(searches):
        begin = median(found) if found else start_rps
        found.append(highest_rps(holds, begin or start_rps))
    return median(found), tuple(found)
