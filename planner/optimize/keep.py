"""The present plan: whether it still holds, and whether a better one is worth leaving it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from planner.domain.problem import ACCURACY, LATENCY, Placement, Problem, zones_of
from planner.optimize.fleet import Counts, Fleet, broken_limit, fleet, shortcoming, zones_matter
from planner.optimize.flows import share_out
from planner.optimize.patterns import Column, fits, packed, usable_candidates
from planner.optimize.program import OPTIMAL, Program, Row, Solver
from planner.optimize.rows import build, fixed, objective
from planner.optimize.stages import HELD_MEAN, Reached, amount_of
from planner.optimize.supply import axes_of, figures_by_offer, per_hour


class NoLongerError(Exception):
    """The present plan does not hold any more; the message says why."""


def present(
    problem: Problem, placements: Sequence[Placement], time_limit_s: float, solver: Solver
) -> tuple[Fleet, Reached]:
    """The fleet of an earlier plan under the present problem, with its flows balanced anew.

    Raises NoLongerError where it names what is gone, breaks a limit, or does not serve.
    """
    f, counts = _fleet(problem, placements)
    wrong = shortcoming(f, counts) or broken_limit(f, counts)
    if wrong is not None:
        raise NoLongerError(wrong)
    what = objective(f, problem.objective)
    answer = solver(build(f, what, fixed(f, counts)), time_limit_s)
    if answer.status != OPTIMAL:
        raise NoLongerError("it does not serve as asked for")
    floor = None
    if problem.objective in (ACCURACY, LATENCY):
        reached = sum(c * answer.values[name] for name, c in what[0])
        floor = Row("held", what[0], None, reached + HELD_MEAN * max(1.0, abs(reached)))

    def run(program: Program) -> Mapping[str, float]:
        return solver(program, time_limit_s).values

    flows = share_out(f, counts, floor, run)
    if flows is None:
        raise NoLongerError("it does not serve as asked for")
    amount, cost = amount_of(f, counts, flows), f.cost(counts)
    return f, Reached(counts, flows, amount, amount, cost, cost, True, ())


def saving(problem: Problem, now: Fraction, best: Fraction) -> Fraction:
    """By what share of the present amount the best one is better."""
    better = best - now if problem.objective == ACCURACY else now - best
    return better / abs(now) if now else Fraction(0)


def _fleet(problem: Problem, placements: Sequence[Placement]) -> tuple[Fleet, Counts]:
    offers = {offer.id: offer for offer in problem.offers}
    usable = {c.id: c for mine in usable_candidates(problem).values() for c in mine}
    axes, figures = axes_of(problem, usable.values()), figures_by_offer(problem)
    names = [period.name for period in problem.periods] or [""]
    zoned = zones_matter(problem)
    held: dict[tuple[str, str, tuple[tuple[str, int], ...]], dict[int, int]] = defaultdict(
        lambda: defaultdict(int)
    )
    for placement in placements:
        offer = offers.get(placement.pattern.offer_id)
        if offer is None or per_hour(problem, figures[offer.id]) is None:
            raise NoLongerError(f"{placement.pattern.offer_id} is not on offer")
        for candidate_id, _ in placement.pattern.replicas:
            if candidate_id not in usable:
                raise NoLongerError(f"{candidate_id} is no candidate")
        if not fits(dict(placement.pattern.replicas), usable, offer):
            raise NoLongerError(f"its replicas do not fit {offer.id}")
        if placement.period not in names:
            raise NoLongerError(f"there is no period {placement.period or 'without a name'}")
        if zoned and placement.zone not in zones_of(offer):
            raise NoLongerError(f"{offer.id} is not in zone {placement.zone or 'without a name'}")
        key = (offer.id, placement.zone if zoned else "", tuple(sorted(placement.pattern.replicas)))
        held[key][names.index(placement.period)] += placement.instances
    columns = tuple(
        Column(offers[offer_id], packed(dict(replicas), usable, axes), zone)
        for offer_id, zone, replicas in sorted(held)
    )
    counts = tuple(tuple(held[key][t] for key in sorted(held)) for t in range(len(names)))
    return replace(fleet(problem, columns), most=counts), counts
