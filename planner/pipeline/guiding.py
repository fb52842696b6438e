"""Guided profiling of a plan: which measurements the cheapest fleet asks for, and what comes of them.

``Market`` is the solver's side: what the cheapest fleet uses, for capacities known so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from planner.capacity import candidate_id, cannot_serve, capacity, capacity_interval, serving
from planner.domain.offer import Offer
from planner.domain.plan import Serving
from planner.domain.problem import Candidate, Problem, Rejection, Solution
from planner.domain.profile import Configuration
from planner.domain.progress import Progress
from planner.domain.variant import BASELINE_RECIPE
from planner.domain.workload import Workload
from planner.errors import InfeasibleError
from planner.optimize import solve
from planner.pipeline.blocked import blocked_by_slo
from planner.pipeline.inputs import Prepared
from planner.pipeline.solution import problem_of
from planner.pipeline.steps import Measurable
from planner.profiling.bench import Bench
from planner.profiling.campaign import Campaign
from planner.profiling.guided import (
    Bounded,
    Choice,
    Group,
    Guided,
    Level,
    Measures,
    Service,
    all_choices,
    guide,
)

CLOSED = 1e-6
"""A gap no wider than the solver's tolerance counts as closed."""


@dataclass(frozen=True, slots=True)
class Found:
    """What may serve, and the proof that nothing else would be cheaper.

    ``servings``: all that was measured in full; ``used``: the ids of those that the optimum chose, by fresh
    samples. ``bound_usd_per_hour`` holds for every candidate, measured or not.
    """

    servings: tuple[Serving, ...]
    used: frozenset[str]
    bound_usd_per_hour: float
    proven: bool
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...]

    def confirmed(self, problem: Problem) -> Problem:
        """The problem with nothing but what fresh samples confirmed: the optimum is among it."""
        return replace(problem, candidates=tuple(c for c in problem.candidates if c.id in self.used))

    def within(self, solution: Solution) -> Solution:
        """The solution with the bound over all candidates in place of that over the confirmed ones."""
        bound = min(solution.bound_usd_per_hour, self.bound_usd_per_hour)
        cost = solution.usd_per_hour
        if bound >= cost * (1 - CLOSED):
            bound = cost
        proven = solution.proven and self.proven and bound == cost
        return replace(
            solution, bound_usd_per_hour=bound, gap=(cost - bound) / cost if cost else 0.0, proven=proven
        )


def optimum(
    prepared: Prepared,
    here: Measurable,
    offers: tuple[Offer, ...],
    time_limit_s: float,
    exhaustive: bool,
    progress: Progress,
) -> Found:
    """Measure what the cheapest fleet depends on, everything if ``exhaustive``.

    Raises InfeasibleError where no fleet serves, BackendError where nothing could be measured.
    """
    spec, bench, slo = prepared.spec, here.bench, prepared.spec.workload.slo
    device = prepared.sold_as.device.name
    groups = {group.name: group for group in here.groups}
    stretch = 1.0 + spec.packing_derating
    market = Market(
        spec.workload,
        offers,
        spec.limits.max_instances_per_offer,
        groups,
        lambda c: device,
        lambda c: bench.profiles[c].memory_bytes if c in bench.profiles else 0,
        time_limit_s,
    )

    def capacity_rps(service: Service, largest: int) -> tuple[float, float]:
        ends = capacity_interval(service, largest, slo.percentile, slo.budget_ns)
        if ends.rate_rps <= 0:
            return 0.0, 0.0
        stretched = {b: tuple(round(ns * stretch) for ns in s) for b, s in service.items()}
        packed = capacity(stretched, largest, slo.percentile, slo.budget_ns).rate_rps
        return ends.low_rps, packed * ends.low_rps / ends.rate_rps

    measures = Measures(lambda c: 0.0, bench.probe, bench.full, capacity_rps, slo.budget_ns, stretch)
    always = all_choices(here.groups, measures) if exhaustive else _baselines(here)
    solution: Solution | None = None

    def used(bounds: Sequence[Bounded]) -> frozenset[Choice] | None:
        nonlocal solution
        solution, choices = market.optimum(bounds) or (None, None)
        return choices

    guided = guide(here.groups, measures, used, always=always)
    failures = tuple(Rejection("profile", name, reason) for name, reason in guided.failed.items())
    levels = {b.choice: b for b in guided.bounds}
    servings = [
        serving(
            spec.workload,
            tuple(bench.profiles[c] for c in groups[choice.group].prefix(choice.count)),
            spec.packing_derating,
            device,
        )
        for choice, bounded in levels.items()
        if bounded.level >= Level.MEASURED
    ]
    if solution is None or guided.used is None:
        raise InfeasibleError(_blocked(prepared, bench, servings, failures, market, guided.bounds))
    ids = {choice: candidate.id for choice, candidate in market.candidates(guided.bounds)}
    return Found(
        tuple(s for s in servings if s.candidate.capacity_rps > 0),
        frozenset(ids[choice] for choice in guided.used),
        solution.bound_usd_per_hour,
        solution.proven,
        (*failures, *_left_out(guided, groups, market, servings, spec.workload)),
        tuple(_spared(guided, groups)),
    )


def _baselines(here: Measurable) -> list[Choice]:
    """fp32, one request at a time: what savings are counted from."""
    return [
        Choice(group.name, 1)
        for group in here.groups
        if group.configurations[0].variant == BASELINE_RECIPE and group.configurations[0].batch_size == 1
    ]


def _blocked(
    prepared: Prepared,
    bench: Bench,
    servings: Sequence[Serving],
    failures: tuple[Rejection, ...],
    market: Market,
    bounds: Sequence[Bounded],
) -> str:
    """Why no fleet serves: nothing holds the SLO, or the fleet's limits do not allow enough of it."""
    if any(b.capacity_rps > 0 for b in bounds):
        try:
            solve(market.problem(bounds), market.time_limit_s, break_ties=False)
        except InfeasibleError as error:
            return str(error)
    full = tuple(p for s in servings for p in s.profiles)
    campaign = Campaign(full, tuple(bench.profiles.values()), failures, 0, 0)
    return blocked_by_slo(prepared.spec.workload.slo, campaign)


def _left_out(
    guided: Guided,
    groups: Mapping[str, Group],
    market: Market,
    servings: Sequence[Serving],
    workload: Workload,
) -> Iterator[Rejection]:
    by_id = {s.candidate.id: s for s in servings}
    for bounded in guided.bounds:
        largest = groups[bounded.choice.group].prefix(bounded.choice.count)[-1]
        name = candidate_id(largest, market.device(largest))
        if name in by_id:
            if by_id[name].candidate.capacity_rps <= 0:
                yield cannot_serve(by_id[name], workload)
        elif bounded.capacity_rps <= 0:
            yield Rejection("profile", name, "holds the SLO at no rate, even at its fastest iteration")
        else:
            known = (
                f"takes at most {bounded.capacity_rps:.4g} requests/s"
                if isfinite(bounded.capacity_rps)
                else "not even a few iterations were needed"
            )
            yield Rejection(
                "profile", name, f"not measured in full: {known}, no cheaper plan could come of it"
            )


def _spared(guided: Guided, groups: Mapping[str, Group]) -> Iterator[str]:
    measured = (b.choice for b in guided.bounds if b.level >= Level.MEASURED)
    full = {c for choice in measured for c in groups[choice.group].prefix(choice.count)}
    every = sum(len(group.configurations) for group in groups.values())
    if len(full) < every:
        yield (
            f"Guided profiling: {len(full)} of {every} configurations were measured in full; by their bounds "
            "the others could not make the plan cheaper (--exhaustive measures them all)."
        )


@dataclass(frozen=True, slots=True)
class Market:
    """What can be bought for a workload. ``device``: what a configuration is priced as; ``memory_bytes``: the
    most that a replica is known to need, 0 where nothing is known yet."""

    workload: Workload
    offers: tuple[Offer, ...]
    max_instances_per_offer: int | None
    groups: Mapping[str, Group]
    device: Callable[[Configuration], str]
    memory_bytes: Callable[[Configuration], int]
    time_limit_s: float

    def optimum(self, bounds: Sequence[Bounded]) -> tuple[Solution, frozenset[Choice]] | None:
        """The cheapest fleet for these capacities, one of several at random, and what it uses."""
        choices = {candidate.id: choice for choice, candidate in self.candidates(bounds)}
        try:
            solution = solve(self.problem(bounds), self.time_limit_s, break_ties=False)
        except InfeasibleError:
            return None
        used = frozenset(
            choices[candidate] for p in solution.placements for candidate, _ in p.pattern.replicas
        )
        return solution, used

    def problem(self, bounds: Sequence[Bounded]) -> Problem:
        candidates = (candidate for _, candidate in self.candidates(bounds))
        return problem_of(self.workload, candidates, self.offers, self.max_instances_per_offer)

    def candidates(self, bounds: Sequence[Bounded]) -> list[tuple[Choice, Candidate]]:
        return [(b.choice, self._candidate(b)) for b in bounds if b.capacity_rps > 0]

    def _candidate(self, bounded: Bounded) -> Candidate:
        prefix = self.groups[bounded.choice.group].prefix(bounded.choice.count)
        largest = prefix[-1]
        device = self.device(largest)
        return Candidate(
            id=candidate_id(largest, device),
            workload=self.workload.name,
            variant=largest.variant,
            backend=largest.backend,
            device=device,
            threads=largest.threads,
            max_batch_size=largest.batch_size,
            memory_bytes=max(map(self.memory_bytes, prefix)),
            capacity_rps=self._usable(bounded.capacity_rps),
            side_by_side=largest.replicas,
            packed_capacity_rps=self._usable(bounded.packed_rps),
        )

    def _usable(self, rate_rps: float) -> float:
        """Without headroom, and no more than there is to serve: the rest would change nothing."""
        usable = rate_rps * (1.0 - self.workload.slo.headroom)
        return min(usable, self.workload.rate_rps) if isfinite(usable) else self.workload.rate_rps
