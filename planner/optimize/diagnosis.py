"""Why a workload cannot be served at all, whatever the limits: in one line, with the nearest miss."""

from __future__ import annotations

from collections.abc import Sequence

from planner.domain.problem import ENERGY, Candidate, Problem
from planner.errors import InfeasibleError
from planner.optimize.patterns import Column, least_demanding, misfit
from planner.optimize.supply import class_names, class_rates, figures_by_offer, lacking, per_hour


def check_serveable(problem: Problem, columns: Sequence[Column]) -> None:
    """Raises InfeasibleError for the first workload, or class of one, that no instance can serve."""
    if not problem.offers:
        raise InfeasibleError(
            "no offers to choose from; relax the providers, regions or purchases of the fleet"
        )
    figures = figures_by_offer(problem)
    if all(per_hour(problem, figures[offer.id]) is None for offer in problem.offers):
        what = "power_w" if problem.objective == ENERGY else "carbon_g_per_hour"
        raise InfeasibleError(
            f"of none of the {_offers(len(problem.offers))} {what} is known; add it to the figures, "
            "or choose another objective"
        )
    candidate_of = {candidate.id: candidate for candidate in problem.candidates}
    able = {candidate_of[i] for column in columns for i, _ in column.packing.replicas}
    for demand in sorted(problem.demands, key=lambda d: d.workload):
        mine = [candidate for candidate in able if candidate.workload == demand.workload]
        if not mine:
            raise InfeasibleError(_nothing_serves(problem, demand.workload))
        served = {name for candidate in mine for name in class_rates(candidate, demand)}
        for name in class_names(demand):
            if name not in served:
                raise InfeasibleError(
                    f"workload {demand.workload}: no candidate that fits an offer serves class {name}"
                )


def _nothing_serves(problem: Problem, workload: str) -> str:
    mine = [candidate for candidate in problem.candidates if candidate.workload == workload]
    if not mine:
        return (
            f"workload {workload}: no candidates; nothing met the SLO and the accuracy floor, "
            "see the rejections and relax one of them"
        )
    able = [candidate for candidate in mine if candidate.capacity_rps > 0]
    if not able:
        return f"workload {workload}: all {len(mine)} candidates have a capacity of 0 rps; relax the SLO"
    demand = next(d for d in problem.demands if d.workload == workload)
    reasons = [lacking(problem, demand, candidate) for candidate in able]
    if None not in reasons:
        return f"workload {workload}: none of {len(able)} candidates can be planned with: {reasons[0]}"
    able = [c for c, reason in zip(able, reasons, strict=True) if reason is None]
    devices = {candidate.device for candidate in able}
    offered = {offer.device for offer in problem.offers}
    if not devices & offered:
        return (
            f"workload {workload}: candidates run on {_names(devices)}, offers sell {_names(offered)}; "
            "profile one of those devices or admit other offers"
        )
    return _nothing_fits(problem, workload, [c for c in able if c.device in offered])


def _nothing_fits(problem: Problem, workload: str, able: Sequence[Candidate]) -> str:
    """Names the misfit of the least demanding of ``able`` on the largest offer of its device."""
    devices = {candidate.device for candidate in able}
    candidate = least_demanding(able)[0]
    offers = [offer for offer in problem.offers if offer.device == candidate.device]
    largest = max(
        offers, key=lambda offer: (offer.device_count, offer.vcpus, offer.memory_bytes or 0, offer.id)
    )
    reason = misfit(candidate, largest) or "it is kept from running there"
    return (
        f"workload {workload}: no replica fits any of {_offers(len(offers))} on {_names(devices)}; "
        f"nearest: {candidate.id} on {largest.id}: {reason}"
    )


def _names(devices: set[str] | Sequence[str]) -> str:
    shown = sorted(devices)
    return ", ".join(shown) if len(shown) <= 6 else f"{', '.join(shown[:6])} and {len(shown) - 6} more"


def _offers(count: int) -> str:
    return f"{count} {'offer' if count == 1 else 'offers'}"
