"""Whether the samples at hand can decide about a floor, and how many would."""

from __future__ import annotations

import math

from planner.domain.quality import AccuracyFloor, Quality
from planner.quality.intervals import z_value


def undecided(quality: Quality, floor: AccuracyFloor) -> str | None:
    """One clause that says too few samples leave the floor open, and how many would do; None if decided.

    Open: the estimate holds the floor, the interval's pessimistic end does not.
    """
    needed = samples_needed(quality, floor)
    if floor.shortfall(quality) <= 0 or needed is None or needed <= quality.samples:
        return None
    return f"too few samples to decide: about {_rounded(needed):,} like these would do"


def samples_needed(quality: Quality, floor: AccuracyFloor) -> int | None:
    """About how many samples like these would show that the floor holds; None if none would.

    None: the estimate itself misses the floor or lies on it, so that more samples would rather show the
    opposite. From the equation n w^2 = z^2 (v + s w) that the intervals solve, w the distance of the
    pessimistic end from the estimate, s the stake: v, the variance of a sample, follows from the interval at
    hand, and n from the w that is left. Without any disagreement v is 0 and n is z^2 s / w, for accuracy
    3.8 / max_drop. Within a fifth of what the interval itself would take.
    """
    estimate, pessimistic = floor.distances(quality)
    left = -estimate
    if left <= 0:
        return None
    z2 = z_value(quality.confidence) ** 2
    width, stake = pessimistic - estimate, quality.stake
    variance = max(quality.samples * width**2 / z2 - stake * width, 0.0)
    return math.ceil(z2 * (variance + stake * left) / left**2)


def _rounded(count: int) -> int:
    """Up to two digits: it is an estimate."""
    unit: int = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // unit) * unit
