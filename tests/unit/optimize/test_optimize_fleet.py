"""Whole fleets: the optimum against brute force, and every constraint where it binds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import fleet_oracle
import pytest

from planner.domain.offer import Offer
from planner.domain.problem import (
    Candidate,
    Demand,
    Keep,
    OfferFigures,
    Period,
    Problem,
    Quota,
    RequestClass,
    Solution,
)
from planner.errors import InfeasibleError
from planner.optimize import LimitsConflictError, rejections, solve
from planner.optimize.highs import run_highs
from planner.optimize.program import FEASIBLE, OPTIMAL, Answer, Program

PROBLEMS, AT_ONCE = 2_000, 100
NEAR = 1e-6


# --- against brute force -------------------------------------------------------------------------------


def agree(seed: int) -> bool:
    """Whether there is a fleet at all. Ties are broken, and compared, in every fifth problem."""
    problem = fleet_oracle.problem(seed)
    best = fleet_oracle.brute_force(problem)
    try:
        solution = solve(problem, break_ties=seed % 5 == 0, diagnose=seed % 10 == 0)
    except InfeasibleError:
        assert best is None
        return False
    found = fleet_oracle.check(problem, solution)
    assert solution.proven
    assert solution.gap == 0
    assert solution.usd_per_hour == pytest.approx(float(found.cost))
    if solution.amount is not None:
        sign = -1 if problem.objective == "accuracy" else 1
        assert solution.amount == pytest.approx(sign * float(found.amount))
        assert solution.amount_bound == solution.amount
    most = fleet_oracle.most_instances(problem)
    per_period = Counter[str]()
    for placement in solution.placements:
        per_period[placement.period] += placement.instances
    if best is None:
        # Brute force counts up to a number of instances only.
        assert max(per_period.values()) > most
        return True
    near = NEAR * max(1, abs(best.amount))
    assert found.amount <= best.amount + near
    if max(per_period.values(), default=0) <= most:
        assert abs(found.amount - best.amount) <= near
        assert found.cost == best.cost
        if seed % 5 == 0 and best.kinds is not None and problem.objective not in ("accuracy", "latency"):
            assert (found.kinds, found.instances) == (best.kinds, best.instances)
    return True


@pytest.mark.parametrize("start", range(0, PROBLEMS, AT_ONCE))
def test_the_optimum_is_that_of_brute_force(start: int) -> None:
    served = 0
    for seed in range(start, start + AT_ONCE):
        try:
            served += agree(seed)
        except BaseException as error:
            error.add_note(f"problem {seed}: {sorted(fleet_oracle.features(fleet_oracle.problem(seed)))}")
            raise
    assert served >= AT_ONCE * 0.4


def test_every_feature_is_in_a_tenth_of_the_problems() -> None:
    used = Counter[str]()
    for seed in range(PROBLEMS):
        used.update(fleet_oracle.features(fleet_oracle.problem(seed)))
    assert len(used) == 19
    assert min(used.values()) >= PROBLEMS / 10, used


def without(problem: Problem, feature: str) -> Problem | None:
    """The problem less one feature, None where that cannot be taken away."""

    def demands(**changes: Any) -> Problem:
        return replace(problem, demands=tuple(replace(d, **changes) for d in problem.demands))

    eased: dict[str, Callable[[], Problem]] = {
        "mean quality": lambda: demands(min_mean_quality=None),
        "spot share": lambda: demands(max_spot_share=1.0),
        "availability": lambda: replace(
            problem, figures=tuple(replace(f, availability=1.0) for f in problem.figures)
        ),
        "limit": lambda: replace(problem, max_instances_per_offer=None),
        "quota": lambda: replace(problem, quotas=()),
        "budget": lambda: replace(problem, budget_usd_per_hour=None),
        "kinds": lambda: replace(problem, max_kinds=None),
        "zones": lambda: replace(problem, min_zones=0),
        "survive an instance": lambda: demands(redundancy="none"),
        "survive a zone": lambda: demands(redundancy="none"),
        "classes by turns": lambda: replace(
            problem,
            candidates=tuple(
                replace(c, mixing="each", capacity_rps=sum(r for _, r in c.classes)) if c.classes else c
                for c in problem.candidates
            ),
        ),
    }
    return eased[feature]() if feature in eased else None


def test_limits_bind_in_a_good_share_of_the_problems() -> None:
    used, bind = Counter[str](), Counter[str]()
    for seed in range(250):
        problem = fleet_oracle.problem(seed)
        try:
            strict = solve(problem, break_ties=False, diagnose=False)
        except InfeasibleError:
            strict = None
        for feature in fleet_oracle.features(problem):
            eased = without(problem, feature)
            if eased is None:
                continue
            used[feature] += 1
            try:
                free = solve(eased, break_ties=False, diagnose=False)
            except InfeasibleError:
                continue
            bind[feature] += strict is None or worth(free) < worth(strict)
    assert len(used) == 11
    assert all(bind[feature] >= used[feature] / 20 > 1 for feature in used), (bind, used)


def worth(solution: Solution) -> tuple[float, float]:
    amount = solution.usd_per_hour if solution.amount is None else solution.amount
    return (-amount if solution.objective == "accuracy" else amount), solution.usd_per_hour


def served(first: int, last: int) -> list[tuple[Problem, Solution]]:
    found = []
    for problem in map(fleet_oracle.problem, range(first, last)):
        with suppress(InfeasibleError):
            found.append((problem, solve(problem, diagnose=False)))
    return found


def test_the_optimum_is_kept_as_the_present_plan() -> None:
    for problem, solution in served(0, 80):
        again = solve(replace(problem, keep=Keep(solution.placements, 0.0)))
        assert again.kept
        assert again.usd_per_hour == solution.usd_per_hour
        assert [replace(p, flow_rps=(), class_flow_rps=()) for p in again.placements] == [
            replace(p, flow_rps=(), class_flow_rps=()) for p in solution.placements
        ]


def test_the_plan_does_not_depend_on_the_order_of_its_inputs() -> None:
    shuffler = random.Random(1)

    def shuffled(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(shuffler.sample(values, len(values)))

    for problem, solution in served(100, 180):
        other = replace(
            problem,
            demands=shuffled(problem.demands),
            candidates=shuffled(problem.candidates),
            offers=shuffled(problem.offers),
            figures=shuffled(problem.figures),
        )
        assert solve(other).placements == solution.placements


# --- every constraint where it binds -----------------------------------------------------------------------


def fleet(solution: Solution) -> list[tuple[str, int]]:
    return [(p.pattern.offer_id.split("/", 1)[1], p.instances) for p in solution.placements]


def binds(strict: Problem, eased: Problem) -> tuple[Solution, Solution]:
    """Both optima: that of ``eased`` is better, and is no plan for ``strict``."""
    with_it, without_it = solve(strict), solve(eased)
    fleet_oracle.check(strict, with_it)
    fleet_oracle.check(eased, without_it)
    assert worth(without_it) < worth(with_it)
    with pytest.raises(AssertionError):
        fleet_oracle.check(strict, without_it)
    return with_it, without_it


def one(id: str = "one", **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "workload": "w",
        "variant": "int8",
        "backend": "b",
        "device": "cpu",
        "threads": 1,
        "max_batch_size": 1,
        "memory_bytes": 0,
        "capacity_rps": 8.0,
        "side_by_side": 1,
    } | changes
    values.setdefault("packed_capacity_rps", values["capacity_rps"])
    return Candidate(id=id, **values)


def host(name: str, usd_per_hour: float, **changes: Any) -> Offer:
    values: dict[str, Any] = {
        "provider": "p",
        "region": "r",
        "device": "cpu",
        "device_count": 0,
        "vcpus": 1,
        "memory_bytes": 1 << 30,
        "purchase": "on-demand",
        "price_source": "",
        "price_as_of": "",
    }
    return Offer(instance_type=name, usd_per_hour=usd_per_hour, **(values | changes))


BOTH = (RequestClass("long", 0.5), RequestClass("short", 0.5))


def test_a_mean_quality_is_met_by_a_mix_of_variants() -> None:
    candidates = (one("coarse", quality=0.7, capacity_rps=32.0), one("fine", quality=0.9))
    demand = Demand("w", 32.0, min_mean_quality=0.75)
    strict = Problem((demand,), candidates, (host("m", 1.0),))
    mixed, coarse = binds(strict, replace(strict, demands=(replace(demand, min_mean_quality=None),)))
    # A quarter of the requests on the fine one.
    flows = {i: rate for p in mixed.placements for i, rate in p.flow_rps}
    assert flows["fine"] == pytest.approx(8.0)
    assert mixed.usd_per_hour == 2.0
    assert coarse.usd_per_hour == 1.0


def test_classes_are_routed_to_the_offers_that_suit_them() -> None:
    short = one("short", classes=(("short", 16.0),), capacity_rps=16.0)
    long = one("long", classes=(("long", 4.0), ("short", 4.0)), device="gpu", capacity_rps=8.0)
    offers = (host("cpu", 0.5), host("gpu", 2.0, device="gpu", device_count=1.0))
    problem = Problem((Demand("w", 24.0, classes=BOTH),), (short, long), offers)
    solution = solve(problem)
    fleet_oracle.check(problem, solution)
    # Three for 12 rps of long requests take 12 of the short ones as well: no CPU is needed.
    assert fleet(solution) == [("gpu/r/on-demand", 3)]
    few_long = replace(problem, demands=(Demand("w", 32.0, classes=SHORTER),))
    routed = solve(few_long)
    fleet_oracle.check(few_long, routed)
    assert fleet(routed) == [("cpu/r/on-demand", 1), ("gpu/r/on-demand", 2)]
    [on_cpu, on_gpu] = routed.placements
    assert on_cpu.class_flow_rps[0][1] == "short"
    assert {name: rate for _, name, rate in on_gpu.class_flow_rps}["long"] == pytest.approx(8.0)


SHORTER = (RequestClass("long", 0.25), RequestClass("short", 0.75))


def test_without_classes_a_chip_for_short_requests_would_get_the_long_ones() -> None:
    short = one("short", classes=(("short", 16.0),), capacity_rps=16.0)
    long = one("long", classes=(("long", 4.0),), capacity_rps=4.0)
    problem = Problem((Demand("w", 16.0, classes=BOTH),), (short, long), (host("m", 1.0),))
    assert solve(problem).usd_per_hour == 3.0
    alike = tuple(replace(c, classes=()) for c in problem.candidates)
    assert solve(Problem((Demand("w", 16.0),), alike, problem.offers)).usd_per_hour == 1.0


def test_classes_by_turns_share_a_replicas_time() -> None:
    turns = one(classes=(("long", 4.0), ("short", 8.0)), mixing="time")
    strict = Problem((Demand("w", 8.0, classes=BOTH),), (turns,), (host("m", 1.0),))
    eased = replace(strict, candidates=(replace(turns, mixing="each", capacity_rps=12.0),))
    by_turns, at_once = solve(strict), solve(eased)
    fleet_oracle.check(strict, by_turns)
    # 4 rps of long requests take one replica, 4 of short ones half of one.
    assert (by_turns.usd_per_hour, at_once.usd_per_hour) == (2.0, 1.0)
    loads = [
        sum(rate / {"long": 4.0, "short": 8.0}[name] for _, name, rate in p.class_flow_rps) / p.instances
        for p in by_turns.placements
    ]
    assert loads == [pytest.approx(0.75)]


@pytest.mark.parametrize(("slices", "gpus"), [((3, 4), 1), ((4, 4), 2), ((1, 1), 1), (None, 2)])
def test_slices_share_a_gpu_while_compute_and_memory_last(slices: tuple[int, int] | None, gpus: int) -> None:
    sliced = one(slices=slices, device="gpu", side_by_side=8)
    problem = Problem(
        (Demand("w", 16.0),), (sliced,), (host("gpu", 1.0, device="gpu", device_count=1.0, vcpus=8),)
    )
    solution = solve(problem)
    fleet_oracle.check(problem, solution)
    assert solution.usd_per_hour == gpus


def test_slices_of_two_workloads_share_a_gpu_with_a_third_of_them_whole() -> None:
    candidates = (
        one("a", workload="a", slices=(3, 4), device="gpu"),
        one("b", workload="b", slices=(4, 4), device="gpu"),
        one("c", workload="c", device="gpu"),
    )
    demands = (Demand("a", 8.0), Demand("b", 8.0), Demand("c", 8.0))
    offers = (host("two", 1.0, device="gpu", device_count=2.0, vcpus=8),)
    solution = solve(Problem(demands, candidates, offers))
    [placement] = solution.placements
    assert placement.instances == 1
    assert placement.pattern.replicas == (("a", 1), ("b", 1), ("c", 1))


def test_a_limited_share_of_spot() -> None:
    offers = (host("m", 1.0), host("m", 0.3, purchase="spot"))
    strict = Problem((Demand("w", 32.0, max_spot_share=0.25),), (one(),), offers)
    mixed, _ = binds(strict, replace(strict, demands=(Demand("w", 32.0),)))
    assert fleet(mixed) == [("m/r/on-demand", 3), ("m/r/spot", 1)]
    flows = {p.pattern.offer_id.split("/")[-1]: p.flow_rps[0][1] for p in mixed.placements}
    assert flows["spot"] <= 8.0


def test_interruptions_of_spot_are_met_by_spare_capacity() -> None:
    spot = host("m", 0.5, purchase="spot")
    eased = Problem((Demand("w", 32.0),), (one(),), (host("m", 1.0), spot))
    strict = replace(eased, figures=(OfferFigures(spot.id, availability=0.75),))
    with_it, without_it = binds(strict, eased)
    assert fleet(without_it) == [("m/r/spot", 4)]
    assert fleet(with_it) == [("m/r/spot", 6)]


def test_commitments_cover_the_base_and_on_demand_the_peak() -> None:
    offers = (host("m", 1.0), host("m", 0.6, purchase="reserved", term="1yr"))
    problem = Problem(
        (Demand("w", 32.0, (32.0, 16.0)),),
        (one(),),
        offers,
        periods=(Period("day", 8.0), Period("night", 16.0)),
    )
    solution = solve(problem)
    fleet_oracle.check(problem, solution)
    # Two run all the time (0.6 < 1.0); two more a third of it (1/3 < 0.6).
    assert [(c.offer_id, c.instances, c.usd_per_hour) for c in solution.commitments] == [
        ("p/m/r/reserved-1yr", 2, 1.2)
    ]
    assert solution.usd_per_hour == pytest.approx(1.2 + 2 / 3)
    assert [(p.period, *f) for p, f in zip(solution.placements, fleet(solution), strict=True)] == [
        ("day", "m/r/on-demand", 2),
        ("day", "m/r/reserved-1yr", 2),
        ("night", "m/r/reserved-1yr", 2),
    ]


def test_a_commitment_is_paid_for_in_all_periods() -> None:
    offers = (host("m", 1.0), host("m", 0.6, purchase="reserved", term="3yr"))
    problem = Problem(
        (Demand("w", 8.0, (8.0, 0.0)),),
        (one(),),
        offers,
        periods=(Period("day", 8.0), Period("night", 16.0)),
    )
    # Priced by period, the commitment would cost 0.2.
    assert fleet(solve(problem)) == [("m/r/on-demand", 1)]
    assert solve(problem).usd_per_hour == pytest.approx(1 / 3)
    always = solve(Problem((Demand("w", 8.0),), (one(),), offers, periods=(Period("always", 1.0),)))
    assert fleet(always) == [("m/r/reserved-3yr", 1)]
    assert [(c.offer_id, c.instances) for c in always.commitments] == [("p/m/r/reserved-3yr", 1)]
    assert always.placements[0].period == "always"


def test_every_period_has_its_own_counts() -> None:
    periods = (Period("day", 12.0), Period("night", 12.0))
    strict = Problem((Demand("w", 32.0, (32.0, 8.0)),), (one(),), (host("m", 1.0),), periods=periods)
    solution = solve(strict)
    fleet_oracle.check(strict, solution)
    assert [(p.period, p.instances) for p in solution.placements] == [("day", 4), ("night", 1)]
    assert solution.usd_per_hour == 2.5


@pytest.mark.parametrize(
    ("quota", "instances"),
    [
        (Quota("q", 2), 2),
        (Quota("q", 5, "vcpus"), 2),
        (Quota("q", 3.0, "devices"), 3),
        (Quota("q", 7.0, "family_units", family="f"), 1),
        (Quota("q", 2, provider="p", region="cheap"), 2),
        (Quota("q", 2, instance_types=("m", "n"), purchase="on-demand"), 2),
        (Quota("q", 0, device="gpu", region="cheap"), 0),
    ],
)
def test_quotas_by_what_they_count_and_select(quota: Quota, instances: int) -> None:
    gpu = {"device": "gpu", "device_count": 1.0, "vcpus": 2, "family": "f", "family_units": 4.0}
    cheap = host("m", 1.0, region="cheap", **gpu)
    dear = host("x", 2.0, region="dear", **(gpu | {"family": "g", "vcpus": 2, "family_units": 0.0}))
    only = replace(quota, region="cheap")
    eased = Problem((Demand("w", 32.0),), (one(device="gpu"),), (cheap, dear))
    with_it, without_it = binds(replace(eased, quotas=(only,)), eased)
    assert dict(fleet(without_it)) == {"m/cheap/on-demand": 4}
    assert dict(fleet(with_it)).get("m/cheap/on-demand", 0) == instances


def test_a_quota_counts_commitments_even_where_they_stand_idle() -> None:
    reserved, spare = host("m", 0.5, purchase="reserved"), host("m", 0.4, purchase="spot")
    candidates = (one("a", workload="a"), one("b", workload="b"))
    problem = Problem(
        (Demand("a", 16.0, (16.0, 0.0), max_spot_share=0.0), Demand("b", 16.0, (0.0, 16.0))),
        candidates,
        (reserved, spare),
        periods=(Period("day", 12.0), Period("night", 12.0)),
        quotas=(Quota("q", 2),),
    )
    solution = solve(problem)
    fleet_oracle.check(problem, solution)
    assert solution.commitments[0].instances == 2
    assert {p.pattern.offer_id for p in solution.placements} == {reserved.id}


def test_a_limit_by_offer_holds_in_every_period() -> None:
    eased = Problem(
        (Demand("w", 32.0, (32.0, 24.0)),),
        (one(),),
        (host("m", 1.0), host("n", 2.0)),
        periods=(Period("day", 12.0), Period("night", 12.0)),
    )
    with_it, _ = binds(replace(eased, max_instances_per_offer=3), eased)
    assert [(p.period, p.instances) for p in with_it.placements] == [("day", 3), ("day", 1), ("night", 3)]


def test_at_most_so_many_kinds_of_instance() -> None:
    offers = (host("big", 1.0, vcpus=4), host("small", 0.4))
    eased = Problem((Demand("w", 40.0),), (one(),), offers)
    with_it, without_it = binds(replace(eased, max_kinds=1), eased)
    assert fleet(without_it) == [("big/r/on-demand", 1), ("small/r/on-demand", 1)]
    assert fleet(with_it) == [("big/r/on-demand", 2)]


def test_at_least_so_many_zones() -> None:
    offers = (host("m", 1.0, zones=("a",)), host("n", 1.5, region="s", zones=("b", "c")))
    eased = Problem((Demand("w", 16.0),), (one(),), offers)
    with_it, without_it = binds(replace(eased, min_zones=2), replace(eased, min_zones=1))
    assert fleet(without_it) == [("m/r/on-demand", 2)]
    assert sorted((p.pattern.offer_id.split("/")[1], p.zone) for p in with_it.placements) in (
        [("m", "p/a"), ("n", "p/b")],
        [("m", "p/a"), ("n", "p/c")],
    )


def test_the_loss_of_any_one_instance_is_survived() -> None:
    offers = (host("big", 2.0, vcpus=4), host("small", 0.6))
    demand = Demand("w", 32.0, redundancy="instance")
    eased = Problem((replace(demand, redundancy="none"),), (one(),), offers)
    with_it, without_it = binds(replace(eased, demands=(demand,)), eased)
    assert fleet(without_it) == [("big/r/on-demand", 1)]
    # Two big ones would survive too, for 4.0: five small ones lose less at once.
    assert fleet(with_it) == [("small/r/on-demand", 5)]


def test_the_loss_of_any_one_zone_is_survived() -> None:
    offers = (host("m", 1.0, zones=("a", "b")), host("n", 1.2, region="s"))
    demand = Demand("w", 32.0, redundancy="zone")
    eased = Problem((replace(demand, redundancy="instance"),), (one(),), offers)
    with_it, without_it = binds(replace(eased, demands=(demand,), min_zones=1), replace(eased, min_zones=1))
    assert without_it.usd_per_hour == 5.0
    # Half as much again over three zones: cheaper than all of it twice over two.
    assert with_it.usd_per_hour == pytest.approx(2 + 2 + 2 * 1.2)
    assert len({p.zone for p in with_it.placements}) == 3


def test_energy_and_carbon_instead_of_dollars() -> None:
    cheap, lean, clean = host("cheap", 1.0), host("lean", 2.0), host("clean", 3.0)
    blank = host("blank", 0.1)
    figures = (
        OfferFigures(cheap.id, power_w=9.0, carbon_g_per_hour=4.0),
        OfferFigures(lean.id, power_w=3.0, carbon_g_per_hour=2.0),
        OfferFigures(clean.id, power_w=5.0, carbon_g_per_hour=1.0),
    )
    problem = Problem((Demand("w", 16.0),), (one(),), (cheap, lean, clean, blank), figures=figures)
    assert fleet(solve(problem)) == [("blank/r/on-demand", 2)]
    for objective, name, amount in (("energy", "lean", 6.0), ("carbon", "clean", 2.0)):
        solution = solve(replace(problem, objective=objective))
        assert fleet(solution) == [(f"{name}/r/on-demand", 2)]
        assert (solution.amount, solution.amount_bound, solution.proven) == (amount, amount, True)
        within = solve(replace(problem, objective=objective, budget_usd_per_hour=3.0))
        assert within.usd_per_hour <= 3.0
        assert within.amount is not None
        assert within.amount > amount


def test_the_highest_accuracy_and_the_lowest_latency_under_a_budget() -> None:
    candidates = (
        one("coarse", quality=0.7, latency_ns=1e6, capacity_rps=16.0),
        one("fine", quality=0.9, latency_ns=5e6, capacity_rps=4.0),
        one("quick", quality=0.8, latency_ns=2e5, capacity_rps=8.0, device="gpu"),
    )
    offers = (host("m", 1.0), host("gpu", 1.5, device="gpu", device_count=1.0))
    eased = Problem((Demand("w", 16.0),), candidates, offers, objective="accuracy")
    with_it, without_it = binds(replace(eased, budget_usd_per_hour=3.0), eased)
    assert without_it.amount == pytest.approx(0.9)
    assert without_it.usd_per_hour == 4.0
    # Two fine ones for half of it and one coarse, 0.8; as good as two of the GPU's, which cost the same.
    assert with_it.amount == pytest.approx(0.8)
    quick = solve(replace(eased, objective="latency", budget_usd_per_hour=2.5))
    assert quick.amount == pytest.approx((8 * 2e5 + 8 * 1e6) / 16)
    assert fleet(quick) == [("gpu/r/on-demand", 1), ("m/r/on-demand", 1)]


def test_of_equally_accurate_fleets_the_cheapest() -> None:
    problem = Problem(
        (Demand("w", 8.0),), (one(quality=0.9),), (host("m", 2.0), host("n", 1.0)), objective="accuracy"
    )
    assert fleet(solve(problem)) == [("n/r/on-demand", 1)]


# --- ties, the present plan, and what is no plan -----------------------------------------------------------


def test_ties_fewer_kinds_then_fewer_instances_then_lower_latency() -> None:
    periods = (Period("day", 12.0), Period("night", 12.0))

    def tied(
        rate: float, *offers: Offer, candidates: tuple[Candidate, ...] = (one(),)
    ) -> list[tuple[str, int]]:
        return fleet(solve(Problem((Demand("w", rate),), candidates, offers, periods=periods)))

    small, large = host("small", 0.1), host("large", 0.4, vcpus=4)
    assert tied(40.0, small, large) == [("small/r/on-demand", 5)] * 2
    assert tied(32.0, small, large) == [("large/r/on-demand", 1)] * 2
    slow = one("slow", latency_ns=5e6)
    swift = one("swift", latency_ns=1e6, device="cpu-b")
    twin = host("twin", 0.1, device="cpu-b")
    assert tied(8.0, small, twin, candidates=(slow, swift)) == [("twin/r/on-demand", 1)] * 2


@pytest.mark.parametrize("plain", [True, False])
def test_the_present_plan_stays_unless_another_saves_enough(plain: bool) -> None:
    present = Problem((Demand("w", 16.0),), (one(),), (host("m", 1.0),))
    if not plain:
        present = replace(present, quotas=(Quota("q", 9),))
    cheaper = replace(present, offers=(*present.offers, host("n", 0.9)))
    before = solve(present).placements
    kept = solve(replace(cheaper, keep=Keep(before, 0.1)))
    assert kept.kept
    assert kept.placements == before
    assert (kept.usd_per_hour, kept.bound_usd_per_hour, kept.proven) == (2.0, 1.8, True)
    assert kept.gap == pytest.approx(0.1)
    assert "kept" in kept.notes[-1]
    left = solve(replace(cheaper, keep=Keep(before, 0.05)))
    assert not left.kept
    assert left.usd_per_hour == pytest.approx(1.8)


def test_a_present_plan_that_does_not_hold_is_left_with_a_note() -> None:
    problem = Problem((Demand("w", 16.0),), (one(),), (host("m", 1.0),))
    before = solve(problem).placements
    for changed, why in (
        (replace(problem, demands=(Demand("w", 24.0),)), "serves 16 of 24 rps"),
        (replace(problem, offers=(host("n", 1.0),)), "p/m/r/on-demand is not on offer"),
        (replace(problem, candidates=(one("two"),)), "one is no candidate"),
        (replace(problem, candidates=(one(), one("x", threads=1)), offers=(host("m", 1.0, vcpus=1),)), ""),
        (
            replace(
                problem,
                quotas=(Quota("q", 1, instance_types=("m",)),),
                offers=(*problem.offers, host("n", 3.0)),
            ),
            "takes 2 of quota q",
        ),
    ):
        solution = solve(replace(changed, keep=Keep(before, 1.0)))
        assert solution.kept == (not why)
        assert why in solution.notes[-1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"budget_usd_per_hour": 1.5}, "budget_usd_per_hour 1.5; budget_usd_per_hour 2 ($2/h) would do"),
        ({"quotas": (Quota("few", 1),)}, "at most 1 instances; quota few: at most 2 instances ($2/h) would"),
        ({"max_instances_per_offer": 1, "quotas": (Quota("many", 9),)}, "max_instances_per_offer 2 ($2/h)"),
        ({"min_zones": 3}, "rps; min_zones 3; min_zones 1 ($2/h) would do"),
        (
            {"demands": (Demand("w", 16.0, redundancy="zone"),)},
            "redundancy zone; workload w: redundancy instance ($3/h) would do",
        ),
        (
            {"demands": (Demand("w", 16.0, min_mean_quality=0.95),)},
            "min_mean_quality 0.95; workload w: min_mean_quality 0.9 ($2/h) would do",
        ),
        ({"objective": "energy"}, "of none of the 1 offer power_w is known"),
        ({"objective": "latency"}, "its latency is unknown"),
        (
            {
                "demands": (Demand("w", 16.0, classes=BOTH),),
                "candidates": (one(classes=(("long", 8.0),)),),
            },
            "serves class short",
        ),
    ],
)
def test_what_blocks_a_plan_is_named(changes: dict[str, Any], reason: str) -> None:
    values: dict[str, Any] = {"demands": (Demand("w", 16.0),), "candidates": (one(quality=0.9),)}
    problem = Problem(**(values | {"offers": (host("m", 1.0),)} | changes))
    with pytest.raises(InfeasibleError) as raised:
        solve(problem)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_where_one_limit_hides_another_only_what_does_by_itself_is_offered() -> None:
    problem = Problem(
        (Demand("w", 16.0),), (one(),), (host("m", 1.0),), quotas=(Quota("q", 1),), budget_usd_per_hour=1.0
    )
    with pytest.raises(LimitsConflictError) as raised:
        solve(problem)
    conflict = raised.value.conflict
    assert conflict.limits == ("workload w: 16 rps", "quota q: at most 1 instances")
    assert [r.becomes for r in conflict.relaxations] == ["workload w: 8 rps"]


def test_a_plan_cut_short_is_marked_with_its_gap() -> None:
    def stopped(program: Program, time_limit_s: float) -> Answer:
        answer = run_highs(program, time_limit_s)
        assert answer.status == OPTIMAL
        return replace(answer, status=FEASIBLE, bound=answer.bound * 0.5)

    problem = Problem((Demand("w", 32.0, redundancy="instance"),), (one(),), (host("m", 1.0),))
    solution = solve(problem, solver=stopped)
    assert not solution.proven
    assert (solution.usd_per_hour, solution.bound_usd_per_hour, solution.gap) == (5.0, 2.5, 0.5)
    assert "time limit" in solution.notes[-1]


def test_a_mean_quality_that_differs_from_the_floor_by_rounding_reaches_it() -> None:
    nearly = 0.95 - 0.05
    assert nearly < 0.9
    problem = Problem((Demand("w", 8.0, min_mean_quality=0.9),), (one(quality=nearly),), (host("m", 1.0),))
    assert solve(problem).usd_per_hour == 1.0


def test_what_an_objective_or_a_floor_knows_nothing_about_is_rejected() -> None:
    known, unknown = host("m", 1.0), host("n", 1.0)
    problem = Problem(
        (Demand("w", 8.0, min_mean_quality=0.5),),
        (one(quality=0.9), one("vague")),
        (known, unknown),
        figures=(OfferFigures(known.id, power_w=5.0),),
        objective="energy",
    )
    assert {(r.subject, r.reason) for r in rejections(problem)} == {
        ("vague", "its quality is unknown, and the plan asks for it"),
        (unknown.id, "its energy per hour is unknown"),
    }


def test_a_bound_still_unknown_leaves_the_best_candidate_as_the_bound_on_accuracy() -> None:
    def stopped(program: Program, time_limit_s: float) -> Answer:
        return replace(run_highs(program, time_limit_s), status=FEASIBLE, bound=float("-inf"))

    problem = Problem(
        (Demand("w", 8.0),),
        (one("coarse", quality=0.5, capacity_rps=16.0), one("fine", quality=1.0, capacity_rps=4.0)),
        (host("m", 1.0),),
        objective="accuracy",
        budget_usd_per_hour=1.0,
    )
    solution = solve(problem, solver=stopped)
    assert (solution.amount, solution.amount_bound, solution.gap, solution.proven) == (0.5, 1.0, 1.0, False)
