"""The runner-up and the baseline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.domain.problem import Demand, Keep, Problem
from planner.optimize.explain import baseline, runner_up
from planner.optimize.solve import Answer, run_highs, solve

DEMAND = (Demand("w", 36.0),)


def test_the_runner_up_does_without_the_winner_on_its_instance_type_in_any_region(candidate, offer) -> None:
    candidates = (candidate("fast", capacity_rps=12.0), candidate("slow", capacity_rps=9.0, variant="fp32"))
    offers = (
        offer("m", 0.10),
        offer("m", 0.11, region="r2"),
        offer("n", 0.18),
    )
    problem = Problem(DEMAND, candidates, offers)
    solution = solve(problem)
    assert solution.usd_per_hour == pytest.approx(0.30)
    second = runner_up(problem, solution)
    assert (second.winner.candidate_id, second.winner.offer_id) == ("fast", "cloud/m/r1/on-demand")
    assert second.winner.usd_per_million_requests == pytest.approx(0.10 / (12 * 3600) * 1e6)
    assert second.solution is not None
    assert second.solution.usd_per_hour == pytest.approx(0.40)
    assert second.extra_usd_per_hour == pytest.approx(0.10)
    assert second.choice is not None
    assert (second.choice.candidate_id, second.choice.offer_id) == ("slow", "cloud/m/r1/on-demand")
    assert second.choice.replica_capacity_rps == 9.0
    assert second.reason == (
        "costs $0.1 more per hour (+33.3%): "
        "1 × slow on m (9 rps each, $3.086 per million when full), "
        "against 1 × fast on m (12 rps each, $2.315 per million when full)"
    )


def test_a_candidate_dominated_by_the_winner_may_stand_in_for_it(candidate, offer) -> None:
    # "twin" is no better than "best" anywhere, so the plan never sees it; the runner-up must.
    problem = Problem(DEMAND, (candidate("best"), candidate("twin")), (offer("m", 0.1),))
    second = runner_up(problem, solve(problem))
    assert second.choice is not None
    assert second.choice.candidate_id == "twin"
    assert second.extra_usd_per_hour == 0
    assert second.reason.startswith("costs the same per hour")


def test_no_other_plan(candidate, offer) -> None:
    problem = Problem(DEMAND, (candidate("only"),), (offer("m", 0.1),))
    second = runner_up(problem, solve(problem))
    assert second.solution is None
    assert second.choice is None
    assert second.extra_usd_per_hour is None
    assert second.reason.startswith(
        "without only on m there is no plan: workload w: no replica fits any of 1 offer"
    )
    assert "it is kept from running there" in second.reason


def test_a_runner_up_cheaper_than_an_unproven_plan_says_so(candidate, offer) -> None:
    problem = Problem(DEMAND, (candidate("one"),), (offer("cheap", 0.1), offer("dear", 0.5)))
    dear = solve(replace(problem, offers=problem.offers[1:]))
    assert "less per hour: the plan is not proven optimal" in runner_up(problem, dear).reason


def test_the_largest_flow_decides_over_all_regions_together(candidate, offer) -> None:
    candidates = (candidate("a"), candidate("b", device="cpu-b", capacity_rps=15.0))
    offers = (
        offer("m", 0.1),
        offer("m", 0.1, region="r2"),
        offer("n", 0.1, device="cpu-b"),
        offer("x", 9.0),
    )
    problem = Problem((Demand("w", 35.0),), candidates, offers, 1)
    # 10 + 10 rps of a in two regions against 15 rps of b.
    assert runner_up(problem, solve(problem)).winner.candidate_id == "a"


def test_the_baseline_is_the_same_problem_with_fewer_candidates(candidate, offer) -> None:
    plain = candidate("plain", variant="fp32", capacity_rps=4.0)
    problem = Problem(DEMAND, (candidate("int8"), plain), (offer("m", 0.1),))
    cost = baseline(problem, lambda c: c.variant == "fp32" and c.max_batch_size == 1)
    assert cost is not None
    assert cost.usd_per_hour == 0.9
    assert {i for p in cost.placements for i, _ in p.pattern.replicas} == {"plain"}
    assert baseline(problem, lambda c: c.variant == "int4") is None


def test_the_solver_and_the_time_limit_are_passed_on(candidate, offer) -> None:
    limits = []

    def watched(program, time_limit_s: float) -> Answer:
        limits.append(time_limit_s)
        return run_highs(program, time_limit_s)

    problem = Problem(DEMAND, (candidate("one"),), (offer("m", 0.1), offer("n", 0.2)))
    runner_up(problem, solve(problem), 7.0, solver=watched)
    baseline(problem, lambda c: True, 3.0, solver=watched)
    assert [round(limit) for limit in limits] == [7, 3]


def test_the_runner_up_of_another_objective_tells_what_it_reaches(candidate, offer) -> None:
    candidates = (candidate("fine", quality=0.9), candidate("coarse", quality=0.7, capacity_rps=40.0))
    problem = Problem(
        DEMAND, candidates, (offer("m", 0.1),), objective="accuracy", budget_usd_per_hour=0.5, min_zones=1
    )
    solution = solve(problem)
    second = runner_up(problem, solution)
    assert second.solution is not None
    assert second.solution.amount == pytest.approx(0.7)
    assert second.reason.startswith("reaches a mean quality of 0.7 instead of 0.9: 1 × coarse on m")


def test_the_runner_up_of_a_kept_plan_is_found_anew(candidate, offer) -> None:
    problem = Problem(DEMAND, (candidate("one"), candidate("two", capacity_rps=9.0)), (offer("m", 0.1),))
    before = solve(problem)
    kept = replace(problem, keep=Keep(before.placements, 0.5))
    second = runner_up(kept, solve(kept))
    assert second.winner.candidate_id == "one"
    assert second.choice is not None
    assert second.choice.candidate_id == "two"
