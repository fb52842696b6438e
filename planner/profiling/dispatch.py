"""Profiling on many machines: tasks for each device, one at a time; what is lost is repeated elsewhere.

Nothing here knows Ray: a ``Cluster`` is whoever can run ``measure_group`` on a node and tell what became
of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Protocol

from planner.backends import backend
from planner.backends.tensorrt import Order as Build
from planner.backends.tensorrt import adopt, engine_for, engines_beside, mark_measured, record_path
from planner.domain.problem import Rejection
from planner.domain.profile import Configuration, Environment, Profile, samples_for
from planner.domain.progress import Progress, Step, silent
from planner.errors import BackendError
from planner.profiling.apart import apart
from planner.profiling.bench import Bench, Job, Start, group_jobs, start_locally
from planner.profiling.campaign import Campaign, measure_able
from planner.profiling.cluster import Kind, Slot
from planner.profiling.guided import PROBE_ITERATIONS, Group, within
from planner.store import ProfileStore, profile_from_json, profile_to_json
from planner.units import format_ms


@dataclass(frozen=True, slots=True)
class Order:
    """A group of configurations to measure, one engine and its batch sizes, and how well.

    ``build``: what TensorRT makes of the ``engine``, an ONNX file then, on the node.
    """

    engine: str
    configurations: tuple[Configuration, ...]
    environment: Environment
    percentile: float
    budget_ns: int
    build: Build | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The profiles taken, as JSON of the store's format, and why not all of the group, where it failed.

    ``engine``: the files of the engine that was built there and measured, by name.
    """

    profiles: tuple[str, ...]
    failed: str | None = None
    engine: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lost:
    """The task ended without an answer. ``gone``: its node takes no more tasks."""

    reason: str
    gone: bool


class Cluster(Protocol):
    """Runs ``measure_group`` on its nodes."""

    def send(self, order: Order, jobs: Sequence[Job], slot: Slot) -> Hashable:
        """Start the order there, with the files of its jobs; returns a ticket for ``next``."""
        ...

    def next(self, tickets: Collection[Hashable]) -> tuple[Hashable, Answer | Lost]:
        """Wait for any of them to end."""
        ...


def measure_group(
    order: Order, engine: Mapping[str, bytes], *feeds: bytes, start: Start = start_locally
) -> Answer:
    """What a node does: probe every batch size, then measure in full those that can serve.

    ``engine``: the files of the engine by name; ``feeds``: an ``.npz`` for each configuration.
    """
    with tempfile.TemporaryDirectory(prefix="planner-") as name:
        folder = Path(name)
        for location, content in engine.items():
            (folder / location).parent.mkdir(parents=True, exist_ok=True)
            (folder / location).write_bytes(content)
        file = folder / order.engine
        if order.build is not None:
            try:
                backend_name, engines = order.configurations[0].backend, engines_beside(folder / "profiles")
                file = apart(engine_for, backend_name, file, order.build, engines).engine
            except BackendError as error:
                return Answer((), str(error))
        jobs = []
        for number, (configuration, feed) in enumerate(zip(order.configurations, feeds, strict=True)):
            path = folder / f"feed-{number}.npz"
            path.write_bytes(feed)
            jobs.append(Job(configuration, file, path))
        (group,) = group_jobs(jobs)
        failed = None
        with Bench(
            jobs,
            ProfileStore(folder / "profiles"),
            lambda c: order.environment,
            order.percentile,
            start=start,
        ) as bench:
            try:
                measure_able(bench, group, order.budget_ns)
            except BackendError as error:
                failed = str(error)
        taken = tuple(profile_to_json(p) for p in bench.profiles.values())
        if order.build is None or failed:
            return Answer(taken, failed)
        mark_measured(file)
        return Answer(taken, None, {path.name: path.read_bytes() for path in (file, record_path(file))})


@dataclass(slots=True)
class _Task:
    kind: Kind
    name: str
    jobs: tuple[Job, ...]
    lost_on: list[str] = field(default_factory=list)
    """Ids of the nodes that it was lost with."""
    reason: str = ""

    @property
    def subject(self) -> str:
        return f"{self.name} on {self.kind.device}"


def profile_on(
    cluster: Cluster,
    slots: Sequence[Slot],
    jobs: Mapping[Kind, Sequence[Job]],
    store: ProfileStore,
    percentile: float,
    budget_ns: int,
    progress: Progress = silent,
) -> Campaign:
    """Profiles of all jobs, each measured on a device of its kind; what arrives is stored at once.

    What ``store`` holds for one of the nodes is not measured again. A task that is lost with its node is
    repeated on another one of the kind; where there is none left it becomes a rejection.
    """
    run = _Run(cluster, slots, jobs, store, percentile, budget_ns, progress)
    run.until_done()
    return run.campaign()


class _Run:
    def __init__(
        self,
        cluster: Cluster,
        slots: Sequence[Slot],
        jobs: Mapping[Kind, Sequence[Job]],
        store: ProfileStore,
        percentile: float,
        budget_ns: int,
        progress: Progress,
    ) -> None:
        self._cluster, self._store, self._progress = cluster, store, progress
        self._percentile, self._budget_ns = percentile, budget_ns
        self._needed = samples_for(percentile)
        self._idle = list(slots)
        self._running: dict[Hashable, tuple[_Task, Slot]] = {}
        self._profiles: dict[Configuration, Profile] = {}
        self._measured: set[Configuration] = set()
        self._failed: list[Rejection] = []
        self._notes: list[str] = []
        self._groups = [
            (kind, group)
            for kind, asked in jobs.items()
            for group in group_jobs(asked, list(dict.fromkeys(job.request_class for job in asked)))
        ]
        job_of = {job.configuration: job for asked in jobs.values() for job in asked}
        self._pending = [
            _Task(kind, group.name, tuple(job_of[c] for c in missing))
            for kind, group in self._groups
            if (missing := self._missing(kind, group))
        ]
        self._total = len(self._pending)

    def until_done(self) -> None:
        while True:
            self._hand_out()
            self._give_up()
            self._tell()
            if not self._running:
                return
            ticket, outcome = self._cluster.next(self._running.keys())
            task, slot = self._running.pop(ticket)
            if isinstance(outcome, Lost):
                self._lose(task, slot, outcome)
            else:
                self._keep(task, outcome)
                self._idle.append(slot)

    def campaign(self) -> Campaign:
        over = [
            Rejection("profile", f"{c.describe()} on {kind.device}", self._too_slow(self._profiles[c]))
            for kind, group in self._groups
            for c in self._beyond(group)
        ]
        return Campaign(
            profiles=tuple(p for p in self._profiles.values() if self._enough(p)),
            probes=tuple(self._profiles.values()),
            rejections=(*self._failed, *over),
            measured=len(self._measured),
            reused=len(set(self._profiles) - self._measured),
            notes=tuple(self._notes),
        )

    def _missing(self, kind: Kind, group: Group) -> list[Configuration]:
        """What to measure of a group; what one of the kind's nodes has measured before is found."""
        for c in group.configurations:
            environments = {_environment(slot, c) for slot in self._idle if slot.kind == kind}
            found = [known for e in environments if (known := self._store.find(c, e)) is not None]
            if found:
                self._profiles[c] = max(found, key=lambda profile: len(profile.samples_ns))
        spared = self._beyond(group) | {c for c, profile in self._profiles.items() if self._enough(profile)}
        return [c for c in group.configurations if c not in spared]

    def _beyond(self, group: Group) -> set[Configuration]:
        """What is not measured in full: from the first batch size on whose median is over the budget."""
        known = [c for c in group.configurations if c in self._profiles]
        probed = {c: self._profiles[c].samples_ns[:PROBE_ITERATIONS] for c in known}
        if not all(len(probed.get(c, ())) == PROBE_ITERATIONS for c in group.configurations):
            return set()
        count = within(group, probed, self._budget_ns)
        return {c for c in group.configurations[count:] if not self._enough(self._profiles[c])}

    def _too_slow(self, profile: Profile) -> str:
        took = round(median(profile.samples_ns))
        return (
            f"over the SLO: the median is {format_ms(took)}, or a smaller batch's is over the budget, "
            f"{format_ms(self._budget_ns)} (from {PROBE_ITERATIONS} samples)"
        )

    def _enough(self, profile: Profile) -> bool:
        return len(profile.samples_ns) - profile.fresh >= self._needed

    def _hand_out(self) -> None:
        for slot in tuple(self._idle):
            task = next((task for task in self._pending if _takes(slot, task)), None)
            if task is None:
                continue
            configurations = tuple(job.configuration for job in task.jobs)
            order = Order(
                engine=task.jobs[0].engine.name,
                configurations=configurations,
                environment=_environment(slot, configurations[0]),
                percentile=self._percentile,
                budget_ns=self._budget_ns,
                build=task.jobs[0].build,
            )
            self._running[self._cluster.send(order, task.jobs, slot)] = (task, slot)
            self._pending.remove(task)
            self._idle.remove(slot)

    def _give_up(self) -> None:
        """Reject what no device that is left can take."""
        left = [*self._idle, *(slot for _, slot in self._running.values())]
        for task in tuple(self._pending):
            if not any(_takes(slot, task) for slot in left):
                self._pending.remove(task)
                why = f"{task.reason}, and " if task.reason else ""
                reason = f"{why}no other node of the kind is left; start one and run the command again"
                self._failed.append(Rejection("profile", task.subject, reason))

    def _lose(self, task: _Task, slot: Slot, lost: Lost) -> None:
        task.lost_on.append(slot.node.id)
        task.reason = f"lost with node {slot.node.address} ({lost.reason})"
        self._pending.insert(0, task)
        if lost.gone:
            self._idle = [other for other in self._idle if other.node.id != slot.node.id]
        else:
            self._idle.append(slot)
        if any(_takes(other, task) for other in (*self._idle, *(s for _, s in self._running.values()))):
            self._notes.append(f"{task.subject}: {task.reason}, repeated on another node of the kind.")

    def _keep(self, task: _Task, answer: Answer) -> None:
        for text in answer.profiles:
            profile = profile_from_json(text, f"what a node sent of {task.subject}")
            self._store.put(profile)
            self._profiles[profile.configuration] = profile
            self._measured.add(profile.configuration)
        if answer.engine:
            adopt(answer.engine, engines_beside(self._store.folder) / task.kind.device)
        if answer.failed:
            self._failed.append(Rejection("profile", task.subject, answer.failed))

    def _tell(self) -> None:
        under_way = "; ".join(
            f"{task.subject} at {slot.node.address}" for task, slot in self._running.values()
        )
        done = self._total - len(self._pending) - len(self._running)
        self._progress(Step("measuring", under_way, done, self._total))


def _takes(slot: Slot, task: _Task) -> bool:
    return slot.kind == task.kind and slot.node.id not in task.lost_on


def _environment(slot: Slot, configuration: Configuration) -> Environment:
    """What profiles taken there belong to."""
    there = slot.libraries.get(configuration.backend)
    libraries = there if isinstance(there, tuple) else backend(configuration.backend).libraries()
    return replace(slot.environment, libraries=libraries)
