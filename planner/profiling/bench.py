"""Measuring on this machine what guided profiling asks for, and keeping it in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from math import ceil, inf
from pathlib import Path
from time import monotonic
from typing import Protocol

from planner.backends.tensorrt import TENSORRT, Order, engine_digest
from planner.domain.order_statistics import nearest_rank, percentile_interval
from planner.domain.profile import Configuration, Environment, Profile, samples_for
from planner.domain.progress import Progress, Step, silent
from planner.profiling.guided import PROBE_ITERATIONS, SAMPLE_SHARE, Group, Samples, within
from planner.profiling.replicas import Measurement, running
from planner.profiling.turns import Turns
from planner.store import ProfileStore

ROUNDS = 4
"""The samples that a percentile needs are taken in so many turns, each batch size having one in each."""
WITHIN = 0.05
"""Measuring stops when both ends of the percentile's 95 % interval are this close to it..."""
SECONDS = 4.0
"""...or when a configuration has had this long beyond what its percentile needs.

A configuration that drifts is not done: its oldest turn is left out and another one taken, up to as many
times as there are turns. The profile tells what drift there still is then."""
BUSY = 0.1
"""Others may keep this share of the machine busy; a turn that met more, or throttling, is taken again..."""
REPEATS = 1
"""...so often, and then kept: the profile tells the load, and what throttled."""
START_SECONDS = 1.0
"""What starting and warming up the replicas takes, for estimates only."""


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration, the engine to load and an ``.npz`` with the inputs to feed it.

    ``gpu``: the UUID of the one to run on; empty where that is no GPU. ``build``: what TensorRT is to make of
    the engine first, for a job that travels as an ONNX file. ``request_class``: whose inputs these are.
    """

    configuration: Configuration
    engine: Path
    feed: Path
    gpu: str = ""
    build: Order | None = None
    request_class: str = ""


class Running(Protocol):
    """Replicas of an engine; see ``replicas.Replicas``."""

    def rest(self) -> None: ...

    def measure(self, samples: int, timeout_s: float, feed: int = 0) -> Measurement: ...


Start = Callable[[Sequence[Job]], AbstractContextManager[Running]]
"""Starts the replicas of jobs that differ in their inputs only; these are numbered in that order."""


def start_locally(jobs: Sequence[Job]) -> AbstractContextManager[Running]:
    first, feeds = jobs[0].configuration, [job.feed for job in jobs]
    return running(jobs[0].engine, first.backend, first.threads, first.replicas, feeds, jobs[0].gpu)


def group_jobs(jobs: Sequence[Job], classes: Sequence[str] = ("",)) -> tuple[Group, ...]:
    """The configurations of the jobs, those of one engine and thread count together, by class."""
    of = {job.configuration: job.request_class for job in jobs}
    return group_configurations(of, classes, of.__getitem__)


def group_configurations(
    configurations: Iterable[Configuration],
    classes: Sequence[str] = ("",),
    class_of: Callable[[Configuration], str] = lambda c: "",
) -> tuple[Group, ...]:
    """Those of one engine, device, thread count, number of replicas and class of requests together.

    Named by the number of replicas only where it tells two apart. ``classes``: from the smallest requests to
    the largest.
    """
    by_engine: dict[tuple[str, str, str, str, int], dict[int, list[Configuration]]] = {}
    for c in configurations:
        engine = (c.variant, c.variant_sha256, c.backend, c.device, c.threads)
        by_engine.setdefault(engine, {}).setdefault(c.replicas, []).append(c)
    groups: list[Group] = []
    for (variant, _, backend, device, threads), by_replicas in by_engine.items():
        for replicas, found in by_replicas.items():
            name = f"{variant}/{backend}/{device}/t{threads}"
            name += f"/x{replicas}" if len(by_replicas) > 1 else ""
            ascending = sorted(found, key=lambda c: c.batch_size)
            groups += _of_classes(name, ascending, classes, class_of)
    return tuple(groups)


def _of_classes(
    name: str,
    ascending: list[Configuration],
    classes: Sequence[str],
    class_of: Callable[[Configuration], str],
) -> list[Group]:
    """Of one engine's configurations, ascending by batch size, a group for each class that they are of."""
    groups: list[Group] = []
    for of_class in classes:
        mine = tuple(c for c in ascending if class_of(c) == of_class)
        if mine:
            sizes = _batch_sizes(mine)
            beside = (g.name for g in groups if _batch_sizes(g.configurations)[: len(sizes)] == sizes)
            called = f"{name}/{of_class}" if of_class else name
            groups.append(Group(called, mine, request_class=of_class, smaller=tuple(beside)))
    return groups


def _batch_sizes(configurations: Iterable[Configuration]) -> tuple[int, ...]:
    return tuple(c.batch_size for c in configurations)


class Bench:
    """``probe`` and ``full`` of ``guided.Measures``: from the store where it has them, else measured.

    What is measured is stored turn by turn, so that a killed run loses at most the turn under way. The engine
    measured last stays loaded, resting, until another one is asked for or the bench is closed.
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
        self._digests: dict[Path, str] = {}
        self._loaded: tuple[Group, Running, ExitStack] | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the replicas that are still loaded."""
        if self._loaded is not None:
            _, _, stack = self._loaded
            self._loaded = None
            stack.close()

    def probe(self, group: Group, budget_ns: float = inf) -> Mapping[Configuration, Samples]:
        """A few iterations of every batch size up to the first that is over the budget."""
        probed: dict[Configuration, Samples] = {}
        while len(probed) < len(group.configurations) and within(group, probed, budget_ns) == len(probed):
            wanted = group.configurations
            self._take(group, wanted, PROBE_ITERATIONS, fresh=False, over_ns=budget_ns)
            known = takewhile(lambda c: self._count(c, False) >= PROBE_ITERATIONS, group.configurations)
            probed = {c: self._first_of(c, PROBE_ITERATIONS) for c in known}
        return probed

    def sample(self, group: Group, count: int) -> Mapping[Configuration, Samples]:
        """An eighth of what the percentile needs."""
        iterations = max(self._needed // SAMPLE_SHARE, PROBE_ITERATIONS)
        self._take(group, group.prefix(count), iterations, fresh=False)
        return {c: self._first_of(c, iterations) for c in group.prefix(count)}

    def full(self, group: Group, count: int, again: bool) -> Mapping[Configuration, Samples]:
        """What the percentile needs, and more until it is known well enough; ``again``: fresh samples."""
        wanted = group.prefix(count)
        self._take(group, wanted, self._needed, fresh=again)
        profiles = {c: self.profiles[c] for c in wanted}
        return {c: p.in_service(p.judged_ns if again else _first(p)) for c, p in profiles.items()}

    def _first_of(self, configuration: Configuration, count: int) -> Samples:
        profile = self.profiles[configuration]
        return profile.in_service(profile.samples_ns[:count])

    def reused(self) -> int:
        """How many of the configurations looked at came from the store as they were."""
        return len(set(self.profiles) - self.measured)

    def _take(
        self,
        group: Group,
        configurations: Sequence[Configuration],
        needed: int,
        fresh: bool,
        over_ns: float = inf,
    ) -> None:
        """Samples until there are ``needed``; batch sizes beyond the first over ``over_ns`` are left out."""
        for c in configurations:
            known = None if c in self.profiles else self._store.find(c, self._environment(c))
            # Two builds of one variant are not equally fast: another engine's profile says nothing.
            if known is not None and known.engine_sha256 == self._engine_sha256(c):
                self.profiles[c] = known
        missing = [c for c in configurations if self._count(c, fresh) < needed]
        if not missing:
            return
        doing = "probing" if needed < self._needed else "confirming" if fresh else "measuring"
        with self._replicas(group) as replicas:
            numbers = {c: number for number, c in enumerate(group.configurations)}
            open_ = {c: Turns(numbers[c], needed - self._count(c, fresh)) for c in missing}
            before = {c: self.profiles.get(c) for c in missing}
            turn = 0
            while open_:
                # In turn, so that drift hits all alike; ascending at first, for the memory of each.
                for c in sorted(open_, key=lambda c: open_[c].feed, reverse=bool(turn % 2)):
                    what = f"{group.name}, batch {c.batch_size}"
                    self._progress(Step(doing, what, len(self.measured), 0))
                    if c not in open_:
                        continue
                    turns = open_[c]
                    self._turn(replicas, turns)
                    if turn == 0 and min(turns.samples_ns) > over_ns:
                        open_ = {other: t for other, t in open_.items() if t.feed <= turns.feed}
                    finished = self._finished(turns, probing=doing == "probing")
                    # Part of fresh samples is no confirmation yet, and must not pass for one.
                    if finished or not fresh:
                        self._keep(c, turns, before[c], fresh)
                    if finished:
                        del open_[c]
                turn += 1

    @contextmanager
    def _replicas(self, group: Group) -> Iterator[Running]:
        """The group's, started unless they are loaded; a failure ends them."""
        if self._loaded is None or self._loaded[0] != group:
            self.close()
            stack = ExitStack()
            replicas = stack.enter_context(self._start([self._jobs[c] for c in group.configurations]))
            self._loaded = (group, replicas, stack)
        _, replicas, _ = self._loaded
        try:
            yield replicas
            replicas.rest()
        except BaseException:
            self.close()
            raise

    def _engine_sha256(self, configuration: Configuration) -> str:
        """As ``Profile.engine_sha256``."""
        if configuration.backend not in TENSORRT:
            return ""
        engine = self._jobs[configuration].engine
        if engine not in self._digests:
            self._digests[engine] = engine_digest(engine)
        return self._digests[engine]

    def _count(self, configuration: Configuration, fresh: bool) -> int:
        known = self.profiles.get(configuration)
        if known is None:
            return 0
        return known.fresh if fresh else len(known.samples_ns) - known.fresh

    def _turn(self, replicas: Running, turns: Turns) -> None:
        count = turns.count
        # What goes on beyond what the percentile needs grows with what there is, so that turns stay few.
        chunk = max(ceil(turns.needed / ROUNDS), count // ROUNDS if count >= turns.needed else 0)
        for attempt in range(REPEATS + 1):
            begin = self._clock()
            taken = replicas.measure(chunk, timeout_s=60.0 + 10.0 * chunk, feed=turns.feed)
            if attempt == 0:
                turns.memory_bytes = turns.memory_bytes or taken.memory_bytes
            if (taken.foreign_load or 0.0) <= BUSY and not taken.conditions.throttled:
                break
        turns.take(taken, self._clock() - begin)

    def _finished(self, turns: Turns, probing: bool) -> bool:
        samples = turns.samples_ns
        if len(samples) < turns.needed:
            return False
        if probing:
            return True
        if turns.drift and turns.left_out < ROUNDS:
            turns.leave_out_oldest()
            return False
        return turns.seconds >= SECONDS or well_known(samples, self._percentile)

    def _keep(self, configuration: Configuration, turns: Turns, before: Profile | None, fresh: bool) -> None:
        """Store what counts of the turns so far, after what was known ``before`` them."""
        samples = turns.samples_ns
        taken = Profile(
            configuration=configuration,
            environment=self._environment(configuration),
            samples_ns=samples,
            memory_bytes=turns.memory_bytes,
            taken_at=self._now().isoformat(timespec="seconds"),
            foreign_load=turns.foreign_load,
            fresh=len(samples) if fresh else 0,
            conditions=turns.conditions,
            engine_sha256=self._engine_sha256(configuration),
        )
        profile = taken if before is None else _joined(before, taken)
        self._store.put(profile)
        self.profiles[configuration] = self._store.calibrated(profile)
        self.measured.add(configuration)


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
        conditions=known.conditions.joined(
            taken.conditions, len(taken.samples_ns) / (len(known.samples_ns) + len(taken.samples_ns))
        ),
    )
