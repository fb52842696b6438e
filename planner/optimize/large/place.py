"""Placements out of a purchase: who gets which rate, checked from the problem alone in exact numbers."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from planner.domain.problem import Candidate, Commitment, Pattern, Placement, Problem, is_commitment
from planner.errors import PlannerError
from planner.optimize.formulation import SHORTFALL
from planner.optimize.large.market import Market
from planner.optimize.large.packing import Load
from planner.optimize.large.purchase import Purchase
from planner.optimize.patterns import fits, replica_rate_rps


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
    rates: list[list[tuple[str, Fraction]]] = []
    for o, load, count in rows:
        offer = m.offers[o]
        pattern = _pattern(offer.id, load, candidate_of)
        if not fits(dict(load), candidate_of, offer):
            raise PlannerError(f"the plan runs {load} on {offer.id}, where that does not fit")
        mine = []
        for i, replicas in load:
            rate = Fraction(replica_rate_rps(candidate_of[i], pattern)) * figures.get(offer.id, Fraction(1))
            mine.append((i, rate * replicas * count))
            total[candidate_of[i].workload] += mine[-1][1]
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
    bought_of: dict[int, int] = defaultdict(int)
    for (o, load, count), mine in zip(rows, rates, strict=True):
        offer = m.offers[o]
        price = Fraction(repr(offer.usd_per_hour)) * count
        cost += price
        bought_of[o] += count
        flows = tuple(
            (i, float(rate * rate_of[candidate_of[i].workload] / total[candidate_of[i].workload]))
            for i, rate in mine
        )
        placements.append(Placement(_pattern(offer.id, load, candidate_of), count, flows, float(price)))
    commitments = tuple(
        Commitment(m.offers[o].id, count, float(Fraction(repr(m.offers[o].usd_per_hour)) * count))
        for o, count in sorted(bought_of.items(), key=lambda pair: m.offers[pair[0]].id)
        if is_commitment(m.offers[o])
    )
    return tuple(placements), commitments, cost


def _pattern(offer_id: str, load: Load, candidate_of: dict[str, Candidate]) -> Pattern:
    alone = len(load) == 1 and load[0][1] <= candidate_of[load[0][0]].side_by_side
    return Pattern(offer_id, load, not alone)


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
