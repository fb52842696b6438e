"""What limits cost, and what one device or variant alone would cost, against brute force."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import fleet_oracle
import pytest

from planner.domain.problem import Candidate, Demand, Problem, Quota, Solution
from planner.domain.reasons import BY_DEVICE, BY_VARIANT, Alternative, Cost
from planner.errors import InfeasibleError
from planner.optimize import alternatives, binding, saving, solve
from planner.optimize.limits import limits_of, one_wider, without
from planner.optimize.solve import best_with

NEAR = 1e-5


def amount(problem: Problem) -> float | None:
    """Of the best fleet by brute force; None where that has more instances than it lists."""
    best = fleet_oracle.brute_force(problem)
    per_period: Counter[str] = Counter()
    for placement in solve(problem, break_ties=False).placements:
        per_period[placement.period] += placement.instances
    if max(per_period.values()) > fleet_oracle.most_instances(problem):
        return None
    assert best is not None
    return float(-best.amount if problem.objective == "accuracy" else best.amount)


def better(problem: Problem, before: float, after: float) -> float:
    return after - before if problem.objective == "accuracy" else before - after


def solvable(seeds: range) -> list[Problem]:
    found = []
    for seed in seeds:
        problem = fleet_oracle.problem(seed)
        try:
            solve(problem, diagnose=False, break_ties=False)
        except InfeasibleError:
            continue
        found.append(problem)
    return found


LIMITED = [p for p in solvable(range(150)) if limits_of(p) and not p.periods][:25]


def test_what_limits_cost_is_what_brute_force_says() -> None:
    bound = 0
    for problem in LIMITED:
        best = solve(problem)
        before = amount(problem)
        if before is None:
            continue
        for limit, told in zip(limits_of(problem), binding(problem, best), strict=True):
            assert told.proven
            after = amount(without(problem, limit))
            if after is not None:
                assert told.saves == pytest.approx(better(problem, before, after), abs=NEAR, rel=NEAR)
            if told.saves == 0:
                assert told.step_saves is None
                continue
            bound += 1
            wider = one_wider(problem, limit)
            assert (wider is None) == (told.step_saves is None)
            if wider is not None and (by_step := amount(wider[1])) is not None:
                assert told.step_saves == pytest.approx(better(problem, before, by_step), abs=NEAR, rel=NEAR)
                assert told.step_saves <= told.saves * (1 + NEAR) + NEAR
    assert bound >= 6


def by_parts(seed: int) -> Problem:
    problem = fleet_oracle.problem(seed)
    variants = (replace(c, variant=f"v{i % 2}") for i, c in enumerate(problem.candidates))
    return replace(problem, candidates=tuple(variants))


def is_of(told: Alternative, candidate: Candidate) -> bool:
    name = candidate.device if told.by == BY_DEVICE else candidate.variant
    return candidate.workload == told.workload and name == told.name


def reached(cost: Cost) -> float:
    return cost.usd_per_hour if cost.amount is None else cost.amount


PARTS = [by_parts(p) for p in range(300, 335)]


def test_one_device_or_variant_alone_costs_what_brute_force_says() -> None:
    ruled_out = weighed = 0
    for asked in PARTS:
        try:
            best = solve(asked, diagnose=False)
        except InfeasibleError:
            continue
        for told in alternatives(asked, best):
            mine = tuple(c for c in asked.candidates if c.workload != told.workload or is_of(told, c))
            alone = replace(asked, candidates=mine)
            if told.alone is None:
                ruled_out += 1
                assert told.some is not None or told.reason
                assert fleet_oracle.brute_force(alone) is None
            elif (expected := amount(alone)) is not None:
                weighed += 1
                assert reached(told.alone) == pytest.approx(expected, abs=NEAR, rel=NEAR)
            ids = {c.id for c in asked.candidates if is_of(told, c)}
            assert told.used == any(i in ids for p in best.placements for i, _ in p.pattern.replicas)
            assert told.used == (told.reason == "")
    assert ruled_out >= 5 and weighed >= 20


def test_some_of_a_device_costs_what_brute_force_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing but fleets with an instance of it count."""
    plain, weighed = fleet_oracle.holds, 0
    for asked in PARTS:
        if asked.periods or asked.objective in ("accuracy", "latency"):
            continue
        try:
            best = solve(asked, diagnose=False)
        except InfeasibleError:
            continue
        for told in alternatives(asked, best):
            ids = {c.id for c in asked.candidates if is_of(told, c)}

            def holds(p: Problem, t: int, running: Any, ids: set[str] = ids) -> Any:
                some = any(i in ids for instance in running for i, _ in instance.replicas)
                return plain(p, t, running) if some else None

            monkeypatch.setattr(fleet_oracle, "holds", holds)
            expected = fleet_oracle.brute_force(asked)
            monkeypatch.setattr(fleet_oracle, "holds", plain)
            if told.some is None:
                assert expected is None
                continue
            assert reached(told.some) >= amount_of(best) - NEAR
            if told.alone is not None:
                assert reached(told.some) <= reached(told.alone) + NEAR
            found = best_with(asked, [c for c in asked.candidates if is_of(told, c)], 60.0)
            assert found is not None
            fleet_oracle.check(asked, found)
            assert any(i in ids for p in found.placements for i, _ in p.pattern.replicas)
            if expected is not None and told.by == BY_DEVICE:
                weighed += 1
                assert reached(told.some) <= float(expected.amount) * (1 + NEAR) + NEAR
    assert weighed >= 8


def amount_of(best: Solution) -> float:
    return best.usd_per_hour if best.amount is None else best.amount


def test_some_of_it_beside_what_is_cheaper(candidate, offer) -> None:
    fast, slow = (
        candidate("fast", device="a", capacity_rps=10.0),
        candidate("slow", device="b", capacity_rps=4.0),
    )
    offers = (offer("a", 1.0, device="a"), offer("b", 1.0, device="b"))
    problem = Problem((Demand("w", 40.0),), (fast, slow), offers)
    told = {a.name: a for a in alternatives(problem, solve(problem)) if a.by == BY_DEVICE}
    assert told["b"].some == Cost(5.0, None, True)
    assert told["b"].alone == Cost(10.0, None, True)
    assert told["b"].reason == "costs 25.0% more"
    assert told["a"].some == told["a"].alone == Cost(4.0, None, True)


def test_what_was_not_measured_costs_at_least_what_it_could(candidate, offer) -> None:
    measured = candidate("slow", device="a", variant="fp32", capacity_rps=10.0)
    could = candidate("fast", device="b", variant="int8", capacity_rps=40.0)
    offers = (offer("a", 1.0, device="a"), offer("b", 5.0, device="b"))
    problem = Problem((Demand("w", 40.0),), (measured,), offers)
    told = {(a.by, a.name): a for a in alternatives(problem, solve(problem), [could])}
    assert told[BY_DEVICE, "a"].alone == Cost(4.0, None, True)
    assert not told[BY_DEVICE, "a"].at_least
    for key in ((BY_DEVICE, "b"), (BY_VARIANT, "int8")):
        assert told[key].some == told[key].alone == Cost(5.0, None, True)
        assert told[key].at_least
        assert told[key].reason == "costs 25.0% more, by the most that it could take; not measured in full"
    assert told[BY_VARIANT, "fp32"].used
    assert told[BY_VARIANT, "fp32"].reason == ""


def test_what_cannot_serve_alone_names_the_limits(candidate, offer) -> None:
    problem = Problem(
        (Demand("w", 20.0),),
        (candidate("one", device="a"), candidate("two", device="b")),
        (offer("a", 1.0, device="a"), offer("b", 5.0, device="b")),
        quotas=(Quota("few", 1, device="b"),),
    )
    told = {a.name: a for a in alternatives(problem, solve(problem)) if a.by == BY_DEVICE}
    assert told["b"].some == Cost(6.0, None, True)
    assert told["b"].alone is None
    none = replace(problem, quotas=(Quota("none", 0, device="b"),))
    told = {a.name: a for a in alternatives(none, solve(none)) if a.by == BY_DEVICE}
    assert told["b"].some is None
    assert told["b"].reason == (
        "no fleet meets these together: workload w: 20 rps; quota none: at most 0 instances"
    )


def test_rounding_is_no_saving(candidate, offer) -> None:
    problem = Problem((Demand("w", 20.0),), (candidate("one"),), (offer("a", 1.0),))
    best = solve(problem)
    assert saving(best, replace(best, usd_per_hour=2.0 - 1e-9)) == 0
    assert saving(best, replace(best, usd_per_hour=1.5)) == 0.5
    assert saving(best, replace(best, usd_per_hour=2.5)) == 0
    quality = replace(best, objective="accuracy", amount=0.5)
    assert saving(quality, replace(quality, amount=0.75)) == 0.25
