"""How far a capacity may be off because the service times are a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from planner.capacity.search import capacity

RESAMPLES = 39
"""The second smallest and the second largest of 39 are one-sided bounds at 95 %: ranks 2 and 38 of 40."""


@dataclass(frozen=True, slots=True)
class CapacityInterval:
    """``low_rps`` is what to plan with: the capacity is at least that, at 95 % confidence."""

    low_rps: float
    rate_rps: float
    high_rps: float


def capacity_interval(
    service_ns: Mapping[int, Sequence[int]],
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
    samples = tuple((size, tuple(taken)) for size, taken in service_ns.items())
    return _interval(samples, max_batch_size, percentile, budget_ns, seed)


@lru_cache(maxsize=256)
def _interval(
    samples: tuple[tuple[int, tuple[int, ...]], ...],
    max_batch_size: int,
    percentile: float,
    budget_ns: int,
    seed: int,
) -> CapacityInterval:
    """Kept: what a plan is guided by is also what it reports."""
    rate = capacity(dict(samples), max_batch_size, percentile, budget_ns).rate_rps
    used = {size: np.asarray(taken, np.int64) for size, taken in samples}
    if rate <= 0 or all(len(s) < 2 for s in used.values()):
        return CapacityInterval(rate, rate, rate)
    rng = np.random.default_rng(seed)
    drawn = sorted(
        capacity(
            {b: _resampled(s, rng).tolist() for b, s in used.items()}, max_batch_size, percentile, budget_ns
        ).rate_rps
        for _ in range(RESAMPLES)
    )
    return CapacityInterval(min(drawn[1], rate), rate, max(drawn[-2], rate))


def _resampled(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = len(samples)
    block = max(1, round(count ** (1 / 3)))
    starts = rng.integers(0, count - block + 1, -(-count // block))
    return np.asarray(samples[(starts[:, None] + np.arange(block)).reshape(-1)[:count]])
