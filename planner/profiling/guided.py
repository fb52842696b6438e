"""Guided profiling: measure what can change the plan, and nothing else.

Every candidate starts with a bound on its capacity that costs nothing, and the problem is solved with these.
What the optimum uses is looked at more closely, one step of the ladder at a time, and it is solved again:

1. ``GUESSED``: no batch is faster than a floor known beforehand (peak rates), nor than a smaller one.
2. ``PROBED``: no batch is faster than the fastest of a few iterations, less a margin.
3. ``SAMPLED``: no batch is faster than the fastest that more iterations leave possible (``fastest``).
4. ``MEASURED``: the capacity by a full profile.
5. ``CONFIRMED``: by a second profile, taken after the candidate was chosen.

The bounds are not below what a measurement will show, so once the optimum uses nothing but confirmed
candidates, no other one could have made it cheaper: it is what measuring everything would have given. Of
optima that cost the same, the one that asks for the least further measuring is taken.

**Confirmation.** The best of many noisy profiles looks better than it is, so what the optimum uses is
measured once more, when all of it has been measured, and judged by the fresh samples alone. That the first
profile was taken only after the bounds had chosen its candidate does not make up for it: it is kept because
it was good enough, and so are more of the lucky ones than pass twice (docs/design/0003).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import combinations
from math import ceil, inf, log, sqrt
from statistics import median

from planner.domain.profile import Configuration
from planner.errors import BackendError

PROBE_ITERATIONS = 10
MARGIN = 0.95
"""A probe's fastest iteration, times this, is taken to be faster than what a full measurement will show."""
SAMPLE_SHARE = 8
"""A sample is this part of what the percentile asks for, or as many as a probe has."""
SAMPLE_MARGIN = 0.98
"""The same for a sample, whose own noise is accounted for (``fastest``): what may lie between two runs."""
CONFIDENCE = 0.95
"""Of a sample's bound."""
TIE = 1e-7
"""Costs that differ by this share are the same."""

Samples = tuple[int, ...]
Times = Mapping[int, Sequence[int]]
"""Latencies in ns by batch size."""
ByClass = Mapping[str, Times]
"""Of each class of requests, from the smallest to the largest; "" where all are alike."""


class Level(IntEnum):
    GUESSED, PROBED, SAMPLED, MEASURED, CONFIRMED = range(5)


@dataclass(frozen=True, slots=True)
class Group:
    """Configurations that differ in batch size only, ascending: one engine, loaded once.

    ``instances``: how many of it may share one queue, each number a choice of its own. ``request_class``: the
    class that its inputs are of; ``smaller``: the groups of the same engine for smaller classes, ascending,
    which a replica may serve together with it.
    """

    name: str
    configurations: tuple[Configuration, ...]
    instances: tuple[int, ...] = (1,)
    request_class: str = ""
    smaller: tuple[str, ...] = ()

    def prefix(self, count: int) -> tuple[Configuration, ...]:
        return self.configurations[:count]

    def called(self, prefix: str) -> Group:
        """The group with ``prefix`` before its name."""
        return replace(self, name=prefix + self.name, smaller=tuple(prefix + name for name in self.smaller))

    def choices(self) -> list[Choice]:
        """The largest first: its measurement serves the others too."""
        return [
            Choice(self.name, count, instances, beside)
            for count in range(len(self.configurations), 0, -1)
            for instances in self.instances
            for fewer in range(len(self.smaller) + 1)
            for beside in combinations(self.smaller, fewer)
        ]


@dataclass(frozen=True, slots=True)
class Choice:
    """A group used up to its ``count`` smallest batch sizes, so many ``instances`` together: what becomes one
    candidate of the problem. ``beside``: groups of smaller classes that it serves too, up to the same size.
    """

    group: str
    count: int
    instances: int = 1
    beside: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """From the smallest class to the largest."""
        return (*self.beside, self.group)


@dataclass(frozen=True, slots=True)
class Bounded:
    """A choice with the most that it can take, as far as is known."""

    choice: Choice
    level: Level
    capacity_rps: float
    """Without headroom. ``inf`` where nothing is known."""
    packed_rps: float
    """The same with service times stretched, for replicas that share an instance with more than measured."""
    parts: tuple[float, ...] = ()
    """Of the capacity, what each of its groups' classes may take up; none where nothing is known."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """The cheapest fleet for some capacities. ``bound_usd_per_hour``: no fleet is cheaper; ``proven``: that
    is the fleet's own cost."""

    usd_per_hour: float
    used: frozenset[Choice]
    bound_usd_per_hour: float
    proven: bool = True


Capacity = tuple[float, float, tuple[float, ...]]
"""Of ``Bounded``: ``capacity_rps``, ``packed_rps`` and ``parts``."""
Capacities = Callable[[ByClass, int, int], Capacity]
"""What service times up to a batch size take within the SLO, by so many instances, 0 where nothing holds it;
the same with all of them stretched, for replicas that share an instance with more than were measured; and of
that, what each class may take up."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What guided profiling asks for. Each raises BackendError for a group that cannot run.

    ``floor_ns``: a latency that no engine can be below, 0 where none is known. ``probe``: a few iterations of
    each batch size, up to the first that is over the budget (``within``). ``sample``: more of the
    smallest ones. ``full``: as many samples as the percentile asked for needs, fresh ones where ``again``.
    ``capacity_rps``: what to promise by samples, the lower end of an interval;
    ``most_rps``: what service times take at most if they are just these. A batch size whose median, by its
    probe, is over ``budget_ns`` can serve nothing.
    """

    floor_ns: Callable[[Configuration], float]
    probe: Callable[[Group], Mapping[Configuration, Samples]]
    sample: Callable[[Group, int], Mapping[Configuration, Samples]]
    full: Callable[[Group, int, bool], Mapping[Configuration, Samples]]
    capacity_rps: Capacities
    most_rps: Capacities
    budget_ns: float = inf


Solve = Callable[[Sequence[Bounded]], "Optimum | None"]
"""The optimum for these capacities, or None where no fleet serves."""


@dataclass(frozen=True, slots=True)
class Guided:
    """``optimum``: all that it uses is confirmed; None: no fleet serves. ``bounds``: the last known capacity
    of every choice; ``failed``: groups that could not run, with the reason."""

    optimum: Optimum | None
    bounds: tuple[Bounded, ...]
    failed: Mapping[str, str]
    rounds: int

    @property
    def used(self) -> frozenset[Choice] | None:
        return None if self.optimum is None else self.optimum.used


@dataclass(slots=True)
class _Known:
    """Of one group."""

    group: Group
    floors_ns: list[float]
    """By batch size; never falling."""
    sampled: dict[Configuration, Samples] = field(default_factory=dict)
    bounds: dict[Choice, Bounded] = field(default_factory=dict)
    """Of the choices that have this group as their largest."""
    able: int | None = None
    """How many batch sizes can serve, once it is probed."""

    def service(self, count: int) -> Times:
        """The least that is known: the sample where there is one, else the floor."""
        return {
            c.batch_size: self.sampled.get(c) or (max(round(floor), 1),)
            for c, floor in zip(self.group.prefix(count), self.floors_ns, strict=False)
        }

    def is_sampled(self, count: int) -> bool:
        return all(c in self.sampled for c in self.group.prefix(count))


def guide(
    groups: Sequence[Group],
    measures: Measures | Callable[[Group], Measures],
    solve: Solve,
    *,
    always: Iterable[Choice] = (),
    on_round: Callable[[int, Choice, Level], None] = lambda round, choice, level: None,
) -> Guided:
    """The optimum over all prefixes of all groups, measuring only what it must.

    ``measures`` may differ between groups, those of different workloads. ``always`` is measured in full
    whatever the optimum is (the baseline that savings are counted from).
    """
    every = _Knowledge(groups, _by_group(measures))
    for choice in always:
        for level in (Level.PROBED, Level.MEASURED):
            every.attempt(choice, level)
    rounds = 0
    while True:
        rounds += 1
        bounds = every.bounds()
        best = _least_measuring(bounds, solve)
        open_ = [] if best is None else _open(bounds, best.used)
        if best is None or not open_:
            return Guided(best, bounds, every.failed, rounds)
        for bounded in open_:
            choice, level = bounded.choice, Level(bounded.level + 1)
            if not every.has_failed(choice):
                on_round(rounds, choice, level)
                every.attempt(choice, level)


class _Knowledge:
    """Of all groups. What is learnt of one holds for every choice that it is part of."""

    def __init__(self, groups: Sequence[Group], of: Callable[[Group], Measures]) -> None:
        self._of = of
        self._known = {g.name: _Known(g, _rising(map(of(g).floor_ns, g.configurations))) for g in groups}
        self.failed: dict[str, str] = {}
        """The groups that could not run, with the reason."""
        for known in self._known.values():
            for choice in reversed(known.group.choices()):
                known.bounds[choice] = self._bound(choice, Level.GUESSED)

    def bounds(self) -> tuple[Bounded, ...]:
        return tuple(b for known in self._known.values() for b in known.bounds.values())

    def has_failed(self, choice: Choice) -> bool:
        return any(name in self.failed for name in choice.groups)

    def attempt(self, choice: Choice, level: Level) -> None:
        """Bring the choice to ``level``, unless one of its groups cannot run."""
        if self.has_failed(choice) or self._known[choice.group].bounds[choice].level >= level:
            return
        taken: dict[str, Times] = {}
        for known in self._groups(choice):
            try:
                if level < Level.MEASURED:
                    self._learn(known, choice.count, level)
                else:
                    taken[known.group.request_class] = self._measure(known, choice.count, level)
            except BackendError as reason:
                self._drop(known.group.name, str(reason))
                return
        if level >= Level.MEASURED:
            largest = self._known[choice.group].group
            size = largest.prefix(choice.count)[-1].batch_size
            ends = self._of(largest).capacity_rps(taken, size, choice.instances)
            self._known[choice.group].bounds[choice] = Bounded(choice, level, *ends)

    def _groups(self, choice: Choice) -> list[_Known]:
        return [self._known[name] for name in choice.groups]

    def _learn(self, known: _Known, count: int, level: Level) -> None:
        measures = self._of(known.group)
        if level is Level.PROBED and known.able is None:
            probed = measures.probe(known.group)
            able = known.able = within(known.group, probed, measures.budget_ns)
            seen = [min(probed[c]) * MARGIN for c in known.group.prefix(able)]
            known.floors_ns[:able] = _rising(map(max, known.floors_ns, seen))
        elif level is Level.SAMPLED and not known.is_sampled(count):
            taken = measures.sample(known.group, count)
            for c, floor in zip(known.group.prefix(count), known.floors_ns, strict=False):
                slower = (max(ns * SAMPLE_MARGIN, floor) for ns in taken[c])
                known.sampled[c] = tuple(max(round(ns), 1) for ns in fastest(slower, floor))
        self._tighten(known.group.name)

    def _measure(self, known: _Known, count: int, level: Level) -> Times:
        taken = self._of(known.group).full(known.group, count, level is Level.CONFIRMED)
        return {c.batch_size: taken[c] for c in known.group.prefix(count)}

    def _tighten(self, name: str) -> None:
        """The bounds of all choices with a group, but for those that are measured."""
        for known in self._known.values():
            for choice, before in known.bounds.items():
                if name not in choice.groups or before.level >= Level.MEASURED or not before.capacity_rps:
                    continue
                now = self._bound(choice, self._level(choice))
                known.bounds[choice] = now if before.level is Level.GUESSED else _lower(before, now)

    def _level(self, choice: Choice) -> Level:
        """What is known of all of its groups."""
        mine = self._groups(choice)
        if any(known.able is None for known in mine):
            return Level.GUESSED
        return Level.SAMPLED if all(known.is_sampled(choice.count) for known in mine) else Level.PROBED

    def _bound(self, choice: Choice, level: Level) -> Bounded:
        """By samples where there are any, else by the floors; ``inf`` where there is none."""
        mine = self._groups(choice)
        if any(known.able is not None and choice.count > known.able for known in mine):
            return Bounded(choice, max(level, Level.PROBED), 0.0, 0.0)
        if any(known.floors_ns[0] <= 0 for known in mine):
            return Bounded(choice, level, inf, inf)
        largest = self._known[choice.group].group
        service = {known.group.request_class: known.service(choice.count) for known in mine}
        size = largest.prefix(choice.count)[-1].batch_size
        return Bounded(choice, level, *self._of(largest).most_rps(service, size, choice.instances))

    def _drop(self, name: str, reason: str) -> None:
        """The group, and all choices with it."""
        self.failed[name] = reason
        del self._known[name]
        for known in self._known.values():
            known.bounds = {c: b for c, b in known.bounds.items() if name not in c.groups}


def _by_group(measures: Measures | Callable[[Group], Measures]) -> Callable[[Group], Measures]:
    return (lambda group: measures) if isinstance(measures, Measures) else measures


def _open(bounds: Sequence[Bounded], used: Collection[Choice]) -> list[Bounded]:
    """What is to be looked at more closely; nothing is confirmed before all of it is measured.

    The largest of a group first: its measurement serves the others too.
    """
    asked = sorted(
        (b for b in bounds if b.choice in used),
        key=lambda b: (b.choice.group, -b.choice.count, b.choice.instances, b.choice.beside),
    )
    unmeasured = [b for b in asked if b.level < Level.MEASURED]
    return unmeasured or [b for b in asked if b.level < Level.CONFIRMED]


def _least_measuring(bounds: Sequence[Bounded], solve: Solve) -> Optimum | None:
    """Of the optima one of what is known best, and with the fewest batch sizes."""
    best = solve(bounds)
    if best is None or not best.used:
        return best
    levels = {b.choice: b.level for b in bounds}
    for level in reversed(Level):
        if level <= min(levels[c] for c in best.used):
            break
        allowed = [b for b in bounds if b.level >= level]
        if (found := _as_cheap(best, allowed, solve)) is not None:
            bounds, best = allowed, found
            break
    while (
        long := [c for c in best.used if c.count > 1 and Level.PROBED <= levels[c] < Level.MEASURED]
    ) != []:
        bounds = [b for b in bounds if not any(_includes(b.choice, c) for c in long)]
        found = _as_cheap(best, bounds, solve)
        if found is None:
            break
        best = found
    return best


def _includes(choice: Choice, other: Choice) -> bool:
    return choice.groups == other.groups and choice.count >= other.count


def _as_cheap(best: Optimum, bounds: Sequence[Bounded], solve: Solve) -> Optimum | None:
    """The optimum of fewer choices, with the proof for all of them, if it costs no more."""
    found = solve(bounds) if bounds else None
    if found is None or found.usd_per_hour > best.usd_per_hour * (1 + TIE):
        return None
    return replace(best, used=found.used)


def all_choices(groups: Sequence[Group], measures: Measures | Callable[[Group], Measures]) -> list[Choice]:
    """Every choice that can hold the SLO by its probe, for ``always``; ``guide`` tells of what fails."""
    able: dict[str, int] = {}
    for group in groups:
        asked = _by_group(measures)(group)
        try:
            able[group.name] = within(group, asked.probe(group), asked.budget_ns)
        except BackendError:
            able[group.name] = 1
    every = (choice for group in groups for choice in group.choices())
    return [choice for choice in every if choice.count <= min(able[name] for name in choice.groups)]


def within(group: Group, probed: Mapping[Configuration, Samples], budget_ns: float) -> int:
    """How many of the group's batch sizes, from the smallest on, have a median within the budget.

    A larger batch is never faster, so what comes after the first that is not cannot serve either, and need
    not be probed.
    """
    count = 0
    for configuration in group.configurations:
        if configuration not in probed or median(probed[configuration]) > budget_ns:
            break
        count += 1
    return count


def fastest(samples: Iterable[float], floor: float) -> tuple[float, ...]:
    """Times times that are, at ``CONFIDENCE``, in no quantile longer than those that ``samples`` are of.

    The empirical distribution function is nowhere more than sqrt(ln(1 / (1 - confidence)) / 2n) below the
    true one. So that share of the samples, the slowest, is replaced by ``floor``, which none is below.
    Source: Massart, Annals of Probability 18, 1990 (one-sided Dvoretzky-Kiefer-Wolfowitz inequality).
    """
    ascending = sorted(samples)
    moved = min(ceil(sqrt(-log(1 - CONFIDENCE) * len(ascending) / 2)), len(ascending))
    return (floor,) * moved + tuple(ascending[: len(ascending) - moved])


def _lower(before: Bounded, now: Bounded) -> Bounded:
    return replace(
        now,
        capacity_rps=min(before.capacity_rps, now.capacity_rps),
        packed_rps=min(before.packed_rps, now.packed_rps),
    )


def _rising(values: Iterable[float]) -> list[float]:
    """Each at least the one before: a larger batch is never faster."""
    out: list[float] = []
    for value in values:
        out.append(max(value, out[-1]) if out else value)
    return out
