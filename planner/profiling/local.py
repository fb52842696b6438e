"""Profiling on this machine: probe everything, screen, measure in full what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from planner.domain.problem import Rejection
from planner.domain.profile import Configuration, Environment, Profile, samples_for
from planner.domain.progress import Progress, Step, silent
from planner.errors import BackendError
from planner.profiling.replicas import Measurement, running
from planner.profiling.screening import PROBE_SAMPLES, screen
from planner.store import ProfileStore
from planner.units import NS_PER_S

START_SECONDS = 1.0
"""What starting and warming up the replicas takes, for estimates only."""


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration, the engine to load and an ``.npz`` with the inputs to feed it."""

    configuration: Configuration
    engine: Path
    feed: Path


@dataclass(frozen=True, slots=True)
class Campaign:
    """Full profiles, the probes they were chosen from, what was screened out or failed, and how many
    configurations were measured just now."""

    profiles: tuple[Profile, ...]
    probes: tuple[Profile, ...]
    rejections: tuple[Rejection, ...]
    measured: int
    reused: int


Measure = Callable[[Job, int], Measurement]


def measure_locally(job: Job, samples: int) -> Measurement:
    """Run the configuration's replicas side by side in processes of their own and time them."""
    configuration = job.configuration
    with running(
        job.engine, configuration.backend, configuration.threads, configuration.replicas, [job.feed]
    ) as replicas:
        return replicas.measure(samples, timeout_s=60.0 + 10.0 * samples)


def profile_all(
    jobs: Sequence[Job],
    store: ProfileStore,
    environment: Environment,
    percentile: float,
    budget_ns: int,
    measure: Measure = measure_locally,
    progress: Progress = silent,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Campaign:
    """Profiles that support ``percentile`` for every job that can serve within ``budget_ns``.

    Each measurement is stored as soon as it is taken, so an interrupted run loses at most the one under
    way. What the store already holds for this environment is not measured again.
    """
    needed = max(samples_for(percentile), PROBE_SAMPLES)
    campaign = _Recorder(store, environment, measure, now)
    probes: dict[Configuration, Profile] = {}
    for done, job in enumerate(jobs):
        progress(Step("probing", job.configuration.describe(), done, len(jobs)))
        profile = campaign.at_least(job, PROBE_SAMPLES)
        if profile is not None:
            probes[job.configuration] = profile
    progress(Step("probing", "", len(jobs), len(jobs)))

    reasons = screen(probes, budget_ns)
    kept = [job for job in jobs if job.configuration in probes and job.configuration not in reasons]
    profiles = []
    for done, job in enumerate(kept):
        left = _seconds_left(kept[done:], probes, needed)
        progress(Step("measuring", job.configuration.describe(), done, len(kept), left))
        profile = campaign.at_least(job, needed)
        if profile is not None:
            profiles.append(profile)
    progress(Step("measuring", "", len(kept), len(kept), 0.0))

    screened = [Rejection("profile", c.describe(), reason) for c, reason in reasons.items()]
    return Campaign(
        tuple(profiles),
        tuple(probes.values()),
        (*campaign.failures, *screened),
        len(campaign.measured),
        campaign.reused(jobs),
    )


class _Recorder:
    """Measures what the store lacks, stores it at once, and remembers failures."""

    def __init__(
        self, store: ProfileStore, environment: Environment, measure: Measure, now: Callable[[], datetime]
    ) -> None:
        self._store, self._environment, self._measure, self._now = store, environment, measure, now
        self.failures: list[Rejection] = []
        self.measured: set[Configuration] = set()

    def at_least(self, job: Job, samples: int) -> Profile | None:
        """A profile with that many samples: the stored one, extended where it is too short."""
        known = self._store.find(job.configuration, self._environment)
        missing = samples - (len(known.samples_ns) if known else 0)
        if known is not None and missing <= 0:
            return known
        self.measured.add(job.configuration)
        try:
            taken = self._measure(job, missing)
        except BackendError as error:
            self.failures.append(Rejection("profile", job.configuration.describe(), str(error)))
            return None
        profile = Profile(
            configuration=job.configuration,
            environment=self._environment,
            samples_ns=taken.samples_ns,
            memory_bytes=taken.memory_bytes,
            taken_at=self._now().isoformat(timespec="seconds"),
            foreign_load=taken.foreign_load,
        )
        if known is not None:
            # The probe stays in front: screening a stored profile must come to the same verdict.
            profile = replace(
                profile,
                samples_ns=known.samples_ns + taken.samples_ns,
                memory_bytes=max(known.memory_bytes, taken.memory_bytes),
            )
        self._store.put(profile)
        return profile

    def reused(self, jobs: Iterable[Job]) -> int:
        return len({job.configuration for job in jobs} - self.measured)


def _seconds_left(jobs: Sequence[Job], probes: dict[Configuration, Profile], needed: int) -> float:
    seconds = 0.0
    for job in jobs:
        probe = probes[job.configuration]
        missing = max(needed - len(probe.samples_ns), 0)
        if missing:
            share = missing / job.configuration.replicas
            seconds += START_SECONDS + share * probe.mean_ns() / NS_PER_S
    return seconds
