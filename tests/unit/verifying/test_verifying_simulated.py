"""The simulated fleet against the exact analysis, and its intervals against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from planner.capacity import Replica, capacity_of, service_laws
from planner.capacity.sojourn import percentile_ns
from planner.domain.workload import POISSON, Arrivals, Slo
from planner.verifying import UNCLEAR, Alike, simulated
from planner.verifying.seen import Runs, half_width, seen_in
from planner.verifying.verify import verdict_of

BUDGET_NS = 30_000_000
SLO = Slo(99, BUDGET_NS)


def samples(size: int, seed: int = 1) -> list[int]:
    rng = np.random.default_rng(seed)
    return (rng.lognormal(0, 0.15, 500) * 1e6 * (3 + size)).astype(int).tolist()


LAWS = service_laws({b: samples(b) for b in (1, 2, 4, 8)}, 8)
GREEDY = Replica(LAWS)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("load", [0.4, 0.9, 1.0])
def test_replicas_of_poisson_arrivals_are_as_the_exact_analysis_has_them(count: int, load: float) -> None:
    rate = load * capacity_of(LAWS, 99, BUDGET_NS).rate_rps
    found = simulated([Alike(GREEDY, count, count * rate)], POISSON, count * rate, SLO, 200_000, seed=3)
    exact_ns = percentile_ns(LAWS, rate, 99)
    missed = 0
    for seen in (found.whole, *found.alike, *found.replicas[0]):
        missed += not seen.low_ns <= exact_ns <= seen.high_ns
        assert seen.low_ns <= seen.percentile_ns <= seen.high_ns
        assert seen.late_low <= seen.late <= seen.late_high
    assert found.whole.low_ns <= exact_ns <= found.whole.high_ns
    assert missed <= 1, "of 99 %, many times"
    assert found.whole.high_ns / found.whole.low_ns < 1.15, "an interval that says something"


def test_intervals_hold_what_they_promise() -> None:
    """At 99 %, of 60 intervals one or two may miss."""
    rate = 0.8 * capacity_of(LAWS, 99, BUDGET_NS).rate_rps
    exact_ns = percentile_ns(LAWS, rate, 99)
    fleet = [Alike(GREEDY, 2, 2 * rate)]
    all_of = [simulated(fleet, POISSON, 2 * rate, SLO, 20_000, seed).whole for seed in range(60)]
    assert sum(not seen.low_ns <= exact_ns <= seen.high_ns for seen in all_of) <= 3


def test_requests_go_by_share_and_none_is_lost() -> None:
    rate = 300.0
    single = Replica(service_laws({1: samples(1)}, 1))
    fleet = [Alike(GREEDY, 3, rate * 0.75), Alike(single, 1, rate * 0.25)]
    found = simulated(fleet, POISSON, rate, SLO, 100_000, seed=1)
    batched, alone = found.alike
    assert batched.requests + alone.requests == found.whole.requests
    assert batched.requests / found.whole.requests == pytest.approx(0.75, abs=0.01)
    assert sum(seen.requests for seen in found.replicas[0]) == batched.requests
    assert alone.mean_batch_size == 1
    busy = rate * 0.25 * float(single.laws.mean_ns[0]) / 1e9
    assert alone.utilisation == pytest.approx(busy, rel=0.03)
    # Little: what is there on average is the rate times the mean time; an arrival of Poisson's sees averages.
    assert alone.found_mean == pytest.approx(busy + busy**2 * (1 + 0.15**2) / 2 / (1 - busy), rel=0.06)


def test_bursts_are_worse_the_larger_the_share() -> None:
    """A small share of a bursty stream is nearly Poisson: docs/capacity.md."""
    bursty = Arrivals(cv=3)
    rate = 0.6 * capacity_of(LAWS, 99, BUDGET_NS).rate_rps
    late = [
        simulated([Alike(GREEDY, n, n * rate)], bursty, n * rate, SLO, 100_000, seed=1).whole.late
        for n in (1, 4, 32)
    ]
    assert late[0] > 2 * late[1] > 4 * late[2]


def test_a_queue_that_grows_has_no_percentile() -> None:
    rate = 1.1 * GREEDY.limit_per_ns * 1e9
    seen = simulated([Alike(GREEDY, 1, rate)], POISSON, rate, SLO, 20_000, seed=1).whole
    assert math.isinf(seen.percentile_ns)
    assert seen.late_low > 0.5
    assert seen.utilisation == pytest.approx(1.0, abs=0.02)


def test_what_remembers_its_start_for_longer_than_runs_last_holds_for_none() -> None:
    single = Replica(service_laws({1: samples(1)}, 1))
    rate = 0.995 * single.limit_per_ns * 1e9
    loose = Slo(99, 100 * BUDGET_NS)
    short = simulated([Alike(single, 20, 20 * rate)], POISSON, 20 * rate, loose, 20_000, seed=1)
    assert not short.settled
    assert short.whole.late_high < 0.01
    assert verdict_of(short.whole, 0.01, short.settled) == UNCLEAR
    assert simulated([Alike(GREEDY, 20, 2000.0)], POISSON, 2000.0, SLO, 20_000, seed=1).settled


def test_time_over_the_slo_is_counted_once() -> None:
    """Two requests that are late at once, and one by itself, by hand: 0..10 late from 6, 2..10 from 8."""
    from planner.capacity import Served
    from planner.verifying.simulate import _over

    served = Served(
        arrived_ns=np.array([[0.0, 2.0, 20.0, 30.0]]),
        done_ns=np.array([[10.0, 10.0, 21.0, 37.0]]),
        batches=np.array([3]),
        busy_ns=np.array([20.0]),
    )
    judged = np.array([[True, True, True, True]])
    assert _over(served, judged, 6.0).tolist() == [4.0 + 1.0]


def test_the_same_seed_is_the_same_answer() -> None:
    fleet = [Alike(GREEDY, 2, 300.0)]
    one, same, other = (simulated(fleet, Arrivals(cv=2), 300.0, SLO, 5_000, seed) for seed in (7, 7, 8))
    assert one == same != other


def test_half_widths_are_of_runs_not_of_requests() -> None:
    """Runs that all show the same share leave nothing open; what varies between them does."""
    counts = np.full(16, 100)
    assert half_width(np.full(16, 10), counts) == 0
    assert half_width(np.array([0, 20] * 8), counts) > 0.07


def test_none_late_of_few_is_not_none_late() -> None:
    shape = (16, 1, 10)
    times = np.full(shape, 1.0)
    per_row = np.ones(shape[:2])
    few = Runs(times, times, per_row * 0, per_row, per_row, per_row, per_row, per_row)
    seen = seen_in([few], 99, 2.0)
    assert seen.late == 0
    assert seen.late_high == pytest.approx(1 - 0.005 ** (1 / 160), rel=0.02)
