"""The smallest conflict against every subset, and the least change of a limit against every smaller one."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import fleet_oracle
import pytest

from planner.domain.problem import Demand, Problem, Quota
from planner.errors import InfeasibleError
from planner.optimize import LimitsConflictError, NoFleetError, solve
from planner.optimize.conflicts import smallest_conflict
from planner.optimize.limits import (
    BUDGET,
    KINDS,
    PER_OFFER,
    QUOTA,
    RATE,
    ZONES,
    Limit,
    in_words,
    limits_of,
    one_wider,
    rates_of,
    scaled,
    with_quota,
    without,
)
from planner.optimize.relaxing import OutOfTimeError


@pytest.mark.parametrize("seed", range(60))
def test_no_conflict_is_smaller(seed: int) -> None:
    """Against every subset, where the conflicts are all that contain one of some random sets."""
    r = random.Random(seed)
    elements = list(range(r.randint(1, 8)))
    cores = [frozenset(r.sample(elements, r.randint(1, len(elements)))) for _ in range(r.randint(1, 4))]

    def conflicts(kept: frozenset[int]) -> bool:
        return any(core <= kept for core in cores)

    found, certain = smallest_conflict(elements, conflicts)
    assert certain
    assert conflicts(frozenset(found))
    assert list(found) == sorted(found)
    assert not any(
        conflicts(frozenset(smaller)) for n in range(len(found)) for smaller in combinations(elements, n)
    )


def test_a_conflict_found_when_the_time_was_over_is_one() -> None:
    asked = 0

    def conflicts(kept: frozenset[int]) -> bool:
        nonlocal asked
        asked += 1
        if asked > 4:
            raise OutOfTimeError
        return {1, 5} <= kept

    found, certain = smallest_conflict(range(8), conflicts)
    assert not certain
    assert {1, 5} <= set(found) < set(range(8))


def has_plan(problem: Problem) -> bool:
    """By brute force."""
    return fleet_oracle.brute_force(problem) is not None


def tight(seed: int) -> Problem | None:
    """A small problem with limits that leave no plan, while every workload could be served; None: not so."""
    r = random.Random(seed)
    problem = fleet_oracle.problem(seed)
    if problem.objective != "usd" or any(d.classes for d in problem.demands) or problem.periods:
        return None
    problem = replace(
        problem,
        quotas=(Quota("all", r.randint(0, 2)), Quota("r1", r.randint(0, 3), "vcpus", region="r1")),
        max_instances_per_offer=r.choice([None, 1]),
        budget_usd_per_hour=r.choice([None, 0.2, 0.5]),
    )
    try:
        solve(problem, diagnose=False)
    except NoFleetError:
        return problem
    except InfeasibleError:
        return None
    return None


TIGHT = [problem for seed in range(900) if (problem := tight(seed)) is not None][:40]


def test_there_are_enough_problems_without_a_plan() -> None:
    assert len(TIGHT) == 40
    kinds = {limit.kind for problem in TIGHT for limit in limits_of(problem)}
    assert {BUDGET, QUOTA, PER_OFFER, KINDS, ZONES} <= kinds


def eased(problem: Problem, kept: frozenset[Limit]) -> Problem | None:
    """With no limits but those; None where no workload is left."""
    if not any(limit.kind == RATE for limit in kept):
        return None
    for limit in (*limits_of(problem), *rates_of(problem)):
        if limit not in kept:
            problem = without(problem, limit)
    asked = {d.workload for d in problem.demands}
    return replace(problem, candidates=tuple(c for c in problem.candidates if c.workload in asked))


@pytest.mark.parametrize("number", range(40))
def test_the_conflict_is_the_smallest_by_brute_force(number: int) -> None:
    problem = TIGHT[number]
    with pytest.raises(LimitsConflictError) as raised:
        solve(problem)
    conflict = raised.value.conflict
    assert "\n" not in str(raised.value)
    assert conflict.smallest
    elements = (*rates_of(problem), *limits_of(problem))
    core = frozenset(e for e in elements if in_words(problem, e) in conflict.limits)
    assert len(core) == len(conflict.limits)
    whole = eased(problem, core)
    assert whole is not None
    assert not has_plan(whole)
    for size in range(len(core)):
        for smaller in combinations(elements, size):
            less = eased(problem, frozenset(smaller))
            # What brute force does not find may need more instances than it lists.
            assert less is None or has_plan(less) or served(less), smaller


def served(problem: Problem) -> bool:
    try:
        fleet_oracle.check(problem, solve(problem, diagnose=False))
    except NoFleetError:
        return False
    return True


@pytest.mark.parametrize("number", range(40))
def test_changes_that_would_do_do_and_cost_what_they_say(number: int) -> None:
    problem = TIGHT[number]
    with pytest.raises(LimitsConflictError) as raised:
        solve(problem)
    relaxations = raised.value.conflict.relaxations
    assert relaxations is not None
    kinds = [r.becomes for r in relaxations]
    assert len(set(kinds)) == len(kinds)
    for relaxation in relaxations:
        changed, narrower = changed_to(problem, relaxation.becomes)
        found = solve(changed)
        fleet_oracle.check(changed, found)
        assert found.usd_per_hour == pytest.approx(relaxation.usd_per_hour)
        if narrower is not None:
            assert not has_plan(narrower)
    limits = [r.usd_per_hour for r in relaxations if not r.becomes.endswith("rps")]
    assert limits == sorted(limits)
    helped = {r.limit for r in relaxations}
    for limit in limits_of(problem):
        if in_words(problem, limit) not in helped:
            assert not has_plan(without(problem, limit)), limit


def changed_to(problem: Problem, becomes: str) -> tuple[Problem, Problem | None]:
    """The problem with that change, and with one a little smaller where all smaller ones are listed."""
    words = becomes.split()
    if words[0] == "quota":
        name, at_most = words[1].rstrip(":"), float(words[4])
        return with_quota(problem, name, at_most), with_quota(problem, name, at_most - 1)
    if words[0] == BUDGET:
        value = float(words[1])
        return replace(problem, budget_usd_per_hour=value), replace(problem, budget_usd_per_hour=value - 0.05)
    if words[0] in (PER_OFFER, KINDS):
        value = int(words[1])
        return replace(problem, **{words[0]: value}), replace(problem, **{words[0]: value - 1})
    if words[0] == ZONES:
        value = int(words[1])
        return replace(problem, min_zones=value), replace(problem, min_zones=value + 1)
    workload = words[1].rstrip(":")
    demand = next(d for d in problem.demands if d.workload == workload)
    if words[3:] == ["rps"]:
        return scaled(problem, workload, float(words[2]) / demand.rate_rps), None
    kind, value = words[2], words[3]
    changed = replace(demand, **{kind: value if kind == "redundancy" else float(value)})
    demands = tuple(changed if d is demand else d for d in problem.demands)
    return replace(problem, demands=demands), None


def test_a_wider_limit_is_one_unit_wider() -> None:
    problem = Problem(
        (Demand("w", 1.0, redundancy="zone", max_spot_share=0.5, min_mean_quality=0.9),),
        (),
        (),
        max_instances_per_offer=3,
        quotas=(Quota("q", 4),),
        budget_usd_per_hour=10.0,
        max_kinds=1,
        min_zones=1,
    )
    wider = {limit.kind: one_wider(problem, limit) for limit in limits_of(problem)}
    told = {kind: made and made[0] for kind, made in wider.items()}
    assert told == {
        "budget_usd_per_hour": "1 % more",
        "quota": "1 more instances",
        "max_instances_per_offer": "1 more",
        "max_kinds": "1 more",
        "min_zones": None,
        "redundancy": "an instance instead",
        "max_spot_share": "1 point more",
        "min_mean_quality": "0.001 less",
    }
    assert wider["max_kinds"] is not None
    assert wider["max_kinds"][1].max_kinds == 2
