"""Measuring on this machine what guided profiling asks for, and keeping it in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from time import monotonic
from typing import Protocol

from planner.domain.order_statistics import nearest_rank, percentile_interval
from planner.domain.profile import Configuration, Environment, Profile, samples_for
from planner.domain.progress import Progress, Step, silent
from planner.profiling.guided import PROBE_ITERATIONS, Group, Samples
from planner.profiling.replicas import Measurement, running
from planner.store import ProfileStore

ROUNDS = 4
"""The samples that a percentile needs are taken in so many turns, each batch size having one in each."""
WITHIN = 0.05
"""Measuring stops when both ends of the percentile's 95 % interval are this close to it..."""
SECONDS = 4.0
"""...or when a configuration has had this long beyond what its percentile needs."""
BUSY = 0.1
"""Others may keep this share of the machine busy; a turn that met more is taken again..."""
REPEATS = 1
"""...so often, and then kept: the profile tells the load."""
START_SECONDS = 1.0
"""What starting and warming up the replicas takes, for estimates only."""


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration, the engine to load and an ``.npz`` with the inputs to feed it."""

    configuration: Configuration
    engine: Path
    feed: Path


class Running(Protocol):
    """Replicas of an engine; see ``replicas.Replicas``."""

    def measure(self, samples: int, timeout_s: float, feed: int = 0) -> Measurement: ...


Start = Callable[[Sequence[Job]], AbstractContextManager[Running]]
"""Starts the replicas of jobs that differ in their inputs only; these are numbered in that order."""


def start_locally(jobs: Sequence[Job]) -> AbstractContextManager[Running]:
    first = jobs[0].configuration
    return running(jobs[0].engine, first.backend, first.threads, first.replicas, [job.feed for job in jobs])


def group_jobs(jobs: Sequence[Job]) -> tuple[Group, ...]:
    """The configurations of the jobs, those of one engine and thread count together."""
    by_engine: dict[tuple[str, str, str, int], list[Configuration]] = {}
    for job in jobs:
        c = job.configuration
        by_engine.setdefault((c.variant, c.variant_sha256, c.backend, c.threads), []).append(c)
    return tuple(
        Group(f"{variant}/{backend}/t{threads}", tuple(sorted(found, key=lambda c: c.batch_size)))
        for (variant, _, backend, threads), found in by_engine.items()
    )


class Bench:
    """``probe`` and ``full`` of ``guided.Measures``: from the store where it has them, else measured.

    What is measured is stored turn by turn, so that a killed run loses at most the turn under way.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        store: ProfileStore,
        environment: Callable[[Configuration], Environment],
        percentile: float,
        *,
        start: Start = start_locally,
        progress: Progress = silent,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._jobs = {job.configuration: job for job in jobs}
        self._store, self._environment, self._percentile = store, environment, percentile
        self._needed = samples_for(percentile)
        self._start, self._progress, self._clock, self._now = start, progress, clock, now
        self.profiles: dict[Configuration, Profile] = {}
        """Of every configuration that was looked at, probes included."""
        self.measured: set[Configuration] = set()

    def probe(self, group: Group) -> Mapping[Configuration, Samples]:
        """A few iterations of every batch size."""
        self._take(group.name, group.configurations, PROBE_ITERATIONS, fresh=False)
        return {c: self.profiles[c].samples_ns[:PROBE_ITERATIONS] for c in group.configurations}

    def full(self, group: Group, count: int, again: bool) -> Mapping[Configuration, Samples]:
        """What the percentile needs, and more until it is known well enough; ``again``: fresh samples."""
        wanted = group.prefix(count)
        self._take(group.name, wanted, self._needed, fresh=again)
        return {c: (self.profiles[c].judged_ns if again else _first(self.profiles[c])) for c in wanted}

    def reused(self) -> int:
        """How many of the configurations looked at came from the store as they were."""
        return len(set(self.profiles) - self.measured)

    def _take(self, name: str, configurations: Sequence[Configuration], needed: int, fresh: bool) -> None:
        for c in configurations:
            if c not in self.profiles and (known := self._store.find(c, self._environment(c))) is not None:
                self.profiles[c] = known
        missing = [c for c in configurations if self._count(c, fresh) < needed]
        if not missing:
            return
        doing = "probing" if needed < self._needed else "confirming" if fresh else "measuring"
        with self._start([self._jobs[c] for c in missing]) as replicas:
            open_ = {c: _Taking(number, needed - self._count(c, fresh)) for number, c in enumerate(missing)}
            turn = 0
            while open_:
                # In turn, so that drift hits all alike; ascending at first, for the memory of each.
                for c in sorted(open_, key=lambda c: open_[c].feed, reverse=bool(turn % 2)):
                    self._progress(Step(doing, f"{name}, batch {c.batch_size}", len(self.measured), 0))
                    taking = open_[c]
                    self._turn(replicas, taking)
                    finished = self._finished(taking, probing=doing == "probing")
                    # Part of fresh samples is no confirmation yet, and must not pass for one.
                    if finished or not fresh:
                        self._keep(c, taking, fresh)
                    if finished:
                        del open_[c]
                turn += 1

    def _count(self, configuration: Configuration, fresh: bool) -> int:
        known = self.profiles.get(configuration)
        if known is None:
            return 0
        return known.fresh if fresh else len(known.samples_ns) - known.fresh

    def _turn(self, replicas: Running, taking: _Taking) -> None:
        chunk = ceil(taking.needed / ROUNDS)
        for attempt in range(REPEATS + 1):
            begin = self._clock()
            taken = replicas.measure(chunk, timeout_s=60.0 + 10.0 * chunk, feed=taking.feed)
            if attempt == 0:
                taking.memory_bytes = taking.memory_bytes or taken.memory_bytes
            if (taken.foreign_load or 0.0) <= BUSY:
                break
        taking.samples.extend(taken.samples_ns)
        taking.unkept.extend(taken.samples_ns)
        taking.seconds += self._clock() - begin
        if taken.foreign_load is not None:
            taking.foreign_load = max(taking.foreign_load or 0.0, taken.foreign_load)

    def _finished(self, taking: _Taking, probing: bool) -> bool:
        if len(taking.samples) < taking.needed:
            return False
        return probing or taking.seconds >= SECONDS or well_known(taking.samples, self._percentile)

    def _keep(self, configuration: Configuration, taking: _Taking, fresh: bool) -> None:
        taken = Profile(
            configuration=configuration,
            environment=self._environment(configuration),
            samples_ns=tuple(taking.unkept),
            memory_bytes=taking.memory_bytes,
            taken_at=self._now().isoformat(timespec="seconds"),
            foreign_load=taking.foreign_load,
            fresh=len(taking.unkept) if fresh else 0,
        )
        known = self.profiles.get(configuration)
        profile = taken if known is None else _joined(known, taken)
        self._store.put(profile)
        taking.unkept.clear()
        self.profiles[configuration] = profile
        self.measured.add(configuration)


@dataclass(slots=True)
class _Taking:
    """What has been taken of one configuration so far."""

    feed: int
    needed: int
    samples: list[int] = field(default_factory=list)
    unkept: list[int] = field(default_factory=list)
    """Those of them that are not in the store yet."""
    seconds: float = 0.0
    memory_bytes: int = 0
    foreign_load: float | None = None


def well_known(samples: Sequence[int], percentile: float) -> bool:
    """Whether the percentile's distribution-free 95 % interval is within 5 % of it, on both sides."""
    ends = percentile_interval(samples, percentile)
    if ends is None:
        return False
    value = nearest_rank(sorted(samples), percentile)
    return ends[0] >= (1 - WITHIN) * value and ends[1] <= (1 + WITHIN) * value


def _first(profile: Profile) -> Samples:
    """Samples taken before the configuration was chosen."""
    return profile.samples_ns[: len(profile.samples_ns) - profile.fresh]


def _joined(known: Profile, taken: Profile) -> Profile:
    """Later samples after earlier ones, fresh ones last; the memory is that of the first time, alone."""
    fresh = taken.samples_ns if taken.fresh else known.samples_ns[len(known.samples_ns) - known.fresh :]
    first = _first(known) if taken.fresh else _first(known) + taken.samples_ns
    loads = [load for load in (known.foreign_load, taken.foreign_load) if load is not None]
    return replace(
        taken,
        samples_ns=first + fresh,
        fresh=len(fresh),
        memory_bytes=known.memory_bytes,
        foreign_load=max(loads, default=None),
    )
