"""What is told of a solution, whatever its profiles come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime

from planner.capacity import service_times, sojourn_percentile_ns
from planner.catalog import Catalog, stale
from planner.domain.offer import Offer
from planner.domain.plan import Margin, RunnerUp, Serving, replica_rates
from planner.domain.problem import Candidate, Problem, Rejection, Solution
from planner.domain.variant import BASELINE_RECIPE
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
    """Whether the candidate is what one has without optimising: fp32, one request at a time."""
    return candidate.variant == BASELINE_RECIPE and candidate.max_batch_size == 1


def second_best(problem: Problem, solution: Solution) -> RunnerUp:
    found = runner_up(problem, solution)
    without = f"{found.winner.candidate_id} on {found.winner.provider} {found.winner.instance_type}"
    return RunnerUp(found.solution, without, found.reason)


def used_offers(problem: Problem, solutions: list[Solution]) -> tuple[Offer, ...]:
    used = {p.pattern.offer_id for solution in solutions for p in solution.placements}
    return tuple(offer for offer in problem.offers if offer.id in used)


def margins(fleet: Fleet, accepted: Iterable[Serving], solutions: Iterable[Solution]) -> tuple[Margin, ...]:
    """The SLO's percentile at the rate that each replica is planned to get."""
    slos = {spec.workload.name: spec.workload.slo for spec in fleet.services}
    by_id: Mapping[str, Serving] = {serving.candidate.id: serving for serving in accepted}
    found: dict[tuple[str, bool, float], Margin] = {}
    for placement in (p for solution in solutions for p in solution.placements):
        extrapolated = placement.pattern.extrapolated
        for candidate_id, rate in replica_rates(placement):
            key = (candidate_id, extrapolated, rate)
            if key in found:
                continue
            stretch = 1.0 + fleet.packing_derating if extrapolated else 1.0
            serving = by_id[candidate_id]
            slo = slos[serving.candidate.workload]
            service = service_times(serving.profiles, stretch)
            sojourn = sojourn_percentile_ns(service, serving.candidate.max_batch_size, rate, slo.percentile)
            found[key] = Margin(candidate_id, extrapolated, rate, sojourn, slo.budget_ns)
    return tuple(found.values())


def solution_notes(
    fleet: Fleet, solution: Solution, problem: Problem, today: date | None = None
) -> Iterator[str]:
    """What the reader must know of the solution itself before trusting it; ``today`` judges its prices."""
    if solution.proven:
        yield from solution.notes
    else:
        yield f"Not proven optimal: stopped at the time limit, at most {solution.gap:.1%} above the optimum."
    if any(placement.pattern.extrapolated for placement in solution.placements):
        yield (
            "Extrapolated: more replicas share an instance than were measured side by side; their service "
            f"times are taken to be {fleet.packing_derating:.0%} longer (fleet.packing_derating)."
        )
    offers = {offer.id: offer for offer in problem.offers}
    for placement in solution.placements:
        offer = offers[placement.pattern.offer_id]
        if offer.note:
            yield f"{offer.id}: {offer.note}"
    yield from stale(used_offers(problem, [solution]), today or datetime.now(UTC).date())
