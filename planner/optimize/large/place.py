"""Placements out of a purchase: who gets which rate, checked from the problem alone in exact numbers."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from planner.domain.problem import Commitment, Pattern, Placement, Problem
from planner.errors import PlannerError
from planner.optimize.formulation import SHORTFALL
from planner.optimize.large.market import Market
from planner.optimize.large.packing import Load
from planner.optimize.large.purchase import Purchase
from planner.optimize.patterns import fits, replica_rate_rps, runs_alone
from planner.optimize.stages import commitments


def place(m: Market, bought: Purchase) -> tuple[tuple[Placement, ...], tuple[Commitment, ...], Fraction]:
    """The placements by offer and what it runs, commitments, and the price in USD per hour.

    Every replica of a workload runs at the same utilisation. Raises PlannerError where a rule of the problem
    is broken: an error in the planner.
    """
    p = m.problem
    candidate_of = {candidate.id: candidate for candidate in p.candidates}
    figures = {f.offer_id: Fraction(repr(f.availability)) for f in p.figures}
    rows = sorted(bought.loads, key=lambda row: (m.offers[row[0]].id, row[1]))
    total: dict[str, Fraction] = defaultdict(Fraction)
    patterns: list[Pattern] = []
    rates: list[list[tuple[str, Fraction]]] = []
    for o, load, count in rows:
        offer = m.offers[o]
        pattern = Pattern(offer.id, load, not runs_alone(load, candidate_of))
        if not fits(dict(load), candidate_of, offer):
            raise PlannerError(f"the plan runs {load} on {offer.id}, where that does not fit")
        mine = []
        for i, replicas in load:
            rate = Fraction(replica_rate_rps(candidate_of[i], pattern)) * figures.get(offer.id, Fraction(1))
            mine.append((i, rate * replicas * count))
            total[candidate_of[i].workload] += mine[-1][1]
        patterns.append(pattern)
        rates.append(mine)
    rate_of = {demand.workload: Fraction(demand.rate_rps) for demand in p.demands}
    for workload, rate in rate_of.items():
        if total[workload] < rate * (1 - SHORTFALL):
            raise PlannerError(
                f"the plan serves {float(total[workload]):g} rps of {workload}, not {float(rate):g}"
            )
    _check_limits(p, m, rows)
    placements: list[Placement] = []
    cost = Fraction(0)
    for (o, _, count), pattern, mine in zip(rows, patterns, rates, strict=True):
        price = Fraction(repr(m.offers[o].usd_per_hour)) * count
        cost += price
        flows = tuple(
            (i, float(rate * rate_of[candidate_of[i].workload] / total[candidate_of[i].workload]))
            for i, rate in mine
        )
        placements.append(Placement(pattern, count, flows, float(price)))
    return tuple(placements), commitments(p, placements), cost


def _check_limits(p: Problem, m: Market, rows: list[tuple[int, Load, int]]) -> None:
    instances: dict[int, int] = defaultdict(int)
    for o, _, count in rows:
        instances[o] += count
    most = p.max_instances_per_offer
    if most is not None and max(instances.values(), default=0) > most:
        raise PlannerError("the plan holds more instances of an offer than its limit allows")
    for quota in p.quotas:
        used = sum(
            Fraction(quota.counts(m.offers[o])) * count
            for o, count in instances.items()
            if quota.selects(m.offers[o])
        )
        if used > Fraction(quota.at_most):
            raise PlannerError(f"the plan takes {float(used):g} of quota {quota.name}")
