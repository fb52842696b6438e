"""Guided profiling of a plan: which measurements the cheapest fleet asks for, and what comes of them.

``Market`` is the solver's side: what the best fleet uses, for capacities known so far.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from planner.capacity import (
    best_of_classes,
    candidate_id,
    cannot_serve,
    classes_at_most,
    classes_certainty,
    packed_classes,
    parts_of,
    service_laws,
)
from planner.domain.offer import Offer
from planner.domain.plan import Serving
from planner.domain.problem import ACCURACY, TIME, USD, Candidate, Problem, Rejection, Solution
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
    ByClass,
    Capacity,
    Choice,
    Group,
    Guided,
    Level,
    Measures,
    Optimum,
    all_choices,
    guide,
)

CLOSED = 1e-6
"""A gap no wider than the solver's tolerance counts as closed."""


@dataclass(frozen=True, slots=True)
class Found:
    """What may serve, and the proof that nothing else would be cheaper.

    ``servings``: all that was measured in full; ``used``: the ids of those that the optimum chose, by fresh
    samples, of those that the present plan runs, and of all that needs no measuring. ``bound_usd_per_hour``
    holds for every candidate, measured or not.
    """

    servings: tuple[Serving, ...]
    used: frozenset[str]
    bound_usd_per_hour: float
    proven: bool
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...]
    unmeasured: tuple[Candidate, ...] = ()
    """What was not measured in full, with the most that it could take."""

    def confirmed(self, problem: Problem) -> Problem:
        """The problem with nothing but what is ``used``: the optimum is among it."""
        return replace(problem, candidates=tuple(c for c in problem.candidates if c.id in self.used))

    def within(self, solution: Solution) -> Solution:
        """The solution with the bound over all candidates in place of that over the confirmed ones.

        Where something else than the price is optimised, that bound is the solution's own.
        """
        if solution.objective != USD:
            return replace(solution, proven=solution.proven and self.proven)
        bound = min(solution.bound_usd_per_hour, self.bound_usd_per_hour)
        cost, proven = solution.usd_per_hour, solution.proven and self.proven
        if not solution.kept:
            if bound >= cost * (1 - CLOSED):
                bound = cost
            proven = proven and bound == cost
        gap = (cost - bound) / cost if cost else 0.0
        return replace(solution, bound_usd_per_hour=bound, gap=gap, proven=proven)


def optimum(
    services: Sequence[Service],
    asked: Asked,
    offers: tuple[Offer, ...],
    time_limit_s: float,
    exhaustive: bool,
    present: frozenset[str] = frozenset(),
) -> Found:
    """Measure what the best fleet depends on, everything if ``exhaustive``.

    What is ``present``, by candidate id, is measured whatever else is: it was chosen before.

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
    held = [choice for choice in market.choices() if market.is_among(choice, present)]
    guided = guide(every, of, market.optimum, always=[*always, *held])
    failures = tuple(Rejection("profile", name, reason) for name, reason in guided.failed.items())
    by_choice = {
        choice: by_group[choice.group].serving([groups[g] for g in choice.groups], choice)
        for choice in (bounded.choice for bounded in guided.bounds if bounded.level >= Level.MEASURED)
    }
    measured = list(by_choice.values())
    if guided.optimum is None:
        raise InfeasibleError(_blocked(services, measured, failures, market, guided.bounds))
    ids = {choice: made.candidate.id for choice, made in by_choice.items() if made.candidate.capacity_rps > 0}
    left_out = _left_out(guided, market, by_choice, {s.spec.workload.name: s.spec.workload for s in services})
    return Found(
        (*given, *(s for s in measured if s.candidate.capacity_rps > 0)),
        frozenset(
            (
                *(ids[choice] for choice in (*guided.optimum.used, *held) if choice in ids),
                *(c.id for c in fixed),
            )
        ),
        guided.optimum.bound_usd_per_hour,
        guided.optimum.proven,
        (*failures, *left_out),
        tuple(_spared(guided, groups)),
        tuple(c for choice, c in market.candidates(guided.bounds) if choice not in by_choice),
    )


def _measures(service: Service) -> Measures:
    assert service.here is not None
    workload = service.spec.workload
    bench, slo = service.here.bench, workload.slo
    stretch = 1.0 + service.spec.packing_derating

    def most_rps(times: ByClass, largest: int, instances: int) -> Capacity:
        shares = workload.shares(times)
        laws = [service_laws(of_class, largest) for of_class in times.values()]
        rate, parts = classes_at_most(laws, shares, instances, workload)
        if rate <= 0:
            return 0.0, 0.0, parts
        slower = [of_class.stretched(stretch) for of_class in laws]
        return rate, classes_at_most(slower, shares, instances, workload)[0], parts

    def capacity_rps(times: ByClass, largest: int, instances: int) -> Capacity:
        shares = workload.shares(times)
        laws = [service_laws(of_class, largest) for of_class in times.values()]
        taken = best_of_classes(laws, shares, instances, workload)
        if taken.analysis.low_rps <= 0:
            return 0.0, 0.0, taken.parts
        low, _ = classes_certainty(list(times.values()), shares, largest, workload, taken)
        crowded = packed_classes(taken, laws, shares, workload, stretch)
        return taken.analysis.low_rps * low, crowded.analysis.low_rps * low, taken.parts

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
        choice
        for group in groups
        if group.configurations[0].variant == BASELINE_RECIPE and group.configurations[0].batch_size == 1
        for choice in group.choices()
        if choice.count == 1 and choice.instances == min(group.instances)
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
    guided: Guided, market: Market, measured: Mapping[Choice, Serving], workloads: Mapping[str, Workload]
) -> Iterator[Rejection]:
    for bounded in guided.bounds:
        name, made = market.name(bounded.choice), measured.get(bounded.choice)
        if made is not None:
            # Of several classes it is one that cannot be served, which is told by itself.
            if made.candidate.capacity_rps <= 0 and not bounded.choice.beside:
                yield cannot_serve(made, workloads[made.candidate.workload])
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
    full = {(g, c) for choice in measured for g in choice.groups for c in groups[g].prefix(choice.count)}
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
            solution = solve(self.problem(bounds), self.time_limit_s, break_ties=False, diagnose=False)
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

    def choices(self) -> list[Choice]:
        return [choice for group in self.groups.values() for choice in group.choices()]

    def name(self, choice: Choice) -> str:
        """What the choice's candidate is called, but for its queue delay, chosen once it is measured."""
        traits = self.traits(self.groups[choice.group])
        largest = self.groups[choice.group].prefix(choice.count)[-1]
        return candidate_id(
            largest,
            traits.device,
            traits.slices,
            traits.among,
            choice.instances,
            classes=self._classes(choice),
        )

    def _classes(self, choice: Choice) -> tuple[str, ...]:
        names = (self.groups[group].request_class for group in choice.groups)
        return tuple(name for name in names if name)

    def is_among(self, choice: Choice, ids: Iterable[str]) -> bool:
        """Whether one of the candidates ``ids`` is of this choice, whatever its queue delay."""
        name = self.name(choice)
        return any(i == name or i.startswith(f"{name}/d") for i in ids)

    def _candidate(self, bounded: Bounded) -> Candidate:
        choice = bounded.choice
        traits = self.traits(self.groups[choice.group])
        workload = traits.workload
        used = [c for group in choice.groups for c in self.groups[group].prefix(choice.count)]
        largest, classes = used[-1], self._classes(choice)
        unknown, mixing = parts_of(workload, classes)
        capacity_rps = _usable(bounded.capacity_rps, workload, classes)
        return Candidate(
            id=self.name(choice),
            workload=workload.name,
            variant=largest.variant,
            backend=largest.backend,
            device=traits.device,
            threads=largest.threads * choice.instances,
            max_batch_size=largest.batch_size,
            memory_bytes=max(map(traits.memory_bytes, used)) * choice.instances,
            capacity_rps=capacity_rps,
            side_by_side=max(largest.replicas // choice.instances, 1),
            packed_capacity_rps=_usable(bounded.packed_rps, workload, classes),
            classes=tuple(
                (name, part * capacity_rps)
                for name, part in zip(classes, bounded.parts or unknown, strict=False)
            ),
            mixing=mixing,
            slices=traits.slices,
            quality=traits.quality,
            instances=choice.instances,
        )


def amount_of(solution: Solution) -> float:
    """What a plan is chosen by, the less the better."""
    if solution.objective == USD or solution.amount is None:
        return solution.usd_per_hour
    return -solution.amount if solution.objective == ACCURACY else solution.amount


def _usable(rate_rps: float, workload: Workload, classes: Collection[str]) -> float:
    """Without headroom, and no more than there is to serve: the rest would change nothing.

    But of classes that are served by turns, whatever one leaves of its time is for the others.
    """
    most = workload.rate_rps * sum(workload.shares(classes))
    if not isfinite(rate_rps):
        return most
    usable = rate_rps * (1.0 - workload.slo.headroom)
    by_turns = parts_of(workload, classes)[1] == TIME
    return usable if by_turns else min(usable, most)
