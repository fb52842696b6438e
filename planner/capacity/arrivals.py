"""When requests come to one replica: a random part of a workload's requests.

Each request goes to a replica with a probability of its share, whatever the others do. Of Poisson arrivals
that leaves Poisson arrivals. Of gamma arrivals every G-th is kept, with G geometric, so that the time between
two that are kept is a sum of G gammas, which is gamma again: the thinned stream is drawn itself, not
approximated. The same skips pick requests of a trace, from a random one on, in a circle.

The smaller the share, the more the rest looks like Poisson: its squared coefficient of variation is
1 + share (cv^2 - 1). How small it is depends on the rate that the replica gets, of that of all requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from planner.capacity.service import Array
from planner.domain.workload import Arrivals, Workload


@dataclass(frozen=True, slots=True)
class Stream:
    """All requests of a workload. ``rates_rps``: at which rates they come, in one period or another."""

    arrivals: Arrivals
    rates_rps: tuple[float, ...]

    def share(self, rate_rps: float) -> float:
        """The share of a replica that gets ``rate_rps``: of those that are possible, the one that is harder.

        Where arrivals are burstier than Poisson that is the largest: the part of the lowest rate that has as
        much to give. Otherwise it is the smallest.
        """
        if not self.bursty:
            return min(rate_rps / max(self.rates_rps), 1.0)
        return rate_rps / min((rate for rate in self.rates_rps if rate >= rate_rps), default=rate_rps)

    @property
    def bursty(self) -> bool:
        return self.variance > 1.0

    @property
    def variance(self) -> float:
        """Of the times between requests, by the square of their mean: 1 for Poisson arrivals."""
        return _variance(self.arrivals)


@lru_cache(maxsize=64)
def _variance(arrivals: Arrivals) -> float:
    if not arrivals.trace:
        return arrivals.cv**2
    gaps = np.diff(_times(arrivals))
    return float(gaps.var() / gaps.mean() ** 2)


@lru_cache(maxsize=8)
def _times(arrivals: Arrivals) -> Array:
    """Of a trace."""
    return np.asarray(arrivals.trace)


def stream_of(workload: Workload) -> Stream:
    rates = workload.rates_rps or (workload.rate_rps,)
    return Stream(workload.arrivals, tuple(sorted({rate for rate in rates if rate > 0})))


def arrival_times(
    arrivals: Arrivals, share: float, rate: float, shape: tuple[int, int], rng: np.random.Generator
) -> Array:
    """(rows, requests) times at which a replica with ``share`` of the requests, and ``rate``, gets its own.

    In the unit of time that the rate is per. Each row is independent of the others.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share is above 0 and at most 1, got {share}")
    if arrivals.trace:
        return _replayed(_times(arrivals), share, shape, rng) * (share / rate)
    if arrivals.poisson:
        return np.asarray(rng.exponential(1 / rate, shape).cumsum(axis=1))
    shape_of_gap = arrivals.cv**-2
    gaps = rng.gamma(shape_of_gap * _skips(share, shape, rng), share / rate / shape_of_gap, shape)
    return np.asarray(gaps.cumsum(axis=1))


def _skips(share: float, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """How many requests on the next one is that is kept."""
    return np.ones(shape) if share == 1.0 else rng.geometric(share, shape).astype(np.float64)


def _replayed(trace: Array, share: float, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Times in mean gaps of the whole trace, which comes round after as many as it has requests."""
    first = rng.integers(0, len(trace), (shape[0], 1))
    place = first + _skips(share, shape, rng).astype(np.int64).cumsum(axis=1)
    around, at = np.divmod(place, len(trace))
    length = max(float(len(trace)), float(trace[-1]))
    return np.asarray(trace[at] + around * length - trace[first])
