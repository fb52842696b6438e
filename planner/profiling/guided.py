"""Guided profiling: measure what can change the plan, and nothing else.

Every candidate starts with a bound on its capacity that costs nothing, and the problem is solved with these.
What the optimum uses is looked at more closely, one step of the ladder at a time, and it is solved again:

1. ``GUESSED``: no batch is faster than a floor known beforehand (peak rates), nor than a smaller one.
2. ``PROBED``: no batch is faster than the fastest of a few iterations, less a margin; capacity is throughput.
3. ``QUEUED``: the same service times, with the queue before them.
4. ``MEASURED``: the capacity by a full profile.
5. ``CONFIRMED``: by a second profile, taken after the candidate was chosen: the best of many noisy profiles
   looks better than it is, the fresh one does not.

The bounds are not below what a measurement will show, so once the optimum uses nothing but confirmed
candidates, no other one could have made it cheaper: it is what measuring everything would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from statistics import median

from planner.domain.profile import Configuration
from planner.errors import BackendError
from planner.units import NS_PER_S

PROBE_ITERATIONS = 10
MARGIN = 0.95
"""A probe's fastest iteration, times this, is taken to be faster than what a full measurement will show."""

Samples = tuple[int, ...]
Service = Mapping[int, Sequence[int]]
"""Latencies in ns by batch size."""


class Level(IntEnum):
    GUESSED, PROBED, QUEUED, MEASURED, CONFIRMED = range(5)


@dataclass(frozen=True, slots=True)
class Group:
    """Configurations that differ in batch size only, ascending: one engine, loaded once."""

    name: str
    configurations: tuple[Configuration, ...]

    def prefix(self, count: int) -> tuple[Configuration, ...]:
        return self.configurations[:count]


@dataclass(frozen=True, slots=True)
class Choice:
    """A group used up to its ``count`` smallest batch sizes: what becomes one candidate of the problem."""

    group: str
    count: int


@dataclass(frozen=True, slots=True)
class Bounded:
    """A choice with the most that it can take, as far as is known."""

    choice: Choice
    level: Level
    capacity_rps: float
    """Without headroom. ``inf`` where nothing is known."""
    packed_rps: float
    """The same with service times stretched, for replicas that share an instance with more than measured."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What guided profiling asks for. Each raises BackendError for a group that cannot run.

    ``floor_ns``: a latency that no engine can be below, 0 where none is known. ``probe``: a few iterations of
    each batch size. ``full``: as many samples as the percentile asked for needs, fresh ones where ``again``.
    ``capacity_rps``: the most that service times take within the SLO, 0 where nothing holds it; and the same
    with all of them multiplied by ``stretch``. A batch size whose median, by its probe, is over
    ``budget_ns`` can serve nothing.
    """

    floor_ns: Callable[[Configuration], float]
    probe: Callable[[Group], Mapping[Configuration, Samples]]
    full: Callable[[Group, int, bool], Mapping[Configuration, Samples]]
    capacity_rps: Callable[[Service, int], tuple[float, float]]
    budget_ns: float = inf
    stretch: float = 1.0


Solve = Callable[[Sequence[Bounded]], "frozenset[Choice] | None"]
"""The optimum's choices for these capacities, or None where no fleet serves."""


@dataclass(frozen=True, slots=True)
class Guided:
    """``used``: what the optimum runs; all of it is confirmed, or None: no fleet serves. ``bounds``: the last
    known capacity of every choice; ``failed``: groups that could not run, with the reason."""

    used: frozenset[Choice] | None
    bounds: tuple[Bounded, ...]
    failed: Mapping[str, str]
    rounds: int


@dataclass(slots=True)
class _Knowledge:
    """Of one group."""

    group: Group
    floors_ns: list[float]
    """By batch size; never falling."""
    probed: bool = False
    full: dict[Configuration, Samples] = field(default_factory=dict)
    fresh: dict[Configuration, Samples] = field(default_factory=dict)
    levels: dict[int, Level] = field(default_factory=dict)
    capacities: dict[int, tuple[float, float]] = field(default_factory=dict)


def guide(
    groups: Sequence[Group],
    measures: Measures,
    solve: Solve,
    *,
    always: Iterable[Choice] = (),
    confirm: bool = True,
    on_round: Callable[[int, Choice, Level], None] = lambda round, choice, level: None,
) -> Guided:
    """The optimum over all prefixes of all groups, measuring only what it must.

    ``always`` is measured in full whatever the optimum is (the baseline that savings are counted from).
    """
    knowledge = {g.name: _Knowledge(g, _rising(map(measures.floor_ns, g.configurations))) for g in groups}
    failed: dict[str, str] = {}
    for known in knowledge.values():
        for count in range(1, len(known.group.configurations) + 1):
            known.levels[count] = Level.GUESSED
            known.capacities[count] = _throughput(known, count, measures.stretch)
    last = Level.CONFIRMED if confirm else Level.MEASURED
    for choice in always:
        _attempt(knowledge, failed, choice, Level.MEASURED, measures)
    rounds = 0
    while True:
        rounds += 1
        bounds = _bounds(knowledge)
        used = solve(bounds)
        open_ = sorted(
            (c for c in used or () if knowledge[c.group].levels[c.count] < last),
            key=lambda c: (c.group, -c.count),  # the largest first: its measurement serves the others too
        )
        if not open_:
            return Guided(used, bounds, failed, rounds)
        for choice in open_:
            if choice.group in failed:
                continue
            level = Level(knowledge[choice.group].levels[choice.count] + 1)
            on_round(rounds, choice, level)
            _attempt(knowledge, failed, choice, level, measures)


def all_choices(groups: Sequence[Group], measures: Measures) -> list[Choice]:
    """Every choice that can hold the SLO by its probe, for ``always``; ``guide`` tells of what fails."""
    choices = []
    for group in groups:
        try:
            count = within(group, measures.probe(group), measures.budget_ns)
        except BackendError:
            count = 1
        choices += [Choice(group.name, k) for k in range(count, 0, -1)]
    return choices


def _attempt(
    knowledge: dict[str, _Knowledge], failed: dict[str, str], choice: Choice, level: Level, measures: Measures
) -> None:
    if choice.group in failed:
        return
    try:
        _raise(knowledge[choice.group], choice.count, level, measures)
    except BackendError as reason:
        failed[choice.group] = str(reason)
        del knowledge[choice.group]


def _raise(known: _Knowledge, count: int, level: Level, measures: Measures) -> None:
    """Bring the choice to ``level``. What is learnt of a group holds for its other choices too."""
    if level >= Level.PROBED and not known.probed:
        _probe(known, measures)
    if level >= Level.MEASURED:
        _measure(known, count, measures, again=level is Level.CONFIRMED)
    known.levels[count] = max(level, known.levels[count])
    known.capacities[count] = _capacity(known, count, level, measures)


def _probe(known: _Knowledge, measures: Measures) -> None:
    probed = measures.probe(known.group)
    seen = [min(probed[c]) * MARGIN for c in known.group.configurations]
    known.floors_ns = _rising(map(max, known.floors_ns, seen))
    known.probed = True
    able = within(known.group, probed, measures.budget_ns)
    for count, level in known.levels.items():
        if level < Level.PROBED:
            known.levels[count] = Level.PROBED
            known.capacities[count] = (
                _throughput(known, count, measures.stretch) if count <= able else (0.0, 0.0)
            )


def within(group: Group, probed: Mapping[Configuration, Samples], budget_ns: float) -> int:
    """How many of the group's batch sizes, from the smallest on, have a median within the budget.

    A larger batch is never faster, so what comes after the first that is not cannot serve either.
    """
    count = 0
    for configuration in group.configurations:
        if median(probed[configuration]) > budget_ns:
            break
        count += 1
    return count


def _measure(known: _Knowledge, count: int, measures: Measures, again: bool) -> None:
    taken = measures.full(known.group, count, again)
    (known.fresh if again else known.full).update(taken)


def _capacity(known: _Knowledge, count: int, level: Level, measures: Measures) -> tuple[float, float]:
    if level <= Level.PROBED:
        return _throughput(known, count, measures.stretch)
    service = {c.batch_size: _service(known, c, i, level) for i, c in enumerate(known.group.prefix(count))}
    return measures.capacity_rps(service, known.group.configurations[count - 1].batch_size)


def _service(known: _Knowledge, configuration: Configuration, index: int, level: Level) -> Sequence[int]:
    if level is Level.CONFIRMED and configuration in known.fresh:
        return known.fresh[configuration]
    if configuration in known.full:
        return known.full[configuration]
    return (max(round(known.floors_ns[index]), 1),)


def _throughput(known: _Knowledge, count: int, stretch: float) -> tuple[float, float]:
    """The most that full batches give, of any size up to this one; a queue can only take less."""
    rates = [
        c.batch_size * NS_PER_S / floor if floor > 0 else inf
        for c, floor in zip(known.group.prefix(count), known.floors_ns, strict=False)
    ]
    return max(rates), max(rates) / stretch


def _bounds(knowledge: Mapping[str, _Knowledge]) -> tuple[Bounded, ...]:
    return tuple(
        Bounded(Choice(name, count), level, *known.capacities[count])
        for name, known in knowledge.items()
        for count, level in known.levels.items()
    )


def _rising(values: Iterable[float]) -> list[float]:
    """Each at least the one before: a larger batch is never faster."""
    out: list[float] = []
    for value in values:
        out.append(max(value, out[-1]) if out else value)
    return out
