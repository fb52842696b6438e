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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
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


class Level(IntEnum):
    GUESSED, PROBED, SAMPLED, MEASURED, CONFIRMED = range(5)


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
class Optimum:
    """The cheapest fleet for some capacities. ``bound_usd_per_hour``: no fleet is cheaper; ``proven``: that
    is the fleet's own cost."""

    usd_per_hour: float
    used: frozenset[Choice]
    bound_usd_per_hour: float
    proven: bool = True


Capacities = Callable[[Times, int], tuple[float, float]]
"""What service times up to a batch size take within the SLO, 0 where nothing holds it; and the same with all
of them stretched, for replicas that share an instance with more than were measured."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What guided profiling asks for. Each raises BackendError for a group that cannot run.

    ``floor_ns``: a latency that no engine can be below, 0 where none is known. ``probe``: a few iterations of
    each batch size, up to the first that is over the budget (``within``). ``sample``: more of the
    smallest ones. ``full``: as many samples as the percentile asked for needs, fresh ones where ``again``.
    ``capacity_rps``: what to promise by samples, the lower end of an interval;
    ``most_rps``: what service times take if they are just these. A batch size whose median, by its probe, is
    over ``budget_ns`` can serve nothing.
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
class _Knowledge:
    """Of one group."""

    group: Group
    floors_ns: list[float]
    """By batch size; never falling."""
    sampled: dict[Configuration, Samples] = field(default_factory=dict)
    bounds: dict[int, Bounded] = field(default_factory=dict)


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
    of = _by_group(measures)
    knowledge = {g.name: _known(g, of(g)) for g in groups}
    failed: dict[str, str] = {}
    for choice in always:
        for level in (Level.PROBED, Level.MEASURED):
            _attempt(knowledge, failed, choice, level, of)
    rounds = 0
    while True:
        rounds += 1
        bounds = tuple(b for known in knowledge.values() for b in known.bounds.values())
        best = _least_measuring(bounds, solve)
        open_ = [] if best is None else _open(knowledge, best.used)
        if best is None or not open_:
            return Guided(best, bounds, failed, rounds)
        for bounded in open_:
            choice, level = bounded.choice, Level(bounded.level + 1)
            if choice.group not in failed:
                on_round(rounds, choice, level)
                _attempt(knowledge, failed, choice, level, of)


def _by_group(measures: Measures | Callable[[Group], Measures]) -> Callable[[Group], Measures]:
    return (lambda group: measures) if isinstance(measures, Measures) else measures


def _known(group: Group, measures: Measures) -> _Knowledge:
    known = _Knowledge(group, _rising(map(measures.floor_ns, group.configurations)))
    for count in range(1, len(group.configurations) + 1):
        known.bounds[count] = _bound(known, count, Level.GUESSED, measures)
    return known


def _open(knowledge: Mapping[str, _Knowledge], used: Iterable[Choice]) -> list[Bounded]:
    """What is to be looked at more closely; nothing is confirmed before all of it is measured.

    The largest of a group first: its measurement serves the others too.
    """
    bounds = sorted(
        (knowledge[c.group].bounds[c.count] for c in used), key=lambda b: (b.choice.group, -b.choice.count)
    )
    unmeasured = [b for b in bounds if b.level < Level.MEASURED]
    return unmeasured or [b for b in bounds if b.level < Level.CONFIRMED]


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
    return choice.group == other.group and choice.count >= other.count


def _as_cheap(best: Optimum, bounds: Sequence[Bounded], solve: Solve) -> Optimum | None:
    """The optimum of fewer choices, with the proof for all of them, if it costs no more."""
    found = solve(bounds) if bounds else None
    if found is None or found.usd_per_hour > best.usd_per_hour * (1 + TIE):
        return None
    return replace(best, used=found.used)


def all_choices(groups: Sequence[Group], measures: Measures | Callable[[Group], Measures]) -> list[Choice]:
    """Every choice that can hold the SLO by its probe, for ``always``; ``guide`` tells of what fails."""
    choices = []
    for group in groups:
        asked = _by_group(measures)(group)
        try:
            count = within(group, asked.probe(group), asked.budget_ns)
        except BackendError:
            count = 1
        choices += [Choice(group.name, k) for k in range(count, 0, -1)]
    return choices


def _attempt(
    knowledge: dict[str, _Knowledge],
    failed: dict[str, str],
    choice: Choice,
    level: Level,
    of: Callable[[Group], Measures],
) -> None:
    if choice.group in failed:
        return
    known = knowledge[choice.group]
    try:
        _raise(known, choice.count, level, of(known.group))
    except BackendError as reason:
        failed[choice.group] = str(reason)
        del knowledge[choice.group]


def _raise(known: _Knowledge, count: int, level: Level, measures: Measures) -> None:
    """Bring the choice to ``level``. What is learnt of a group holds for its other choices too."""
    if known.bounds[count].level >= level:
        return
    if level is Level.PROBED:
        _probe(known, measures)
    elif level is Level.SAMPLED:
        _sample(known, count, measures)
    else:
        _measure(known, count, level, measures)


def _probe(known: _Knowledge, measures: Measures) -> None:
    probed = measures.probe(known.group)
    able = within(known.group, probed, measures.budget_ns)
    seen = [min(probed[c]) * MARGIN for c in known.group.prefix(able)]
    known.floors_ns[:able] = _rising(map(max, known.floors_ns, seen))
    for count, bounded in known.bounds.items():
        known.bounds[count] = (
            _bound(known, count, Level.PROBED, measures)
            if count <= able
            else Bounded(bounded.choice, Level.PROBED, 0.0, 0.0)
        )


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


def _sample(known: _Knowledge, count: int, measures: Measures) -> None:
    """Tightens the bounds of all the group's choices that are not measured."""
    taken = measures.sample(known.group, count)
    for c, floor in zip(known.group.prefix(count), known.floors_ns, strict=False):
        slower = (max(ns * SAMPLE_MARGIN, floor) for ns in taken[c])
        known.sampled[c] = tuple(max(round(ns), 1) for ns in fastest(slower, floor))
    for other, bounded in known.bounds.items():
        level = Level.SAMPLED if other <= count else bounded.level
        if Level.PROBED <= bounded.level < Level.MEASURED and bounded.capacity_rps > 0:
            known.bounds[other] = _lower(bounded, _bound(known, other, level, measures))


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


def _measure(known: _Knowledge, count: int, level: Level, measures: Measures) -> None:
    taken = measures.full(known.group, count, level is Level.CONFIRMED)
    prefix = known.group.prefix(count)
    ends = measures.capacity_rps({c.batch_size: taken[c] for c in prefix}, prefix[-1].batch_size)
    known.bounds[count] = Bounded(Choice(known.group.name, count), level, *ends)


def _bound(known: _Knowledge, count: int, level: Level, measures: Measures) -> Bounded:
    """By the sample where there is one, else by the floor; ``inf`` where there is none."""
    prefix = known.group.prefix(count)
    service = {
        c.batch_size: known.sampled.get(c) or (max(round(floor), 1),)
        for c, floor in zip(prefix, known.floors_ns, strict=False)
    }
    unknown = known.floors_ns[0] <= 0
    most = (inf, inf) if unknown else measures.most_rps(service, prefix[-1].batch_size)
    return Bounded(Choice(known.group.name, count), level, *most)


def _rising(values: Iterable[float]) -> list[float]:
    """Each at least the one before: a larger batch is never faster."""
    out: list[float] = []
    for value in values:
        out.append(max(value, out[-1]) if out else value)
    return out
