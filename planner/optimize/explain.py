"""Why this plan and not another one: the runner-up, and what no optimization at all would cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.domain.offer import Offer
from planner.domain.problem import ACCURACY, CARBON, ENERGY, LATENCY, Candidate, Placement, Problem, Solution
from planner.errors import InfeasibleError
from planner.optimize.patterns import replica_rate_rps
from planner.optimize.program import Solver
from planner.optimize.solve import run_highs, solve
from planner.optimize.supply import is_plain
from planner.units import format_usd, usd_per_million_requests


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate on an offer, as a plan runs it. ``replicas`` are those on one instance.

    ``usd_per_million_requests`` is the price of one instance over all that its pattern takes at full
    capacity.
    """

    candidate_id: str
    offer_id: str
    provider: str
    instance_type: str
    replicas: int
    replica_capacity_rps: float
    usd_per_hour: float
    usd_per_million_requests: float


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """The cheapest plan without the ``winner``: its candidate on its instance type, in any region.

    ``solution``, ``choice`` and ``extra_usd_per_hour`` are None where there is no such plan. ``choice``
    is what takes the largest flow there.
    """

    winner: Choice
    solution: Solution | None
    choice: Choice | None
    extra_usd_per_hour: float | None
    reason: str


def runner_up(
    problem: Problem, solution: Solution, time_limit_s: float = 60.0, *, solver: Solver = run_highs
) -> RunnerUp:
    """The best plan that does without what takes the largest flow in ``solution``, and why it lost."""
    winner = main_choice(problem, solution)

    def not_the_winner(candidate: Candidate, offer: Offer) -> bool:
        return candidate.id != winner.candidate_id or (offer.provider, offer.instance_type) != (
            winner.provider,
            winner.instance_type,
        )

    try:
        # Which of two equally good runners-up it is tells nothing, and may take longer to find than either.
        other = solve(
            replace(problem, keep=None),
            time_limit_s,
            may_serve=not_the_winner,
            solver=solver,
            break_ties=is_plain(problem),
        )
    except InfeasibleError as error:
        reason = f"without {winner.candidate_id} on {winner.instance_type} there is no plan: {error}"
        return RunnerUp(winner, None, None, None, reason)
    choice = main_choice(problem, other)
    extra = other.usd_per_hour - solution.usd_per_hour
    return RunnerUp(winner, other, choice, extra, _reason(solution, other, winner, choice))


def baseline(
    problem: Problem,
    keep: Callable[[Candidate], bool],
    time_limit_s: float = 60.0,
    *,
    solver: Solver = run_highs,
) -> Solution | None:
    """The cheapest plan of the candidates that ``keep`` admits; None where these cannot serve the demand."""
    kept = tuple(candidate for candidate in problem.candidates if keep(candidate))
    try:
        return solve(
            replace(problem, candidates=kept, keep=None), time_limit_s, solver=solver, diagnose=False
        )
    except InfeasibleError:
        return None


_UNPROVEN = "the plan is not proven optimal, allow more time"
_AMOUNTS = {
    ENERGY: "a power in W",
    CARBON: "g of CO2 per hour",
    ACCURACY: "a mean quality",
    LATENCY: "a mean latency in ns",
}


def main_choice(problem: Problem, solution: Solution) -> Choice:
    """The candidate and instance type with the largest flow, the mean over the periods; of equal ones, that
    with the smaller ids.

    Where they run in several patterns or regions, the one with the largest flow is described.
    """
    hours = {period.name: period.hours for period in problem.periods}
    offer_of = {offer.id: offer for offer in problem.offers}
    flows: dict[tuple[str, str, str], list[tuple[float, Placement]]] = defaultdict(list)
    for placement in solution.placements:
        offer = offer_of[placement.pattern.offer_id]
        for candidate_id, flow in placement.flow_rps:
            weighed = flow * hours.get(placement.period, 1.0)
            flows[candidate_id, offer.provider, offer.instance_type].append((weighed, placement))
    largest = min(flows, key=lambda key: (-sum(flow for flow, _ in flows[key]), key))
    _, placement = min(
        flows[largest], key=lambda pair: (-pair[0], pair[1].pattern.offer_id, pair[1].pattern.replicas)
    )
    return _choice(problem, largest[0], offer_of[placement.pattern.offer_id], placement)


def _choice(problem: Problem, candidate_id: str, offer: Offer, placement: Placement) -> Choice:
    candidate_of = {candidate.id: candidate for candidate in problem.candidates}
    pattern = placement.pattern
    full = sum(replica_rate_rps(candidate_of[i], pattern) * count for i, count in pattern.replicas)
    return Choice(
        candidate_id=candidate_id,
        offer_id=offer.id,
        provider=offer.provider,
        instance_type=offer.instance_type,
        replicas=dict(pattern.replicas)[candidate_id],
        replica_capacity_rps=replica_rate_rps(candidate_of[candidate_id], pattern),
        usd_per_hour=offer.usd_per_hour,
        usd_per_million_requests=usd_per_million_requests(offer.usd_per_hour, full),
    )


def _reason(best: Solution, other: Solution, winner: Choice, choice: Choice) -> str:
    extra = other.usd_per_hour - best.usd_per_hour
    unproven = "no more than leaving the present plan takes" if best.kept else _UNPROVEN
    if other.amount is not None and best.amount is not None and other.amount != best.amount:
        better = (other.amount > best.amount) == (best.objective == ACCURACY)
        doubt = f": {unproven}" if better else ""
        verdict = (
            f"reaches {_AMOUNTS[best.objective]} of {other.amount:.4g} instead of {best.amount:.4g}{doubt}"
        )
    elif extra > 0:
        verdict = f"costs {format_usd(extra)} more per hour ({extra / best.usd_per_hour:+.1%})"
    elif extra == 0:
        verdict = "costs the same per hour, and comes after by kinds, instances or ids"
    else:
        verdict = f"costs {format_usd(-extra)} less per hour: {unproven}"
    return f"{verdict}: {_described(choice)}, against {_described(winner)}"


def _described(choice: Choice) -> str:
    return (
        f"{choice.replicas} × {choice.candidate_id} on {choice.instance_type} "
        f"({choice.replica_capacity_rps:.4g} rps each, "
        f"{format_usd(choice.usd_per_million_requests)} per million when full)"
    )
