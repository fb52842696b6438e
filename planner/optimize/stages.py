"""From a fleet's program to its counts and flows: solved in stages, read, and checked.

The objective first. Then, with what it reached held fast, the least cost (where the objective is another),
and of equally good fleets the one with

1. fewer kinds, a kind being an offer running a packing,
2. then fewer instances, over all periods,
3. then the lower latency at full load, of an instance's replicas weighted by what they take, summed over the
   instances (where every latency is known).

What is still equal is the solver's choice, which is the same for the same problem: columns are sorted, and
HiGHS runs on one thread with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from time import perf_counter

from planner.domain.problem import (
    ACCURACY,
    LATENCY,
    USD,
    Commitment,
    Pattern,
    Placement,
    Problem,
    is_commitment,
)
from planner.errors import InfeasibleError, PlannerError
from planner.optimize.fleet import Counts, Fleet, broken_limit, shortcoming
from planner.optimize.flows import Flows, replicas, share_out
from planner.optimize.program import INFEASIBLE, OPTIMAL, Program, Row, Solver
from planner.optimize.rows import COUNT, KINDS, SWIFTNESS, Objective, build, n, objective

# By how much of its value a stage may fall behind an earlier one: the solver's tolerance, which for means
# over flows adds up over their rows (and would otherwise shut out the fleet that reaches the mean exactly).
_HELD = 2e-9
HELD_MEAN = 1e-7
LEAST_FOR_TIES_S = 10.0
"""Ties may take this long, or as long as the objective did: which of two equally good fleets it is, is worth
no more. The note that they were not broken tells a plan that may differ on another machine."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A fleet that serves. ``amount`` and ``bound`` in the objective's unit, ``cost`` and its bound in USD/h.

    ``proven``: the objective, and the cost among the fleets that reach it.
    """

    counts: Counts
    flows: Flows
    amount: Fraction
    bound: Fraction
    cost: Fraction
    cost_bound: Fraction
    proven: bool
    notes: tuple[str, ...]


def solve_in_stages(
    f: Fleet, deadline: float, solver: Solver, break_ties: bool, extra: Sequence[Row] = ()
) -> Reached | None:
    """The best fleet found until ``deadline`` that keeps the ``extra`` rows too; None where there is none.

    Raises InfeasibleError where the time was over before any was found.
    """
    what = f.problem.objective
    first, begin = objective(f, what), perf_counter()
    answer = solver(build(f, first, extra), _left(deadline))
    most_for_ties = max(LEAST_FOR_TIES_S, perf_counter() - begin)
    if answer.status == INFEASIBLE:
        return None
    if not answer.values:
        raise InfeasibleError("no plan was found within the time limit; allow more time")
    bound = _bound(f, Fraction(answer.bound) * first[1] if math.isfinite(answer.bound) else None)
    by_flow = what in (ACCURACY, LATENCY)
    floor = _held(first, answer.values, "objective", HELD_MEAN if by_flow else _HELD)
    later = _Later(
        read(f, answer.values), answer.status == OPTIMAL, bound if what == USD else Fraction(0), []
    )
    if later.proven:
        _go_on(f, later, [*extra, floor], deadline, solver, most_for_ties if break_ties else 0.0)
    _check(f, later.counts)
    flows = share_out(f, later.counts, floor if by_flow else None, _runner(solver, deadline))
    if flows is None:
        raise PlannerError("the solver's fleet cannot serve: its answer is off by more than its tolerance")
    return Reached(
        counts=later.counts,
        flows=flows,
        amount=amount_of(f, later.counts, flows),
        bound=bound,
        cost=f.cost(later.counts),
        cost_bound=later.cost_bound,
        proven=later.proven,
        notes=tuple(later.notes),
    )


@dataclass(slots=True)
class _Later:
    """What the stages after the first one make of its fleet."""

    counts: Counts
    proven: bool
    cost_bound: Fraction
    notes: list[str]


def _go_on(f: Fleet, later: _Later, rows: list[Row], deadline: float, solver: Solver, ties_s: float) -> None:
    """The stages after the first, as far as the time allows; of it ties may take ``ties_s``."""
    ties = [KINDS, COUNT, SWIFTNESS] if ties_s else []
    for stage in [*([USD] if f.problem.objective != USD else []), *ties]:
        terms = objective(f, stage)
        if not terms[0]:
            continue
        if stage == KINDS:
            deadline = min(deadline, perf_counter() + ties_s)
        answer = solver(build(f, terms, rows, kinds=stage != USD), _left(deadline))
        if answer.status != OPTIMAL and stage == USD:
            later.proven = False
            return
        if answer.status != OPTIMAL:
            later.notes.append(
                "the time was over before ties were broken: an equally good fleet may be simpler"
            )
            return
        chosen = read(f, answer.values)
        # The solver may trade a hair of what was reached, within its tolerance, for a simpler fleet.
        if serves(f, chosen) and (stage == USD or f.cost(chosen) <= f.cost(later.counts)):
            later.counts = chosen
        if stage == USD:
            later.cost_bound = Fraction(answer.bound) * terms[1]
        rows.append(_held(terms, answer.values, stage))


def _bound(f: Fleet, known: Fraction | None) -> Fraction:
    """The solver's bound in the objective's unit; before it has one, what no fleet can pass."""
    if f.problem.objective != ACCURACY:
        return Fraction(0) if known is None else known
    best = max(Fraction(repr(source.candidate.quality)) for source in f.sources)
    return best if known is None else -known


def read(f: Fleet, values: Mapping[str, float]) -> Counts:
    return tuple(tuple(round(values[n(t, k)]) for k in range(len(f.columns))) for t in f.periods)


def serves(f: Fleet, counts: Counts) -> bool:
    return shortcoming(f, counts) is None and broken_limit(f, counts) is None


def amount_of(f: Fleet, counts: Counts, flows: Flows) -> Fraction:
    """What the fleet reaches in the objective's unit, in exact numbers."""
    what = f.problem.objective
    if what == USD:
        return f.cost(counts)
    if what in (ACCURACY, LATENCY):
        weighed = [(rate * f.weights[t], f.sources[s].candidate) for (t, s, _), rate in flows.items()]
        total = sum((weight for weight, _ in weighed), Fraction(0))
        worth = [c.quality if what == ACCURACY else c.latency_ns for _, c in weighed]
        return (
            sum((w * Fraction(repr(v)) for (w, _), v in zip(weighed, worth, strict=True)), Fraction(0))
            / total
        )
    terms, unit = objective(f, what)
    # Each term is n[t,k]: exact where the coefficients are whole, else to the last bits of a float.
    value = {n(t, k): count for t in f.periods for k, count in enumerate(counts[t])}
    return sum((Fraction(c) * value[name] for name, c in terms), Fraction(0)) * unit


def placements(f: Fleet, counts: Counts, flows: Flows) -> tuple[Placement, ...]:
    """By period, then by offer, packing and zone."""
    names = [period.name for period in f.problem.periods] or [""]
    found = []
    for t in f.periods:
        running = replicas(f, t, counts)
        used = [(f.columns[k], k, count) for k, count in enumerate(counts[t]) if count]
        for column, k, count in sorted(used, key=lambda u: (u[0].id, u[0].zone)):
            total: dict[str, Fraction] = {}
            by_class: list[tuple[str, str, float]] = []
            for s, per_instance in f.contents[k]:
                c = f.sources[s].candidate
                total[c.id] = Fraction(0)
                for name, _ in f.sources[s].rates_rps:
                    flow = flows.get((t, s, name), Fraction(0)) * per_instance * count / running[s]
                    total[c.id] += flow
                    if name:
                        by_class.append((c.id, name, float(flow)))
            found.append(
                Placement(
                    pattern=Pattern(column.offer.id, column.packing.replicas, column.packing.extrapolated),
                    instances=count,
                    flow_rps=tuple((i, float(rate)) for i, rate in total.items()),
                    usd_per_hour=float(f.price(k) * count),
                    period=names[t],
                    zone=column.zone,
                    class_flow_rps=tuple(by_class),
                )
            )
    return tuple(found)


def commitments(problem: Problem, placed: Iterable[Placement]) -> tuple[Commitment, ...]:
    """What these placements need of each reserved offer: as many as run in the period with most of them."""
    reserved = {offer.id: offer for offer in problem.offers if is_commitment(offer)}
    running: dict[str, dict[str, int]] = {}
    for placement in placed:
        if placement.pattern.offer_id in reserved:
            by_period = running.setdefault(placement.pattern.offer_id, {})
            by_period[placement.period] = by_period.get(placement.period, 0) + placement.instances
    most = {offer_id: max(by_period.values()) for offer_id, by_period in sorted(running.items())}
    return tuple(
        Commitment(offer_id, count, float(Fraction(repr(reserved[offer_id].usd_per_hour)) * count))
        for offer_id, count in most.items()
    )


def _check(f: Fleet, counts: Counts) -> None:
    """Raises PlannerError where the counts break a rule: an error in the planner or in its solver."""
    wrong = shortcoming(f, counts) or broken_limit(f, counts)
    if wrong is not None or min((min(row, default=0) for row in counts), default=0) < 0:
        raise PlannerError(f"the solver's fleet is wrong: {wrong or 'it holds fewer than no instances'}")


def _held(terms: Objective, values: Mapping[str, float], stage: str, slack: float = _HELD) -> Row:
    reached = sum(c * values[name] for name, c in terms[0])
    return Row(f"held[{stage}]", terms[0], None, reached + slack * max(1.0, abs(reached)))


def _runner(solver: Solver, deadline: float) -> Callable[[Program], Mapping[str, float]]:
    def run(program: Program) -> Mapping[str, float]:
        # A linear program of this size takes no time, and without it there is no plan.
        return solver(program, max(_left(deadline), 10.0)).values

    return run


def _left(deadline: float) -> float:
    return max(deadline - perf_counter(), 0.01)
