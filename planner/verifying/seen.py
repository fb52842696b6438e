"""What independent runs of replicas show: percentiles, late requests, queues, with their intervals.

The percentile's interval assumes nothing about how sojourns are distributed, nor that those of one run are
independent, which they are far from: runs are. With F_i(x) the share of run i's requests that took x at most,
the mean of the F_i at the estimate q is within h of the percentile's level p by Student's t; q lies between
the quantiles at p - h and p + h. In the same way the share of late requests has its interval; where next to
none are seen, it ends no lower than what n independent requests could hide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from planner.capacity.service import Array

CONFIDENCE = 0.99
"""Two-sided, of every interval: a fleet that is exactly as good as asked fails in one of 200 cases."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Of some replicas together, or of one. Times in ns; infinite where the queue grows without end, and
    an interval's upper end also where there are too few requests for one.

    ``late``: the share of requests above the budget. ``over``: the part of the time in which a request was
    there that had been so for longer than the budget. ``found_mean``, ``found_p99``: how many requests were
    at the replica, in service included, as the next one came.
    """

    requests: int
    percentile_ns: float
    low_ns: float
    high_ns: float
    late: float
    late_low: float
    late_high: float
    over: float
    utilisation: float
    found_mean: float
    found_p99: float
    mean_batch_size: float


@dataclass(frozen=True, slots=True)
class Runs:
    """Raw: the first axis is the run, the second the replica. ``sojourn_ns``, ``found``: (runs, replicas,
    requests), NaN where a request is not judged; the others (runs, replicas), times in ns."""

    sojourn_ns: Array
    found: Array
    over_ns: Array
    judged_ns: Array
    busy_ns: Array
    lasted_ns: Array
    served: Array
    batches: Array

    def of(self, replica: int) -> Runs:
        only = slice(replica, replica + 1)
        return Runs(*(getattr(self, name)[:, only] for name in self.__slots__))


def seen_in(parts: list[Runs], percentile: float, budget_ns: float, stable: bool = True) -> Seen:
    """All replicas of ``parts`` taken together. ``stable``: none of their queues grows without end."""
    sojourn = np.concatenate([_by_run(part.sojourn_ns) for part in parts], axis=1)
    found = np.concatenate([_by_run(part.found).ravel() for part in parts])
    found = found[np.isfinite(found)]
    counts = np.isfinite(sojourn).sum(axis=1)
    total = int(counts.sum())
    if not total:
        return _nothing()
    ordered = np.sort(sojourn[np.isfinite(sojourn)])
    level = percentile / 100
    at = ranked(ordered, level)
    below = half_width((sojourn <= at).sum(axis=1), counts)
    late_by_run = (sojourn > budget_ns).sum(axis=1)
    late, wide = float(late_by_run.sum()) / total, half_width(late_by_run, counts)
    hidden = -math.log((1 - CONFIDENCE) / 2) / total
    return Seen(
        requests=total,
        percentile_ns=at if stable else math.inf,
        low_ns=ranked(ordered, level - below),
        high_ns=ranked(ordered, level + below) if stable else math.inf,
        late=late,
        late_low=max(late - wide, 0.0),
        late_high=min(max(late + wide, hidden), 1.0),
        over=_ratio(parts, "over_ns", "judged_ns"),
        utilisation=_ratio(parts, "busy_ns", "lasted_ns"),
        found_mean=float(found.mean()),
        found_p99=ranked(np.sort(found), 0.99),
        mean_batch_size=_ratio(parts, "served", "batches"),
    )


def half_width(hits: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> float:
    """Of the interval of hits over counts, each given by run: Student's, of a ratio of means."""
    runs = len(counts)
    share = hits.sum() / counts.sum()
    residuals = (hits - share * counts) / counts.mean()
    error = math.sqrt(float((residuals**2).sum()) / (runs - 1) / runs)
    return float(special.stdtrit(runs - 1, (1 + CONFIDENCE) / 2)) * error


def _by_run(values: Array) -> Array:
    return values.reshape(len(values), -1)


def ranked(ordered: Array, level: float) -> float:
    """The nearest rank; infinite where that is beyond the last."""
    rank = math.ceil(level * len(ordered) - 1e-9)
    return float(ordered[max(rank, 1) - 1]) if rank <= len(ordered) else math.inf


def _ratio(parts: list[Runs], over: str, under: str) -> float:
    return float(sum(getattr(p, over).sum() for p in parts) / sum(getattr(p, under).sum() for p in parts))


def _nothing() -> Seen:
    """Of replicas that get next to no requests."""
    return Seen(0, 0.0, 0.0, math.inf, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
