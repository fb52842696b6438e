"""How sure a gate is: all its rules together raise a false alarm in at most one run of a thousand.

``LEVEL`` is shared out evenly (Bonferroni) among the comparisons of a run, each one-sided: an engine's
latency and its accuracy are a comparison each. A comparison that may end early shares its part again, among
its looks.

Two builds of the same engine, or two launches of one file, differ by a few per cent, always the same way as
long as they run: where memory comes to lie decides. So a launch is one observation, however many inferences
it timed. Of a launch comes the logarithm of the ratio of the two engines' medians; with nothing changed the
two are exchangeable, and it is symmetric about 0. Its mean has Student's interval, which tails heavier than
the normal distribution's only make wider than it needs to be. Source of the latter: Efron, "Student's t-test
under symmetry conditions", JASA 64, 1969.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.001
"""Of a false alarm by any rule of a run."""
LOOKS = (6, 12)
"""Launches after which a comparison may end."""


def level_of_each(comparisons: int) -> float:
    return LEVEL / max(comparisons, 1)


@dataclass(frozen=True, slots=True)
class Slowdown:
    """``ratio`` of the new engine's latency to the baseline's; with the run's confidence it is at least
    ``low`` and, the other way, at most ``high``. ``slower``: ``low`` is above what is allowed."""

    ratio: float
    low: float
    high: float
    launches: int
    slower: bool


def slowdown(observe: Callable[[], float], allowed: float, level: float) -> Slowdown:
    """``observe`` gives the log ratio of a launch. Ends at the first of ``LOOKS`` that says *slower*, or at
    which the estimate is within ``allowed``: to stop there can hide a change, never make one up."""
    found: list[float] = []
    for look in LOOKS:
        while len(found) < look:
            found.append(observe())
        low, high = mean_interval(found, level / len(LOOKS))
        estimate = fmean(found)
        if low > math.log1p(allowed) or estimate <= math.log1p(allowed):
            break
    return Slowdown(math.exp(estimate), math.exp(low), math.exp(high), len(found), low > math.log1p(allowed))


def mean_interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """Student's interval of the mean, with ``level`` at *each* side."""
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, 1 - level)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half
