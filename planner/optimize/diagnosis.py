"""Why no plan exists, in one line that names the nearest thing that would do."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import perf_counter

from planner.domain.problem import ENERGY, NO_LOSS, USD, Candidate, Problem, zones_of
from planner.errors import InfeasibleError
from planner.optimize.fleet import Fleet, fleet, fleet_columns
from planner.optimize.formulation import Formulation
from planner.optimize.patterns import Column, MayServe, least_demanding, misfit
from planner.optimize.program import Solver
from planner.optimize.rows import build, objective
from planner.optimize.stages import read
from planner.optimize.supply import class_names, class_rates, figures_by_offer, lacking, per_hour
from planner.units import format_usd


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


def check_limit(problem: Problem, formulation: Formulation) -> None:
    """Raises InfeasibleError where a workload exceeds the limit even with every instance for itself."""
    f = formulation
    if f.limit is None:
        return
    for w, workload in enumerate(f.workloads):
        most: dict[str, int] = defaultdict(int)
        for column, capacity in zip(f.columns, f.capacities, strict=True):
            most[column.offer.id] = max(most[column.offer.id], capacity[w])
        reach = f.limit * sum(most.values())
        if reach < f.needs[w]:
            rate = next(demand.rate_rps for demand in problem.demands if demand.workload == workload)
            least = math.ceil(f.needs[w] / sum(most.values()))
            raise InfeasibleError(
                f"workload {workload}: {_instances(f.limit)} of each of {_offers(len(most))} serve at most "
                f"{rate * reach / f.needs[w]:.4g} of {rate:g} rps; max_instances_per_offer: {least} would do"
            )


def beyond_limit_together(formulation: Formulation, least: int | None) -> InfeasibleError:
    """Each workload fits within the limit, all of them do not; ``least`` is the limit that would do."""
    f = formulation
    assert f.limit is not None
    offers = len({column.offer.id for column in f.columns})
    remedy = f"max_instances_per_offer: {least} would do" if least else "raise max_instances_per_offer"
    return InfeasibleError(
        f"workloads {', '.join(f.workloads)}: {_instances(f.limit)} of each of {_offers(offers)} "
        f"cannot serve them together; {remedy}"
    )


_COST = "{cost}"


def in_the_way(f: Fleet, deadline: float, solver: Solver, may_serve: MayServe) -> InfeasibleError:
    """Which of the problem's limits, left out, would let it be served, and what it would take."""
    p = f.problem
    for reason, easier in _one_less(p):
        wider = fleet(easier, fleet_columns(easier, may_serve))
        answer = solver(build(wider, objective(wider, USD)), max(deadline - perf_counter(), 1.0))
        if answer.values:
            cost = wider.cost(read(wider, answer.values))
            return InfeasibleError(reason.replace(_COST, format_usd(float(cost))))
    asked = [reason.split(": ")[0] for reason, _ in _one_less(p)]
    return InfeasibleError(f"no fleet meets these together: {'; '.join(asked)}; relax more than one of them")


def _one_less(p: Problem) -> Iterator[tuple[str, Problem]]:
    """Each limit, as a reason (``_COST`` in it: what it costs without), and the problem without it."""
    if p.budget_usd_per_hour is not None:
        yield (
            f"budget_usd_per_hour {p.budget_usd_per_hour:g}: no fleet within it meets all else; {_COST} does",
            replace(p, budget_usd_per_hour=None),
        )
    for quota in p.quotas:
        others = tuple(q for q in p.quotas if q is not quota)
        yield (
            f"quota {quota.name}, at most {quota.at_most:g} {quota.unit}: too few for the demand; raise it",
            replace(p, quotas=others),
        )
    if p.max_instances_per_offer is not None:
        yield (
            f"max_instances_per_offer {p.max_instances_per_offer}: too few to serve the demand; raise it",
            replace(p, max_instances_per_offer=None),
        )
    if p.max_kinds is not None:
        yield f"max_kinds {p.max_kinds}: the demand needs more; raise it", replace(p, max_kinds=None)
    if p.min_zones:
        zones = {zone for offer in p.offers for zone in zones_of(offer)}
        yield (
            f"min_zones {p.min_zones}: what can serve is not in so many (all offers: {len(zones)}); "
            "lower it or admit more regions",
            replace(p, min_zones=0),
        )
    for demand in p.demands:
        who = f"workload {demand.workload}"
        others_too = tuple(d for d in p.demands if d is not demand)
        if demand.redundancy != NO_LOSS:
            eased = replace(demand, redundancy=NO_LOSS)
            yield (
                f"{who}, redundancy {demand.redundancy}: no fleet survives that; relax it, or add offers",
                replace(p, demands=(*others_too, eased)),
            )
        if demand.max_spot_share < 1:
            eased = replace(demand, max_spot_share=1.0)
            yield (
                f"{who}, max_spot_share {demand.max_spot_share:g}: the rest cannot serve its part; "
                "raise it, or admit more offers",
                replace(p, demands=(*others_too, eased)),
            )
        if demand.min_mean_quality is not None:
            eased = replace(demand, min_mean_quality=-1e9)
            yield (
                f"{who}, min_mean_quality {demand.min_mean_quality:g}: no mix of candidates reaches it; "
                "relax it, or add better ones",
                replace(p, demands=(*others_too, eased)),
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


def _instances(count: int) -> str:
    return f"{count} {'instance' if count == 1 else 'instances'}"


def _offers(count: int) -> str:
    return f"{count} {'offer' if count == 1 else 'offers'}"
