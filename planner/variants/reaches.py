"""Where a symmetric grid ends: the magnitude that its largest value stands for, by any of several methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from planner.variants.calibration import METHODS, Histogram, Range
from planner.variants.qdq import E4M3, INT8, Grid

Reach = Callable[[Histogram], float]

_SHARES = np.linspace(1.0, 0.02, 99)


def mirrored(histogram: Histogram) -> Histogram:
    """As if every value were there with either sign, so that a range over it is symmetric."""
    widest = full_reach(histogram)
    return Histogram(-widest, widest, histogram.reach, histogram.counts + histogram.counts[::-1])


def full_reach(histogram: Histogram) -> float:
    """The largest magnitude seen."""
    return max(-histogram.low, histogram.high)


def best_reach(histogram: Histogram, grid: Grid) -> float:
    """The magnitude at which to clip for the least mean squared error on ``grid``.

    As ``calibration.best_range``, with both ends equally far from 0, and the step of a float grid that of
    the binade that a value lies in.
    """
    widest = full_reach(histogram)
    occupied = histogram.counts > 0
    magnitudes, counts = np.abs(histogram.centres()[occupied]), histogram.counts[occupied]
    if not widest:
        return widest

    def error(reach: float) -> float:
        beyond = np.maximum(magnitudes - reach, 0)
        scale = reach / grid.limit
        rounding = (grid.steps(np.minimum(magnitudes, reach) / scale) * scale) ** 2 / 12
        return float(np.where(beyond == 0, rounding, beyond**2) @ counts)

    return float(min((widest * s for s in _SHARES), key=error))


def _reaches(grid: Grid) -> dict[str, Reach]:
    def by_range(method: Callable[[Histogram], Range]) -> Reach:
        return lambda histogram: method(mirrored(histogram))[1]

    return {name: by_range(method) for name, method in METHODS.items()} | {
        "MSE": lambda histogram: best_reach(histogram, grid)
    }


REACHES: Mapping[Grid, Mapping[str, Reach]] = {
    INT8: _reaches(INT8),
    # Entropy compares equal steps, which a float grid does not have.
    E4M3: {name: reach for name, reach in _reaches(E4M3).items() if name != "entropy"},
}
"""Methods by name, from the simplest on."""
