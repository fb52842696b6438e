"""What is told of a solution, whatever its profiles come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from planner.capacity import service_times, sojourn_percentile_ns
from planner.domain.offer import Offer
from planner.domain.plan import Margin, RunnerUp, Serving, replica_rates
from planner.domain.problem import Candidate, Demand, Problem, Rejection, Solution
from planner.domain.variant import BASELINE_RECIPE
from planner.domain.workload import Workload
from planner.optimize import runner_up
from planner.spec import Spec


def problem_of(
    workload: Workload, candidates: Iterable[Candidate], offers: Iterable[Offer], most: int | None
) -> Problem:
    """What the solver sees: of the offers those with a device that a candidate is for."""
    kept = tuple(candidates)
    devices = {candidate.device for candidate in kept}
    return Problem(
        demands=(Demand(workload.name, workload.rate_rps),),
        candidates=kept,
        offers=tuple(offer for offer in offers if offer.device in devices),
        max_instances_per_offer=most,
    )


def unserved(problem: Problem, offers: Iterable[Offer], why: str) -> list[Rejection]:
    """The devices on sale that no candidate is for, and ``why`` there is none."""
    devices = {candidate.device for candidate in problem.candidates}
    counts = Counter(offer.device for offer in offers if offer.device not in devices)
    return [Rejection("fleet", device, f"{count} offers: {why}") for device, count in sorted(counts.items())]


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


def margins(spec: Spec, accepted: list[Serving], solutions: list[Solution]) -> tuple[Margin, ...]:
    """The SLO's percentile at the rate that each replica is planned to get."""
    slo = spec.workload.slo
    by_id: Mapping[str, Serving] = {serving.candidate.id: serving for serving in accepted}
    found: dict[tuple[str, bool, float], Margin] = {}
    for placement in (p for solution in solutions for p in solution.placements):
        extrapolated = placement.pattern.extrapolated
        for candidate_id, rate in replica_rates(placement):
            key = (candidate_id, extrapolated, rate)
            if key in found:
                continue
            stretch = 1.0 + spec.packing_derating if extrapolated else 1.0
            serving = by_id[candidate_id]
            service = service_times(serving.profiles, stretch)
            sojourn = sojourn_percentile_ns(service, serving.candidate.max_batch_size, rate, slo.percentile)
            found[key] = Margin(candidate_id, extrapolated, rate, sojourn, slo.budget_ns)
    return tuple(found.values())


def solution_notes(spec: Spec, solution: Solution, problem: Problem) -> Iterator[str]:
    """What the reader must know of the solution itself before trusting it."""
    if solution.proven:
        yield from solution.notes
    else:
        yield f"Not proven optimal: stopped at the time limit, at most {solution.gap:.1%} above the optimum."
    if any(placement.pattern.extrapolated for placement in solution.placements):
        yield (
            "Extrapolated: more replicas share an instance than were measured side by side; their service "
            f"times are taken to be {spec.packing_derating:.0%} longer (fleet.packing_derating)."
        )
    offers = {offer.id: offer for offer in problem.offers}
    for placement in solution.placements:
        offer = offers[placement.pattern.offer_id]
        if offer.note:
            yield f"{offer.id}: {offer.note}"
