"""What is told of a solution, whatever its profiles come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime

from planner.capacity import replica_of, sojourn_percentile_at
from planner.catalog import Catalog, stale
from planner.domain.offer import Offer
from planner.domain.plan import Margin, RunnerUp, Serving, replica_rates
from planner.domain.problem import Candidate, Problem, Rejection, Solution
from planner.domain.variant import BASELINE_RECIPE
from planner.domain.workload import SATURATED
from planner.optimize import runner_up
from planner.spec import Fleet


def unserved(problem: Problem, offers: Iterable[Offer], why: str) -> list[Rejection]:
    """The devices on sale that no candidate is for, and ``why`` there is none."""
    devices = {candidate.device for candidate in problem.candidates}
    counts = Counter(offer.device for offer in offers if offer.device not in devices)
    return [Rejection("fleet", device, f"{count} offers: {why}") for device, count in sorted(counts.items())]


def why_not_sold(name: str, catalog: Catalog) -> str:
    """Of a device that there are profiles of and no offer within the limits has."""
    if name not in {device.name for device in catalog.devices}:
        return f"the catalog has no device {name}; say in imported.sold_as which of its devices it is"
    if any(offer.device == name for offer in catalog.offers):
        return "no offer with it within the fleet limits; widen providers, regions or purchase"
    return "no offer in the catalog has it; add your own with fleet.catalog"


def is_baseline(candidate: Candidate) -> bool:
    """Whether the candidate is what one has without optimising: fp32, one instance, one request at a time."""
    alone = candidate.max_batch_size == 1 and candidate.instances == 1
    return candidate.variant == BASELINE_RECIPE and alone


def second_best(problem: Problem, solution: Solution) -> RunnerUp:
    found = runner_up(problem, solution)
    without = f"{found.winner.candidate_id} on {found.winner.provider} {found.winner.instance_type}"
    return RunnerUp(found.solution, without, found.reason)


def used_offers(problem: Problem, solutions: list[Solution]) -> tuple[Offer, ...]:
    used = {p.pattern.offer_id for solution in solutions for p in solution.placements}
    return tuple(offer for offer in problem.offers if offer.id in used)


def margins(fleet: Fleet, accepted: Iterable[Serving], solutions: Iterable[Solution]) -> tuple[Margin, ...]:
    """The SLO's percentile at the rate that each replica is planned to get, and its share of its workload.

    Of two periods in which the rate is the same and the share is not, the worse one.
    """
    workloads = {spec.workload.name: spec.workload for spec in fleet.services}
    names = [period.name for period in fleet.periods]
    by_id: Mapping[str, Serving] = {serving.candidate.id: serving for serving in accepted}
    found: dict[tuple[str, bool, float], Margin] = {}
    seen: set[tuple[object, ...]] = set()
    for placement in (p for solution in solutions for p in solution.placements):
        extrapolated = placement.pattern.extrapolated
        for candidate_id, rate in replica_rates(placement):
            serving = by_id[candidate_id]
            workload = workloads[serving.candidate.workload]
            by_period = dict(zip(names, workload.rates_rps, strict=False))
            of_rps = by_period.get(placement.period, workload.rate_rps)
            classes = {name: flow for i, name, flow in placement.class_flow_rps if i == candidate_id}
            mix = tuple(round(flow / sum(classes.values()), 9) for flow in classes.values() if flow)
            if (candidate_id, extrapolated, rate, of_rps, mix) in seen:
                continue
            seen.add((candidate_id, extrapolated, rate, of_rps, mix))
            stretch = 1.0 + fleet.packing_derating if extrapolated else 1.0
            replica = replica_of(serving, workload, stretch, classes or None)
            sojourn = sojourn_percentile_at(replica, workload, rate, of_rps)
            margin = Margin(candidate_id, extrapolated, rate, sojourn, workload.slo.budget_ns)
            key = (candidate_id, extrapolated, rate)
            found[key] = max(margin, found.get(key, margin), key=lambda m: m.sojourn_ns)
    return tuple(found.values())


def _capacity_notes(fleet: Fleet) -> Iterator[str]:
    ignoring = [spec.workload.name for spec in fleet.services if spec.workload.capacity == SATURATED]
    if ignoring:
        yield (
            f"Queues are ignored for {', '.join(ignoring)} (workload.capacity: saturated): these capacities "
            "hold no SLO, they are for comparison."
        )


def solution_notes(
    fleet: Fleet, solution: Solution, problem: Problem, today: date | None = None
) -> Iterator[str]:
    """What the reader must know of the solution itself before trusting it; ``today`` judges its prices."""
    yield from solution.notes
    if not solution.proven:
        yield f"Not proven optimal: stopped at the time limit, at most {solution.gap:.1%} above the optimum."
    yield from _capacity_notes(fleet)
    if any(placement.pattern.extrapolated for placement in solution.placements):
        yield (
            "Extrapolated: more replicas share an instance than were measured side by side; their service "
            f"times are taken to be {fleet.packing_derating:.0%} longer (fleet.packing_derating)."
        )
    offers = {offer.id: offer for offer in problem.offers}
    for offer_id in dict.fromkeys(placement.pattern.offer_id for placement in solution.placements):
        offer = offers[offer_id]
        if offer.note:
            yield f"{offer.id}: {offer.note}"
    yield from stale(used_offers(problem, [solution]), today or datetime.now(UTC).date())
