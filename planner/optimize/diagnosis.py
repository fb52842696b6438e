"""Why no plan exists, in one line that names the nearest thing that would do."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from planner.domain.problem import Problem
from planner.errors import InfeasibleError
from planner.optimize.formulation import Formulation
from planner.optimize.patterns import Column, least_demanding, misfit


def check_serveable(problem: Problem, columns: Sequence[Column]) -> None:
    """Raises InfeasibleError for the first workload that no instance of any offer can serve."""
    if not problem.offers:
        raise InfeasibleError(
            "no offers to choose from; relax the providers, regions or purchases of the fleet"
        )
    workloads = sorted(demand.workload for demand in problem.demands)
    for w, workload in enumerate(workloads):
        if not any(column.packing.rates_rps[w] > 0 for column in columns):
            raise InfeasibleError(_nothing_serves(problem, workload))


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
    devices = {candidate.device for candidate in able}
    offered = {offer.device for offer in problem.offers}
    if not devices & offered:
        return (
            f"workload {workload}: candidates run on {_names(devices)}, offers sell {_names(offered)}; "
            "profile one of those devices or admit other offers"
        )
    return _nothing_fits(problem, workload, sorted(devices & offered))


def _nothing_fits(problem: Problem, workload: str, devices: Sequence[str]) -> str:
    """Names the misfit of the least demanding candidate on the largest offer of its device."""
    able = [
        c for c in problem.candidates if c.workload == workload and c.capacity_rps > 0 and c.device in devices
    ]
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
