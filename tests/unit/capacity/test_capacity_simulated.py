"""Capacities that are simulated: against exact ones, closed forms, and each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from planner.capacity import (
    Replica,
    Stream,
    analyse,
    at_most_rps,
    best_delay,
    capacity,
    saturated_rps,
    service_laws,
    simulated_capacity,
    sojourn_percentile_at,
    stream_of,
)
from planner.capacity.simulated import rough_capacity_rps
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import SATURATED, Arrivals, Batching, Slo, Workload

MS = 1_000_000
POISSON, BURSTY, REGULAR = Arrivals(), Arrivals(cv=2.0), Arrivals(cv=0.5)
PADDED = {1: [MS], 2: [round(1.2 * MS)], 4: [round(1.5 * MS), round(1.6 * MS)], 8: [2 * MS, round(2.1 * MS)]}
SPIKY = {1: [2 * MS] * 98 + [20 * MS] * 2, 8: [4 * MS] * 99 + [20 * MS]}


def workload(rate_rps: float = 1_000, latency_ms: float = 5, percentile: float = 99, **more) -> Workload:
    slo = Slo(percentile, round(latency_ms * MS))
    return Workload("w", rate_rps, slo, AccuracyFloor("accuracy", 0.5, None, "interval"), **more)


def all_of(arrivals: Arrivals) -> Stream:
    """Each replica gets everything."""
    return Stream(arrivals, (1e-9,))


@pytest.mark.parametrize(
    ("service", "size", "percentile", "budget_ms"),
    [(PADDED, 1, 99, 5), (PADDED, 8, 99, 5), (SPIKY, 8, 95, 25), (PADDED, 8, 99.9, 12), (PADDED, 2, 90, 40)],
)
def test_of_poisson_arrivals_it_is_the_exact_one(
    service: dict[int, list[int]], size: int, percentile: float, budget_ms: float
) -> None:
    exact = capacity(service, size, percentile, round(budget_ms * MS)).rate_rps
    laws = service_laws(service, size)
    found = simulated_capacity(Replica(laws), all_of(POISSON), percentile, round(budget_ms * MS))
    assert found.requests >= 1_000_000
    most = 0.98 * laws.limit_per_ns * 1e9
    assert 0.97 * min(exact, most) <= found.low_rps <= exact * 1.002
    assert found.low_rps <= found.rate_rps <= found.high_rps
    assert found.rate_rps == pytest.approx(min(exact, most), rel=0.015)
    assert found.sojourn_percentile_ns <= budget_ms * MS


def test_the_lower_end_is_right_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.capacity import simulated

    exact = capacity(PADDED, 4, 95, 4 * MS).rate_rps
    replica, above = Replica(service_laws(PADDED, 4)), 0
    for seed in range(20):
        monkeypatch.setattr(simulated, "SEED", seed)
        simulated._capacity.cache_clear()
        simulated._bracket.cache_clear()
        above += simulated_capacity(replica, all_of(POISSON), 95, 4 * MS, requests=40_000).low_rps > exact
    simulated._capacity.cache_clear()
    simulated._bracket.cache_clear()
    assert above <= 4, "1 of 20 is expected, 5 or more are so with a probability of 0.3 %"


@pytest.mark.parametrize("instances", [2, 4])
def test_of_several_instances_it_is_erlangs(instances: int) -> None:
    """M/M/k: the rate at which the closed form of P(T > budget) is 5 %, by bisection."""
    mean = float(MS)
    quantiles = np.round(-mean * np.log1p(-(np.arange(4_000) + 0.5) / 4_000)).astype(int).tolist()
    budget = 6 * MS

    def late(load: float) -> float:
        term = load**instances / math.factorial(instances) / (1 - load / instances)
        waits = term / (sum(load**n / math.factorial(n) for n in range(instances)) + term)
        ahead = (instances - load) / mean
        both = (math.exp(-ahead * budget) / mean - ahead * math.exp(-budget / mean)) / (1 / mean - ahead)
        return (1 - waits) * math.exp(-budget / mean) + waits * both

    low, high = 0.01, instances - 1e-6
    for _ in range(60):
        low, high = ((low + high) / 2, high) if late((low + high) / 2) <= 0.05 else (low, (low + high) / 2)
    found = simulated_capacity(
        Replica(service_laws({1: quantiles}, 1), instances), all_of(POISSON), 95, budget
    )
    assert 0.97 * low * 1e3 <= found.low_rps <= 1.002 * low * 1e3


@pytest.mark.parametrize(("size", "budget_ms"), [(1, 5), (8, 5)])
def test_burstier_arrivals_take_more(size: int, budget_ms: float) -> None:
    replica = Replica(service_laws(PADDED, size))
    by_cv = [
        simulated_capacity(replica, all_of(Arrivals(cv)), 99, round(budget_ms * MS), 100_000).rate_rps
        for cv in (3.0, 2.0, 1.0, 0.5)
    ]
    assert by_cv == sorted(by_cv)
    assert by_cv[1] < 0.97 * by_cv[2]


def test_a_smaller_share_of_bursty_arrivals_is_easier() -> None:
    replica = Replica(service_laws(PADDED, 8))
    rates = (1e-9, 3e3, 3e4, 3e6)
    found = [simulated_capacity(replica, Stream(BURSTY, (r,)), 99, 5 * MS, 100_000).rate_rps for r in rates]
    assert found == sorted(found)
    poisson = simulated_capacity(replica, all_of(POISSON), 99, 5 * MS, 100_000).rate_rps
    assert found[-1] == pytest.approx(poisson, rel=0.02)
    assert found[0] < 0.8 * poisson


def test_the_share_is_the_harder_one_of_those_possible() -> None:
    bursty, regular = Stream(BURSTY, (10.0, 100.0)), Stream(REGULAR, (10.0, 100.0))
    assert [bursty.share(r) for r in (1.0, 10.0, 20.0, 100.0, 300.0)] == [0.1, 1.0, 0.2, 1.0, 1.0]
    assert [regular.share(r) for r in (1.0, 10.0, 300.0)] == [0.01, 0.1, 1.0]
    assert stream_of(workload(50, rates_rps=(50.0, 0.0, 20.0))).rates_rps == (20.0, 50.0)
    assert Stream(Arrivals(trace=(0.0, 0.1, 0.2, 5.0)), (1.0,)).bursty
    assert not Stream(Arrivals(trace=(0.0, 1.0, 2.0, 3.1)), (1.0,)).bursty


def test_what_is_promised_holds_at_its_share_and_below() -> None:
    """Three replicas of a bursty workload that fills them: the percentile at any rate up to the capacity."""
    asked = workload(4_000, arrivals=BURSTY)
    replica = Replica(service_laws(PADDED, 8))
    low = analyse(replica, asked).low_rps
    assert low < asked.rate_rps
    for part in (1.0, 0.9, 0.5, 0.1):
        assert sojourn_percentile_at(replica, asked, low * part) <= asked.slo.budget_ns
    assert sojourn_percentile_at(replica, asked, low * 1.05) > asked.slo.budget_ns
    assert sojourn_percentile_at(replica, asked, 1e6) == math.inf
    assert sojourn_percentile_at(replica, asked, 0.0) == MS


def test_a_trace_of_poisson_arrivals_is_poisson_and_one_of_bursts_is_not() -> None:
    rng = np.random.default_rng(3)
    gaps = rng.exponential(1.0, 50_000)
    in_bursts = np.where(np.arange(50_000) % 10 == 0, gaps * 9.0, gaps * 0.1)
    replica = Replica(service_laws(PADDED, 8))
    exact = capacity(PADDED, 8, 99, 5 * MS).rate_rps
    for trace, expected in ((gaps, True), (in_bursts, False)):
        times = tuple((trace.cumsum() / trace.mean()).tolist())
        stream = Stream(Arrivals(trace=times), (1e-9,))
        found = simulated_capacity(replica, stream, 99, 5 * MS, 100_000).rate_rps
        assert (found > 0.95 * exact) == expected


def test_what_is_late_unloaded_takes_nothing() -> None:
    late = simulated_capacity(Replica(service_laws(SPIKY, 8)), all_of(BURSTY), 99, 15 * MS)
    assert (late.low_rps, late.rate_rps, late.sojourn_percentile_ns) == (0.0, 0.0, 20 * MS)
    waiting = Replica(service_laws(PADDED, 8), queue_delay_ns=5 * MS)
    assert simulated_capacity(waiting, all_of(POISSON), 99, 5 * MS).rate_rps == 0
    assert rough_capacity_rps(waiting, all_of(POISSON), 99, 5 * MS) == 0
    alone = Replica(service_laws(PADDED, 1), queue_delay_ns=5 * MS)
    assert simulated_capacity(alone, all_of(POISSON), 99, 5 * MS, 50_000).rate_rps > 0, "one is a full batch"


def test_exact_where_it_can_be() -> None:
    laws = service_laws(PADDED, 8)
    exact = capacity(PADDED, 8, 99, 5 * MS)
    found = analyse(Replica(laws), workload())
    assert found.low_rps == found.rate_rps == found.high_rps == exact.rate_rps
    assert found.lattice_step_ns > 0
    for other in (Replica(laws, 2), Replica(laws, 1, MS)):
        assert analyse(other, workload(), 50_000).lattice_step_ns == 0
    assert analyse(Replica(laws), workload(arrivals=Arrivals(cv=1.5)), 50_000).lattice_step_ns == 0


def test_saturated_is_the_best_batch_that_is_in_time() -> None:
    laws = service_laws({1: [MS], 4: [2 * MS], 8: [3 * MS, 9 * MS]}, 8)
    assert saturated_rps(laws, 1, 99, 9 * MS) == pytest.approx(2_000), "4 at once, though 8 are in time"
    assert saturated_rps(laws, 3, 99, 5 * MS) == pytest.approx(6_000)
    assert saturated_rps(laws, 1, 99, MS) == pytest.approx(1_000)
    assert saturated_rps(laws, 1, 99, MS - 1) == 0
    ignoring = workload(latency_ms=5, capacity=SATURATED, arrivals=BURSTY)
    found = analyse(Replica(laws), ignoring)
    assert (found.low_rps, found.sojourn_ns, found.mean_batch_size) == (pytest.approx(2_000), 2 * MS, 4)
    assert found.rate_rps > analyse(Replica(laws), replace(ignoring, capacity="queueing"), 50_000).rate_rps
    assert sojourn_percentile_at(Replica(laws), ignoring, 1e9) == 2 * MS


@pytest.mark.parametrize(
    ("service", "instances", "arrivals"),
    [(PADDED, 2, REGULAR), (SPIKY, 1, BURSTY), (SPIKY, 2, REGULAR), ({1: [3 * MS], 8: [40 * MS]}, 2, BURSTY)],
)
def test_bounds_are_not_below_capacities(
    service: dict[int, list[int]], instances: int, arrivals: Arrivals
) -> None:
    asked = workload(latency_ms=30, arrivals=arrivals)
    laws = service_laws(service, 8)
    high = simulated_capacity(Replica(laws, instances), stream_of(asked), 99, 30 * MS, 50_000).high_rps
    assert 0 < high <= at_most_rps(laws, instances, asked)
    assert at_most_rps(laws, instances, workload(latency_ms=0.5, arrivals=arrivals)) == 0
    exact = workload(latency_ms=30)
    assert at_most_rps(laws, 1, exact) == analyse(Replica(laws), exact).rate_rps


def test_the_best_delay_is_taken() -> None:
    laws = service_laws(PADDED, 8)
    asked = workload(batching=Batching(queue_delays_ns=(4 * MS, 0)))
    replica, found = best_delay(laws, 1, asked)
    assert replica.queue_delay_ns == 0 and found.lattice_step_ns > 0, "greedy is better here, and exact"
    alone, _ = best_delay(service_laws(PADDED, 1), 1, asked)
    assert alone.queue_delay_ns == 0, "nobody to wait for"


def test_wrong_arguments_are_named() -> None:
    replica = Replica(service_laws(PADDED, 8))
    with pytest.raises(ValueError, match="budget_ns must be above 0, got 0"):
        simulated_capacity(replica, all_of(BURSTY), 99, 0)
    with pytest.raises(ValueError, match="between 0 and 100, got 100"):
        simulated_capacity(replica, all_of(BURSTY), 100, MS)
    with pytest.raises(ValueError, match="must be above 0, got 0"):
        Arrivals(cv=0)
    with pytest.raises(ValueError, match="two different times"):
        Arrivals(trace=(0.0, 0.0))
