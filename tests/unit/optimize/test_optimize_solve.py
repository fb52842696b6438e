"""The optimum against brute force, and what makes the plan one and the same."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Demand, Problem, Solution
from planner.errors import InfeasibleError
from planner.optimize.program import Program, Row, Variable
from planner.optimize.solve import FEASIBLE, OPTIMAL, UNKNOWN, Answer, run_highs, solve

GIB = 1024**3
Best = tuple[Fraction, int, int]


# --- the oracle: from the definition of the problem, sharing no code with the solver ---------------------


def packings_by_definition(problem: Problem, offer: Offer, unit: float) -> Iterator[tuple[int, ...]]:
    """What every possible instance of ``offer`` takes of each workload, in whole units."""
    mine = [c for c in problem.candidates if c.device == offer.device]
    gpu = offer.device_count > 0
    if not gpu and offer.memory_bytes is None:
        return
    most = floor(offer.device_count) if gpu else offer.vcpus
    for counts in product(range(most + 1), repeat=len(mine)):
        pairs = [(c, n) for c, n in zip(mine, counts, strict=True) if n]
        if not pairs or sum(n * c.threads for c, n in pairs) > offer.vcpus:
            continue
        if gpu and sum(counts) > most:
            continue
        if not gpu and sum(n * c.memory_bytes for c, n in pairs) > (offer.memory_bytes or 0):
            continue
        alone = len(pairs) == 1 and pairs[0][1] <= pairs[0][0].side_by_side
        yield tuple(
            sum(
                n * round((c.capacity_rps if alone else c.packed_capacity_rps) / unit)
                for c, n in pairs
                if c.workload == demand.workload
            )
            for demand in problem.demands
        )


def brute_force(problem: Problem, unit: float) -> Best | None:
    """Least (cost, kinds, instances) by dynamic programming over what is left of the demands.

    Rates and capacities are whole multiples of ``unit``.
    """
    demand = tuple(round(d.rate_rps / unit) for d in problem.demands)
    best: dict[tuple[int, ...], Best] = {demand: (Fraction(0), 0, 0)}
    for offer in problem.offers:
        limit = problem.max_instances_per_offer or sum(demand)
        price = Fraction(str(offer.usd_per_hour))
        within = {(left, 0): value for left, value in best.items()}
        for rates in set(packings_by_definition(problem, offer, unit)):
            for (left, used), (cost, kinds, instances) in list(within.items()):
                for n in range(1, limit - used + 1):
                    after = tuple(max(0, rest - n * rate) for rest, rate in zip(left, rates, strict=True))
                    value = (cost + n * price, kinds + 1, instances + n)
                    state = (after, used + n)
                    within[state] = min(within.get(state, value), value)
                    if not any(after):
                        break
        for (left, _), value in within.items():
            best[left] = min(best.get(left, value), value)
    return best.get((0,) * len(demand))


@st.composite
def problems(draw: st.DrawFn, workloads: int, most_vcpus: int, most_rate: int) -> tuple[Problem, float]:
    """Problems in whole multiples of a unit, over three devices (one of them a GPU); most have a plan."""
    unit = draw(st.sampled_from([1.0, 0.1, 1 / 3, 1e-3, 7e4]))
    names = [f"w{i}" for i in range(workloads)]
    candidates = []
    for i in range(draw(st.integers(workloads, max(4, workloads + 1)))):
        first = i < workloads
        capacity = draw(st.sampled_from([3, 1, 2, 4, 5, 6, 7, 0]))
        candidates.append(
            Candidate(
                id=f"c{i}",
                workload=names[i] if first else draw(st.sampled_from(names)),
                variant="int8",
                backend="b",
                device="cpu-a" if first else draw(st.sampled_from(["cpu-a", "cpu-a", "cpu-b", "gpu"])),
                threads=draw(st.integers(1, 3)),
                max_batch_size=1,
                memory_bytes=draw(st.integers(0, 3)) * GIB,
                capacity_rps=capacity * unit,
                side_by_side=draw(st.integers(1, 3)),
                packed_capacity_rps=max(0, capacity - draw(st.integers(0, 3))) * unit,
            )
        )
    offers = []
    for i in range(draw(st.integers(1, 3))):
        device = draw(st.sampled_from(["cpu-a", "cpu-b", "gpu"])) if i else "cpu-a"
        memory = draw(st.sampled_from([8, 3, 4, 5, 6, 1, None]))
        offers.append(
            Offer(
                provider="p",
                instance_type=f"t{i}",
                region="r",
                device=device,
                device_count=draw(st.sampled_from([0.5, 1.0, 2.0])) if device == "gpu" else 0,
                vcpus=draw(st.integers(1, most_vcpus)),
                memory_bytes=None if memory is None else memory * GIB,
                purchase="spot",
                usd_per_hour=draw(st.integers(1, 9)) / draw(st.sampled_from([100, 10])),
                price_source="",
                price_as_of="",
            )
        )
    demands = tuple(Demand(name, draw(st.integers(1, most_rate)) * unit) for name in names)
    limit = draw(st.sampled_from([None, None, 4, 3, 2]))
    return Problem(demands, tuple(candidates), tuple(offers), limit), unit


def check(problem: Problem, solution: Solution) -> None:
    """The fleet obeys every rule of the problem."""
    candidate_of = {c.id: c for c in problem.candidates}
    offer_of = {o.id: o for o in problem.offers}
    instances: dict[str, int] = defaultdict(int)
    flow: dict[str, float] = defaultdict(float)
    utilisations: dict[str, list[float]] = defaultdict(list)
    cost = Fraction(0)
    for placement in solution.placements:
        pattern = placement.pattern
        offer = offer_of[pattern.offer_id]
        replicas = [(candidate_of[i], n) for i, n in pattern.replicas]
        instances[offer.id] += placement.instances
        cost += placement.instances * Fraction(str(offer.usd_per_hour))
        assert sum(n * c.threads for c, n in replicas) <= offer.vcpus
        if offer.device_count:
            assert sum(n for _, n in replicas) <= offer.device_count
        else:
            assert sum(n * c.memory_bytes for c, n in replicas) <= (offer.memory_bytes or 0)
        assert pattern.extrapolated == (len(replicas) > 1 or replicas[0][1] > replicas[0][0].side_by_side)
        assert [i for i, _ in placement.flow_rps] == [i for i, _ in pattern.replicas]
        for (c, n), (_, rate) in zip(replicas, placement.flow_rps, strict=True):
            assert c.device == offer.device
            capacity = c.packed_capacity_rps if pattern.extrapolated else c.capacity_rps
            flow[c.workload] += rate
            utilisations[c.workload].append(rate / (capacity * n * placement.instances))
    for demand in problem.demands:
        assert flow[demand.workload] == pytest.approx(demand.rate_rps, rel=1e-9)
        assert max(utilisations[demand.workload]) <= 1 + 1e-9
        assert min(utilisations[demand.workload]) == pytest.approx(
            max(utilisations[demand.workload]), rel=1e-9
        )
    assert max(instances.values()) <= (problem.max_instances_per_offer or float("inf"))
    assert solution.usd_per_hour == float(cost)


def agree(problem: Problem, unit: float) -> tuple[Solution, Best] | None:
    best = brute_force(problem, unit)
    if best is None:
        with pytest.raises(InfeasibleError):
            solve(problem)
        return None
    solution = solve(problem)
    check(problem, solution)
    assert solution.usd_per_hour == float(best[0])
    assert solution.proven
    assert solution.gap == 0
    assert solution.bound_usd_per_hour == solution.usd_per_hour
    return solution, best


@settings(max_examples=400, deadline=None)
@given(problems(workloads=1, most_vcpus=5, most_rate=15))
def test_one_workload_agrees_with_brute_force_in_cost_kinds_and_instances(
    case: tuple[Problem, float],
) -> None:
    agreed = agree(*case)
    if agreed:
        solution, (_, kinds, instances) = agreed
        assert len(solution.placements) == kinds
        assert sum(p.instances for p in solution.placements) == instances


@settings(max_examples=150, deadline=None)
@given(problems(workloads=2, most_vcpus=4, most_rate=6))
def test_two_workloads_agree_with_brute_force(case: tuple[Problem, float]) -> None:
    agree(*case)


@settings(max_examples=60, deadline=None)
@given(problems(workloads=2, most_vcpus=4, most_rate=6), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_its_inputs(
    case: tuple[Problem, float], shuffler: random.Random
) -> None:
    problem, _ = case
    shuffled = replace(
        problem,
        demands=tuple(shuffler.sample(problem.demands, len(problem.demands))),
        candidates=tuple(shuffler.sample(problem.candidates, len(problem.candidates))),
        offers=tuple(shuffler.sample(problem.offers, len(problem.offers))),
    )
    try:
        expected = solve(problem).placements
    except InfeasibleError as error:
        with pytest.raises(InfeasibleError) as raised:
            solve(shuffled)
        assert str(raised.value) == str(error)
    else:
        assert solve(shuffled).placements == expected


# --- ties ----------------------------------------------------------------------------------------------


def fleet(solution: Solution) -> list[tuple[str, int]]:
    return [(p.pattern.offer_id.split("/")[1], p.instances) for p in solution.placements]


def test_fewer_kinds_win_before_fewer_instances(candidate, offer) -> None:
    one = candidate("one")
    offers = (
        offer("small", 0.1),  # 10 rps
        offer("large", 0.4, vcpus=4),  # 40 rps
    )
    # 50 rps: one large and one small are 2 instances of 2 kinds, five small ones are 1 kind.
    solution = solve(Problem((Demand("w", 50),), (one,), offers))
    assert fleet(solution) == [("small", 5)]


def test_fewer_instances_win_before_ids(candidate, offer) -> None:
    offers = (offer("a-small", 0.1), offer("b-large", 0.4, vcpus=4))
    solution = solve(Problem((Demand("w", 40),), (candidate("one"),), offers))
    assert fleet(solution) == [("b-large", 1)]


def test_the_smaller_ids_win_at_last(candidate, offer) -> None:
    offers = tuple(offer("m", 0.1, region=region) for region in ("west", "east", "north"))
    candidates = (candidate("two"), candidate("one"))
    for limit, expected in ((None, [("east", 3)]), (1, [("east", 1), ("north", 1), ("west", 1)])):
        solution = solve(Problem((Demand("w", 30),), candidates, offers, limit))
        assert [(p.pattern.offer_id.split("/")[2], p.instances) for p in solution.placements] == expected
        assert {p.pattern.replicas for p in solution.placements} == {(("one", 1),)}


def test_of_two_kinds_the_earlier_id_gets_more_instances(candidate, offer) -> None:
    offers = (offer("a", 0.1), offer("b", 0.1))
    solution = solve(Problem((Demand("w", 50),), (candidate("one"),), offers, 3))
    assert fleet(solution) == [("a", 3), ("b", 2)]


def test_measured_side_by_side_wins_over_extrapolated_at_the_same_capacity(candidate, offer) -> None:
    measured = candidate("b-measured", threads=2, capacity_rps=20.0)
    packed = candidate("a-packed", capacity_rps=15.0, packed_capacity_rps=10.0)
    [placement] = solve(
        Problem((Demand("w", 15.5),), (measured, packed), (offer("m", 1, vcpus=2),))
    ).placements
    assert placement.pattern.replicas == (("b-measured", 1),)
    assert not placement.pattern.extrapolated


# --- what binds ----------------------------------------------------------------------------------------


def test_memory_that_binds_leaves_threads_idle(candidate, offer) -> None:
    one = candidate("one", memory_bytes=3 * GIB)
    host = offer("m", 1, vcpus=8, memory_bytes=16 * GIB)
    [placement] = solve(Problem((Demand("w", 80),), (one,), (host,))).placements
    assert placement.pattern.replicas == (("one", 5),)
    assert placement.instances == 2


def test_unknown_memory_is_never_taken_for_enough(candidate, offer) -> None:
    known, unknown = offer("known", 2.0), offer("unknown", 1.0, memory_bytes=None)
    assert fleet(solve(Problem((Demand("w", 5),), (candidate("one"),), (known, unknown)))) == [("known", 1)]


def test_derating_when_packed_prefers_more_small_instances(candidate, offer) -> None:
    offers = (offer("small", 0.1), offer("large", 0.39, vcpus=4))
    full, derated = candidate("one"), candidate("one", packed_capacity_rps=8.0)
    assert fleet(solve(Problem((Demand("w", 40),), (full,), offers))) == [("large", 1)]
    solution = solve(Problem((Demand("w", 40),), (derated,), offers))
    assert fleet(solution) == [("small", 4)]
    assert not solution.placements[0].pattern.extrapolated


def test_a_limit_that_binds_changes_the_plan_and_one_that_does_not_changes_nothing(candidate, offer) -> None:
    offers = (offer("cheap", 0.1), offer("dear", 0.3))
    free = solve(Problem((Demand("w", 50),), (candidate("one"),), offers))
    assert fleet(free) == [("cheap", 5)]
    assert solve(Problem((Demand("w", 50),), (candidate("one"),), offers, 5)).placements == free.placements
    bound = solve(Problem((Demand("w", 50),), (candidate("one"),), offers, 3))
    assert fleet(bound) == [("cheap", 3), ("dear", 2)]
    assert bound.usd_per_hour == 0.9


def test_a_gpu_takes_one_replica_and_half_a_gpu_none(candidate, offer) -> None:
    one = candidate("one", device="gpu", memory_bytes=80 * GIB, side_by_side=8)
    offers = (
        offer("half", 0.01, device="gpu", device_count=0.5, vcpus=16),
        offer("pair", 1.0, device="gpu", device_count=2.0, vcpus=16, memory_bytes=None),
    )
    [placement] = solve(Problem((Demand("w", 35),), (one,), offers)).placements
    assert placement.pattern.replicas == (("one", 2),)
    assert placement.instances == 2


def test_two_workloads_share_an_instance_where_that_is_cheaper(candidate, offer) -> None:
    candidates = (candidate("x", workload="wx"), candidate("y", workload="wy"))
    offers = (offer("one", 0.1), offer("two", 0.15, vcpus=2))
    [placement] = solve(Problem((Demand("wx", 7), Demand("wy", 3)), candidates, offers)).placements
    assert placement.pattern.replicas == (("x", 1), ("y", 1))
    assert placement.flow_rps == (("x", 7.0), ("y", 3.0))


def test_the_load_is_shared_in_proportion_to_capacity(candidate, offer) -> None:
    candidates = (candidate("a"), candidate("b", device="cpu-b", capacity_rps=30.0))
    offers = (offer("a", 0.1), offer("b", 0.3, device="cpu-b"))
    solution = solve(Problem((Demand("w", 36),), candidates, offers, 1))
    assert [p.flow_rps for p in solution.placements] == [(("a", 9.0),), (("b", 27.0),)]


# --- numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.001, 0.5, 333.3, 1e6])
@pytest.mark.parametrize("capacity", [0.37, 4200.0])
def test_rates_and_prices_over_nine_decades(rate: float, capacity: float, candidate, offer) -> None:
    offers = (offer("small", 0.01), offer("large", 200.0, vcpus=4096, memory_bytes=8192 * GIB))
    one = candidate("one", capacity_rps=capacity, packed_capacity_rps=capacity * 0.99)
    solution = solve(Problem((Demand("w", rate),), (one,), offers))
    # Per rps the small one costs 0.01 / capacity, the large one five times that.
    assert solution.placements[0].instances == -(-Fraction(rate) // Fraction(capacity))
    assert solution.proven


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
def test_the_plan_is_the_same_in_any_unit_of_rate(factor: float, candidate, offer) -> None:
    offers = (offer("a", 0.013, vcpus=2), offer("b", 0.0297, vcpus=5), offer("c", 0.101, vcpus=16))
    one = candidate("one", capacity_rps=7.3 * factor, packed_capacity_rps=6.1 * factor)
    solution = solve(Problem((Demand("w", 611 * factor),), (one,), offers))
    reference = solve(
        Problem((Demand("w", 611.0),), (candidate("one", capacity_rps=7.3, packed_capacity_rps=6.1),), offers)
    )
    assert fleet(solution) == fleet(reference)


def test_less_than_the_demand_by_less_than_the_solver_can_tell_is_not_enough(candidate, offer) -> None:
    one = candidate("one", capacity_rps=10 * (1 - 1e-8))
    [placement] = solve(Problem((Demand("w", 30),), (one,), (offer("m", 1.0),))).placements
    assert placement.instances == 4


def test_rounding_is_not_a_shortfall(candidate, offer) -> None:
    one = candidate("one", capacity_rps=0.1)
    [placement] = solve(Problem((Demand("w", 0.1 * 3 + 1e-15),), (one,), (offer("m", 1.0),))).placements
    assert placement.instances == 3


# --- the solver ----------------------------------------------------------------------------------------


def test_a_mere_incumbent_is_reported_with_its_gap(candidate, offer) -> None:
    offers = (offer("a", 1.0), offer("b", 3.0, vcpus=4))

    def stopped(program: Program, time_limit_s: float) -> Answer:
        answer = run_highs(program, time_limit_s)
        cost = sum(coefficient * answer.values[name] for name, coefficient in program.objective)
        return Answer(FEASIBLE, answer.values, cost * 0.75)

    solution = solve(Problem((Demand("w", 50),), (candidate("one"),), offers), 0.5, solver=stopped)
    assert not solution.proven
    assert solution.usd_per_hour == 4.0
    assert solution.bound_usd_per_hour == pytest.approx(3.0)
    assert solution.gap == pytest.approx(0.25)
    assert "time limit of 0.5 s" in solution.notes[0]


def test_a_bound_still_unknown_leaves_the_whole_gap(candidate, offer) -> None:
    def stopped(program: Program, time_limit_s: float) -> Answer:
        return replace(run_highs(program, time_limit_s), status=FEASIBLE, bound=float("-inf"))

    solution = solve(Problem((Demand("w", 5),), (candidate("one"),), (offer("a", 1.0),)), solver=stopped)
    assert (solution.bound_usd_per_hour, solution.gap, solution.proven) == (0.0, 1.0, False)


def test_no_plan_within_the_time_limit_is_an_error(candidate, offer) -> None:
    def nothing(program: Program, time_limit_s: float) -> Answer:
        return Answer(UNKNOWN, {}, 0.0)

    with pytest.raises(InfeasibleError, match="within the time limit; allow more time"):
        solve(Problem((Demand("w", 5),), (candidate("one"),), (offer("a", 1.0),)), solver=nothing)


def test_highs_stopped_early_says_so_although_pulp_calls_it_optimal() -> None:
    seeded = random.Random(1)
    names = [f"x{i}" for i in range(120)]
    rows = tuple(
        Row(f"cover{r}", tuple((name, float(seeded.randint(1, 999))) for name in names), 20_000.0 + r, None)
        for r in range(40)
    )
    objective = tuple((name, float(seeded.randint(900, 1100))) for name in names)
    program = Program(tuple(Variable(name, integer=True) for name in names), objective, rows)
    answer = run_highs(program, 0.3)
    assert answer.status == FEASIBLE
    assert 0 < answer.bound < sum(c * answer.values[name] for name, c in objective)


def test_highs_is_silent_and_finds_the_bound(capfd: pytest.CaptureFixture[str], candidate, offer) -> None:
    offers = (offer("a", 1.0), offer("b", 3.0, vcpus=4))
    solution = solve(Problem((Demand("w", 50),), (candidate("one"),), offers, 2))
    program = Program((Variable("x", True),), (("x", 2.0),), (Row("r", (("x", 2.0),), 3.0, None),))
    assert run_highs(program, 1.0) == Answer(OPTIMAL, {"x": 2.0}, 4.0)
    assert solution.solver.startswith("HiGHS 1.")
    assert capfd.readouterr() == ("", "")
