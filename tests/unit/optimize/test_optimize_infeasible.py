"""What blocks a plan is named, with the nearest thing that would do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from planner.domain.problem import Demand, Problem
from planner.errors import CatalogError, InfeasibleError, InputError
from planner.optimize import patterns
from planner.optimize.patterns import rejections
from planner.optimize.solve import solve

GIB = 1024**3
DEMAND = (Demand("w", 50.0),)


def refused(problem: Problem) -> str:
    with pytest.raises(InfeasibleError) as raised:
        solve(problem)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_no_offers(candidate) -> None:
    assert refused(Problem(DEMAND, (candidate("one"),), ())).startswith("no offers to choose from")


def test_no_candidates_for_one_of_the_workloads(candidate, offer) -> None:
    demands = (*DEMAND, Demand("other", 1.0))
    assert refused(Problem(demands, (candidate("one"),), (offer("a", 1),))).startswith(
        "workload other: no candidates"
    )


def test_only_candidates_without_capacity(candidate, offer) -> None:
    problem = Problem(DEMAND, (candidate("one", capacity_rps=0.0),), (offer("a", 1),))
    assert "all 1 candidates have a capacity of 0 rps" in refused(problem)


def test_devices_of_both_sides_are_named(candidate, offer) -> None:
    problem = Problem(
        DEMAND, (candidate("one", device="t4"),), (offer("a", 1), offer("b", 1, device="cpu-b"))
    )
    assert "candidates run on t4, offers sell cpu-a, cpu-b" in refused(problem)


@pytest.mark.parametrize(
    ("needs", "sells", "reason"),
    [
        (
            {"threads": 8},
            {"vcpus": 4},
            "nearest: one on cloud/a/r1/on-demand: it has 4 vCPUs, a replica needs 8",
        ),
        ({"memory_bytes": 3 * GIB}, {"memory_bytes": 2 * GIB}, "it has 2.0 GiB, a replica needs 3.0 GiB"),
        ({}, {"memory_bytes": None}, "its memory is unknown"),
        ({}, {"device_count": 0.5}, "it sells 0.5 of a cpu-a, a replica needs a whole one"),
    ],
)
def test_what_does_not_fit_is_named(needs, sells, reason, candidate, offer) -> None:
    assert reason in refused(Problem(DEMAND, (candidate("one", **needs),), (offer("a", 1, **sells),)))


def test_a_limit_too_low_names_the_rate_it_allows_and_the_limit_that_would_do(candidate, offer) -> None:
    problem = Problem(DEMAND, (candidate("one"),), (offer("a", 1), offer("b", 1)), 2)
    assert refused(problem) == (
        "no fleet meets these together: workload w: 50 rps; max_instances_per_offer 2; "
        "max_instances_per_offer 3 ($5/h) would do; so would workload w: 40 rps ($4/h)"
    )
    assert solve(replace(problem, max_instances_per_offer=3)).usd_per_hour == 5


def test_a_limit_too_low_for_all_workloads_together(candidate, offer) -> None:
    candidates = (candidate("x", workload="wx"), candidate("y", workload="wy"))
    demands = (Demand("wx", 20.0), Demand("wy", 30.0))
    problem = Problem(demands, candidates, (offer("a", 1),), 3)
    message = refused(problem)
    assert "together: workload wx: 20 rps; workload wy: 30 rps; max_instances_per_offer 3;" in message
    assert "max_instances_per_offer 5 ($5/h) would do" in message
    assert solve(replace(problem, max_instances_per_offer=5)).usd_per_hour == 5


@pytest.mark.parametrize("field", ["capacity_rps", "packed_capacity_rps"])
@pytest.mark.parametrize("rate", [math.nan, math.inf, -1.0])
def test_capacities_that_make_no_sense_name_the_candidate(field, rate, candidate, offer) -> None:
    problem = Problem(DEMAND, (candidate("good"), candidate("bad", **{field: rate})), (offer("a", 1),))
    assert refused(problem).startswith(f"candidate bad: {field} must be finite")


def test_packed_above_alone_is_refused(candidate, offer) -> None:
    problem = Problem(DEMAND, (candidate("bad", packed_capacity_rps=11.0),), (offer("a", 1),))
    assert "candidate bad: packed_capacity_rps 11 is above capacity_rps 10" in refused(problem)


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_prices_that_make_no_sense_name_the_offer(price, candidate, offer) -> None:
    with pytest.raises(CatalogError, match="cloud/a/r1/on-demand: the price"):
        solve(Problem(DEMAND, (candidate("one"),), (offer("a", price),)))


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_demand_is_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="workload w"):
        Demand("w", rate)


def test_a_problem_has_demands_and_names_nothing_twice(candidate, offer) -> None:
    one, host = candidate("one"), offer("a", 1)
    for problem in (
        lambda: Problem((), (one,), (host,)),
        lambda: Problem(DEMAND * 2, (one,), (host,)),
        lambda: Problem(DEMAND, (one, one), (host,)),
        lambda: Problem(DEMAND, (one,), (host, host)),
        lambda: Problem(DEMAND, (one,), (host,), 0),
    ):
        with pytest.raises(ValueError):
            problem()


def test_too_many_ways_to_share_an_instance_is_an_error_that_names_it(monkeypatch, candidate, offer) -> None:
    candidates = (candidate("x", workload="wx"), candidate("y", workload="wy"))
    problem = Problem((Demand("wx", 1.0), Demand("wy", 1.0)), candidates, (offer("big", 1, vcpus=64),))
    assert solve(problem).usd_per_hour == 1
    monkeypatch.setattr(patterns, "MOST_PACKINGS", 20)
    # Plain limits go to ``large``, at a gap that is told; others cannot.
    assert solve(problem).usd_per_hour >= 1
    with pytest.raises(InputError, match="cloud/big/r1/on-demand: there are more than 20 ways"):
        solve(replace(problem, min_zones=1))


def test_rejections_say_what_fell_out_and_why(candidate, offer) -> None:
    candidates = (candidate("one", threads=2), candidate("idle", capacity_rps=0.0))
    offers = (
        offer("fits", 1, vcpus=2),
        offer("narrow", 1, vcpus=1),
        offer("blank", 1, vcpus=2, memory_bytes=None),
        offer("alien", 1, device="gpu", device_count=1),
    )
    found = {(r.subject, r.reason) for r in rejections(Problem(DEMAND, candidates, offers))}
    assert found == {
        ("idle", "its capacity is 0 rps"),
        ("cloud/narrow/r1/on-demand", "it has 1 vCPUs, a replica needs 2"),
        ("cloud/blank/r1/on-demand", "its memory is unknown; add memory_bytes to the catalog"),
        ("gpu", "no candidate runs on it (1 offer)"),
    }
