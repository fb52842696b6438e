"""Latencies as the rate rises: against the exact percentiles, and simulated against exact."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from planner.capacity import Replica, service_laws, sojourn_by_rate, sojourn_percentile_at
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import Arrivals, Slo, Workload
from planner.units import NS_PER_MS, NS_PER_S

RNG = np.random.default_rng(1)
LAWS = service_laws(
    {
        size: tuple(int(ns) for ns in RNG.gamma(20, ms * NS_PER_MS / 20, 500))
        for size, ms in ((1, 4), (8, 12))
    },
    8,
)
LIMIT_RPS = LAWS.limit_per_ns * NS_PER_S
WORKLOAD = Workload("w", 1000, Slo(99, 50 * NS_PER_MS), AccuracyFloor("accuracy", None, 0.1))
PERCENTILES = (50.0, 95.0, 99.0)
RATES = [LIMIT_RPS * share for share in (0.05, 0.4, 0.8)]


def test_it_is_the_exact_percentile() -> None:
    found = sojourn_by_rate(Replica(LAWS), WORKLOAD, RATES, PERCENTILES)
    assert not found.simulated
    for rate, times in zip(RATES, found.sojourn_ns, strict=True):
        for percentile, ns in zip(PERCENTILES, times, strict=True):
            asked = replace(WORKLOAD, slo=replace(WORKLOAD.slo, percentile=percentile))
            assert ns == pytest.approx(sojourn_percentile_at(Replica(LAWS), asked, rate), rel=0.01)


def test_short_simulations_come_near() -> None:
    """A delay of a nanosecond changes nothing but how it is found."""
    exact = sojourn_by_rate(Replica(LAWS), WORKLOAD, RATES, PERCENTILES)
    near = sojourn_by_rate(Replica(LAWS, queue_delay_ns=1), WORKLOAD, RATES, PERCENTILES)
    assert near.simulated
    for a, b in zip(exact.sojourn_ns, near.sojourn_ns, strict=True):
        assert b == pytest.approx(a, rel=0.1)


def test_bursts_take_longer() -> None:
    bursty = replace(WORKLOAD, arrivals=Arrivals(cv=3))
    found = sojourn_by_rate(Replica(LAWS), bursty, [LIMIT_RPS * 0.5], [99])
    assert (
        found.sojourn_ns[0][0]
        > 1.2 * sojourn_by_rate(Replica(LAWS), WORKLOAD, [LIMIT_RPS * 0.5], [99]).sojourn_ns[0][0]
    )


@pytest.mark.parametrize("arrivals", [Arrivals(), Arrivals(cv=2)])
def test_nothing_is_an_unloaded_replica_and_too_much_never_ends(arrivals: Arrivals) -> None:
    asked = replace(WORKLOAD, arrivals=arrivals)
    found = sojourn_by_rate(Replica(LAWS), asked, [0.0, LIMIT_RPS * 1.01], PERCENTILES)
    assert found.sojourn_ns[0][2] == sorted(LAWS.samples_ns[0])[math.ceil(0.99 * 500) - 1]
    assert found.sojourn_ns[1] == (math.inf,) * 3


def test_what_is_far_above_the_budget_is_out_of_sight() -> None:
    found = sojourn_by_rate(Replica(LAWS), WORKLOAD, [LIMIT_RPS * 0.999], PERCENTILES)
    assert found.sojourn_ns[0][2] == math.inf
