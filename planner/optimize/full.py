"""What a request costs by one candidate alone, on the instance where it is cheapest and always full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Problem
from planner.errors import PlannerError
from planner.optimize.patterns import Column, columns, replica_rate_rps
from planner.units import usd_per_million_requests


@dataclass(frozen=True, slots=True)
class Full:
    """``replicas`` of a candidate on one instance of the offer, and what these take together."""

    offer: Offer
    replicas: int
    rate_rps: float
    usd_per_million_requests: float


def cheapest_when_full(problem: Problem) -> Mapping[str, Full]:
    """By candidate id; those that fit into no offer are left out. Limits and demand are not looked at."""
    offers = _cheapest_of_each_shape(problem.offers)
    found = {}
    for candidate in problem.candidates:
        sold = tuple(offer for offer in offers if offer.device == candidate.device)
        ways = [_full(candidate, column) for column in _columns(problem, candidate, sold)]
        if ways:
            found[candidate.id] = min(ways, key=lambda way: (way.usd_per_million_requests, way.offer.id))
    return found


def _cheapest_of_each_shape(offers: Iterable[Offer]) -> list[Offer]:
    """Of the same machine in several regions, the cheapest one."""
    best: dict[tuple[object, ...], Offer] = {}
    for offer in sorted(offers, key=lambda offer: (offer.usd_per_hour, offer.id)):
        best.setdefault((offer.device, offer.device_count, offer.vcpus, offer.memory_bytes), offer)
    return list(best.values())


def _columns(problem: Problem, candidate: Candidate, offers: tuple[Offer, ...]) -> tuple[Column, ...]:
    asked = tuple(demand for demand in problem.demands if demand.workload == candidate.workload)
    known = {offer.id for offer in offers}
    alone = replace(
        problem,
        demands=asked,
        candidates=(candidate,),
        offers=offers,
        figures=tuple(figures for figures in problem.figures if figures.offer_id in known),
        keep=None,
    )
    try:
        return columns(alone)
    except PlannerError:
        # What the plan did without for its figures, as its rejections say.
        return ()


def _full(candidate: Candidate, column: Column) -> Full:
    [(_, replicas)] = column.packing.replicas
    rate = replica_rate_rps(candidate, column.pattern) * replicas
    price = column.offer.usd_per_hour
    return Full(column.offer, replicas, rate, usd_per_million_requests(price, rate))
