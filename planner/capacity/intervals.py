"""How far a capacity may be off because the service times are a sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from planner.capacity.mixed import mixed_laws
from planner.capacity.search import capacity_of
from planner.capacity.service import Service, service_laws
from planner.domain.workload import SATURATED, Workload

_Samples = tuple[tuple[int, tuple[int, ...]], ...]

RESAMPLES = 39
"""The second smallest and the second largest of 39 are one-sided bounds at 95 %: ranks 2 and 38 of 40."""


@dataclass(frozen=True, slots=True)
class CapacityInterval:
    """``low_rps`` is what to plan with: the capacity is at least that, at 95 % confidence."""

    low_rps: float
    rate_rps: float
    high_rps: float


def capacity_interval(
    service_ns: Service,
    max_batch_size: int,
    percentile: float,
    budget_ns: int,
    seed: int = 0,
) -> CapacityInterval:
    """The capacity with its interval, by block bootstrap over the samples of each batch size.

    Samples are in the order in which they were taken. Blocks of about the cube root of their number keep what
    neighbours have in common. Batch sizes with one sample are bounds, not measurements: these stay.
    Source: Kuensch, Annals of Statistics 17, 1989 (moving blocks); Hall, Horowitz and Jing, Biometrika 82,
    1995 (their length).
    """
    return _interval((_kept(service_ns),), (1.0,), max_batch_size, percentile, budget_ns, seed)


def certainty(
    by_class: Sequence[Service], max_batch_size: int, workload: Workload, shares: Sequence[float] = (1.0,)
) -> tuple[float, float]:
    """Both ends of that interval as shares of the capacity: how far it may be off by chance of the samples.

    Those of one greedy engine and Poisson arrivals also stand for other arrivals, delays and instances, whose
    capacity varies with the service times about as much. Where queues are ignored, so is chance.
    ``by_class`` and ``shares`` as for ``mixed_laws``, of which the capacity is.
    """
    if workload.capacity == SATURATED:
        return 1.0, 1.0
    slo = workload.slo
    samples = tuple(_kept(service_ns) for service_ns in by_class)
    ends = _interval(samples, tuple(shares), max_batch_size, slo.percentile, slo.budget_ns, 0)
    if ends.rate_rps <= 0:
        return 0.0, 0.0
    return ends.low_rps / ends.rate_rps, ends.high_rps / ends.rate_rps


def _kept(service_ns: Service) -> _Samples:
    return tuple((size, tuple(taken)) for size, taken in service_ns.items())


@lru_cache(maxsize=256)
def _interval(
    samples: tuple[_Samples, ...],
    shares: tuple[float, ...],
    max_batch_size: int,
    percentile: float,
    budget_ns: int,
    seed: int,
) -> CapacityInterval:
    """Kept: what a plan is guided by is also what it reports."""

    def of(by_class: Iterable[Service]) -> float:
        laws = [service_laws(service_ns, max_batch_size) for service_ns in by_class]
        return capacity_of(mixed_laws(laws, shares), percentile, budget_ns).rate_rps

    rate = of(map(dict, samples))
    used = [{size: np.asarray(taken, np.int64) for size, taken in of_class} for of_class in samples]
    if rate <= 0 or all(len(s) < 2 for of_class in used for s in of_class.values()):
        return CapacityInterval(rate, rate, rate)
    rng = np.random.default_rng(seed)
    drawn = sorted(
        of([{b: _resampled(s, rng).tolist() for b, s in of_class.items()} for of_class in used])
        for _ in range(RESAMPLES)
    )
    return CapacityInterval(min(drawn[1], rate), rate, max(drawn[-2], rate))


def _resampled(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = len(samples)
    block = max(1, round(count ** (1 / 3)))
    starts = rng.integers(0, count - block + 1, -(-count // block))
    return np.asarray(samples[(starts[:, None] + np.arange(block)).reshape(-1)[:count]])
