"""Guided profiling of a plan: which measurements the cheapest fleet asks for, and what comes of them.

``Market`` is the solver's side: what the best fleet uses, for capacities known so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from planner.capacity import candidate_id, cannot_serve, capacity, capacity_interval
from planner.domain.offer import Offer
from planner.domain.plan import Serving
from planner.domain.problem import ACCURACY, USD, Candidate, Problem, Rejection, Solution
from planner.domain.variant import BASELINE_RECIPE
from planner.domain.workload import Workload
from planner.errors import InfeasibleError
from planner.optimize import solve
from planner.pipeline.asked import Asked
from planner.pipeline.blocked import blocked_by_slo
from planner.pipeline.services import Service, Traits
from planner.profiling.campaign import Campaign
from planner.profiling.guided import (
    Bounded,
    Choice,
    Group,
    Guided,
    Level,
    Measures,
    Optimum,
    Times,
    all_choices,
    guide,
)

CLOSED = 1e-6
"""A gap no wider than the solver's tolerance counts as closed."""


@dataclass(frozen=True, slots=True)
class Found:
    """What may serve, and the proof that nothing else would be cheaper.

    ``servings``: all that was measured in full; ``used``: the ids of those that the optimum chose, by fresh
    samples, and of all that needs no measuring. ``bound_usd_per_hour`` holds for every candidate, measured or
    not.
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
        """The solution with the bound over all candidates in place of that over the confirmed ones.

        Where something else than the price is optimised, that bound is the solution's own.
        """
        if solution.objective != USD:
            return replace(solution, proven=solution.proven and self.proven)
        bound = min(solution.bound_usd_per_hour, self.bound_usd_per_hour)
        cost = solution.usd_per_hour
        if bound >= cost * (1 - CLOSED):
            bound = cost
        proven = solution.proven and self.proven and bound == cost
        return replace(
            solution, bound_usd_per_hour=bound, gap=(cost - bound) / cost if cost else 0.0, proven=proven
        )


def optimum(
    services: Sequence[Service],
    asked: Asked,
    offers: tuple[Offer, ...],
    time_limit_s: float,
    exhaustive: bool,
) -> Found:
    """Measure what the best fleet depends on, everything if ``exhaustive``.

    Raises InfeasibleError where no fleet serves, BackendError where nothing could be measured.
    """
    by_group = {group.name: service for service in services for group in service.groups}
    groups = {group.name: group for service in services for group in service.groups}
    given = tuple(serving for service in services for serving in service.servings)
    fixed = tuple(serving.candidate for serving in given)
    if not groups:
        return Found(given, frozenset(c.id for c in fixed), inf, True, (), ())
    market = Market(
        asked, offers, groups, lambda group: by_group[group.name].traits(group), fixed, time_limit_s
    )
    measures = {service.spec.workload.name: _measures(service) for service in services if service.here}

    def of(group: Group) -> Measures:
        return measures[by_group[group.name].spec.workload.name]

    every = list(groups.values())
    always = all_choices(every, of) if exhaustive else _baselines(every)
    guided = guide(every, of, market.optimum, always=always)
    failures = tuple(Rejection("profile", name, reason) for name, reason in guided.failed.items())
    measured = [
        by_group[bounded.choice.group].serving(groups[bounded.choice.group].prefix(bounded.choice.count))
        for bounded in guided.bounds
        if bounded.level >= Level.MEASURED
    ]
    if guided.optimum is None:
        raise InfeasibleError(_blocked(services, measured, failures, market, guided.bounds))
    ids = {choice: candidate.id for choice, candidate in market.candidates(guided.bounds)}
    left_out = _left_out(guided, market, measured, {s.spec.workload.name: s.spec.workload for s in services})
    return Found(
        (*given, *(s for s in measured if s.candidate.capacity_rps > 0)),
        frozenset((*(ids[choice] for choice in guided.optimum.used), *(c.id for c in fixed))),
        guided.optimum.bound_usd_per_hour,
        guided.optimum.proven,
        (*failures, *left_out),
        tuple(_spared(guided, groups)),
    )


def _measures(service: Service) -> Measures:
    assert service.here is not None
    bench, slo = service.here.bench, service.spec.workload.slo
    stretch = 1.0 + service.spec.packing_derating

    def most_rps(times: Times, largest: int) -> tuple[float, float]:
        rate = capacity(times, largest, slo.percentile, slo.budget_ns).rate_rps
        if rate <= 0:
            return 0.0, 0.0
        stretched = {b: tuple(round(ns * stretch) for ns in s) for b, s in times.items()}
        return rate, capacity(stretched, largest, slo.percentile, slo.budget_ns).rate_rps

    def capacity_rps(times: Times, largest: int) -> tuple[float, float]:
        ends = capacity_interval(times, largest, slo.percentile, slo.budget_ns)
        rate, packed = most_rps(times, largest)
        return ends.low_rps, packed * ends.low_rps / rate if rate > 0 else 0.0

    return Measures(
        floor_ns=lambda c: 0.0,
        probe=lambda group: bench.probe(group, slo.budget_ns),
        sample=bench.sample,
        full=bench.full,
        capacity_rps=capacity_rps,
        most_rps=most_rps,
        budget_ns=slo.budget_ns,
    )


def _baselines(groups: Iterable[Group]) -> list[Choice]:
    """fp32, one request at a time: what savings are counted from."""
    return [
        Choice(group.name, 1)
        for group in groups
        if group.configurations[0].variant == BASELINE_RECIPE and group.configurations[0].batch_size == 1
    ]


def _blocked(
    services: Sequence[Service],
    measured: Sequence[Serving],
    failures: tuple[Rejection, ...],
    market: Market,
    bounds: Sequence[Bounded],
) -> str:
    """Why no fleet serves: nothing holds a workload's SLO, or the limits do not allow enough of it."""
    able = {candidate.workload for candidate in market.problem(bounds).candidates}
    unable = next((s for s in services if s.spec.workload.name not in able), None)
    if unable is None:
        try:
            solve(market.problem(bounds), market.time_limit_s, break_ties=False)
        except InfeasibleError as error:
            return str(error)
    service = unable or services[0]
    name = service.spec.workload.name
    full = tuple(p for s in measured if s.candidate.workload == name for p in s.profiles)
    probes = tuple(service.here.bench.profiles.values()) if service.here else ()
    campaign = Campaign(full, probes, (*failures, *service.rejections), 0, 0)
    reason = blocked_by_slo(service.spec.workload.slo, campaign)
    return f"workload {name}: {reason}" if len(services) > 1 else reason


def _left_out(
    guided: Guided, market: Market, measured: Sequence[Serving], workloads: Mapping[str, Workload]
) -> Iterator[Rejection]:
    by_id = {s.candidate.id: s for s in measured}
    for bounded in guided.bounds:
        name = market.name(bounded.choice)
        if name in by_id:
            if by_id[name].candidate.capacity_rps <= 0:
                yield cannot_serve(by_id[name], workloads[by_id[name].candidate.workload])
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
    full = {(choice.group, c) for choice in measured for c in groups[choice.group].prefix(choice.count)}
    every = sum(len(group.configurations) for group in groups.values())
    if len(full) < every:
        yield (
            f"Guided profiling: {len(full)} of {every} configurations were measured in full; by their bounds "
            "the others could not make the plan cheaper (--exhaustive measures them all)."
        )


@dataclass(frozen=True, slots=True)
class Market:
    """What can be bought. ``fixed``: candidates besides those of the groups, for which there is nothing to
    measure."""

    asked: Asked
    offers: tuple[Offer, ...]
    groups: Mapping[str, Group]
    traits: Callable[[Group], Traits]
    fixed: tuple[Candidate, ...]
    time_limit_s: float

    def optimum(self, bounds: Sequence[Bounded]) -> Optimum | None:
        """The best fleet for these capacities, one of several at random, and what it uses of the groups."""
        choices = {candidate.id: choice for choice, candidate in self.candidates(bounds)}
        try:
            solution = solve(self.problem(bounds), self.time_limit_s, break_ties=False)
        except InfeasibleError:
            return None
        used = frozenset(
            choices[candidate]
            for p in solution.placements
            for candidate, _ in p.pattern.replicas
            if candidate in choices
        )
        return Optimum(amount_of(solution), used, solution.bound_usd_per_hour, solution.proven)

    def problem(self, bounds: Sequence[Bounded]) -> Problem:
        candidates = (candidate for _, candidate in self.candidates(bounds))
        return self.asked.problem((*self.fixed, *candidates), self.offers)

    def candidates(self, bounds: Sequence[Bounded]) -> list[tuple[Choice, Candidate]]:
        return [(b.choice, self._candidate(b)) for b in bounds if b.capacity_rps > 0]

    def name(self, choice: Choice) -> str:
        """What the choice's candidate is called."""
        group = self.groups[choice.group]
        traits = self.traits(group)
        return candidate_id(group.prefix(choice.count)[-1], traits.device, traits.slices, traits.among)

    def _candidate(self, bounded: Bounded) -> Candidate:
        group = self.groups[bounded.choice.group]
        prefix, traits = group.prefix(bounded.choice.count), self.traits(group)
        largest = prefix[-1]
        return Candidate(
            id=self.name(bounded.choice),
            workload=traits.workload.name,
            variant=largest.variant,
            backend=largest.backend,
            device=traits.device,
            threads=largest.threads,
            max_batch_size=largest.batch_size,
            memory_bytes=max(map(traits.memory_bytes, prefix)),
            capacity_rps=_usable(bounded.capacity_rps, traits.workload),
            side_by_side=largest.replicas,
            packed_capacity_rps=_usable(bounded.packed_rps, traits.workload),
            slices=traits.slices,
            quality=traits.quality,
        )


def amount_of(solution: Solution) -> float:
    """What a plan is chosen by, the less the better."""
    if solution.objective == USD or solution.amount is None:
        return solution.usd_per_hour
    return -solution.amount if solution.objective == ACCURACY else solution.amount


def _usable(rate_rps: float, workload: Workload) -> float:
    """Without headroom, and no more than there is to serve: the rest would change nothing."""
    usable = rate_rps * (1.0 - workload.slo.headroom)
    return min(usable, workload.rate_rps) if isfinite(usable) else workload.rate_rps
