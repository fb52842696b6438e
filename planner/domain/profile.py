"""Latencies of a configuration, raw or as published, and the environment they were taken in."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass

from planner.domain.conditions import NOT_TOLD, Conditions
from planner.domain.order_statistics import nearest_rank
from planner.domain.published import Published
from planner.errors import SupportError

CONFIDENCE = 0.99


def samples_for(percentile: float) -> int:
    """The fewest samples whose maximum bounds ``percentile`` from above at 99 % confidence.

    Order statistics: the largest of n samples is below the p-quantile with probability p^n, so
    n = ceil(ln 0.01 / ln p): 44 for p90, 90 for p95, 459 for p99.
    Source: MLPerf Inference rules, early stopping.
    """
    if not 0 < percentile < 100:
        raise ValueError(f"a percentile lies between 0 and 100, got {percentile}")
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(percentile / 100))


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that can change a latency and is not the configuration.

    Of imported profiles (``imported_environment``) only libraries and source are known.
    """

    cpu_model: str
    cpu_architecture: str
    cpu_flags: tuple[str, ...]
    cores: int
    """Hardware threads that this process may use."""
    memory_bytes: int
    system: str
    libraries: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        """Short digest; two environments with different ids are never mixed."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is measured: one variant on one device, at one batch size, with its neighbours."""

    model_sha256: str
    variant: str
    variant_sha256: str
    device: str
    backend: str
    batch_size: int
    threads: int
    """Intra-op threads of one replica."""
    replicas: int
    """How many copies ran side by side while the samples were taken."""
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    """Shape of each input at this batch size, by name."""
    model: str = ""
    """What the source of an imported profile calls the model, of which there is no file to hash."""

    def describe(self) -> str:
        threads = "thread" if self.threads == 1 else "threads"
        return f"{self.variant}, batch {self.batch_size}, {self.threads} {threads}, {self.backend}"


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples are kept, statistics derived. All replicas' samples are pooled.

    An *imported* profile has a ``source``, and may hold what was ``published`` in place of samples. Raises
    ValueError unless it holds one of the two.
    """

    configuration: Configuration
    environment: Environment
    samples_ns: tuple[int, ...]
    memory_bytes: int
    """Peak resident memory of one replica's process: runtime, weights and activations; 0 where an imported
    profile does not say."""
    taken_at: str
    """ISO 8601, UTC; empty where an imported profile does not say."""
    foreign_load: float | None = None
    """Share of the machine that other processes kept busy while the samples were taken, where known."""
    fresh: int = 0
    """How many samples, the last ones, were taken after the configuration had been chosen for a plan."""
    source: str = ""
    """Where the figures come from; empty: measured by the planner, here or on another machine."""
    published: Published | None = None
    conditions: Conditions = NOT_TOLD
    engine_sha256: str = ""
    """Of the engine that was timed, where a backend builds one of the variant: two builds of it differ."""
    calibration: float = 1.0
    """How many times as long services took when the variant really served: samples stay as they are."""

    def __post_init__(self) -> None:
        if bool(self.samples_ns) == (self.published is not None):
            raise ValueError("a profile holds samples or published percentiles, one of the two")
        if self.published is not None and not self.source:
            raise ValueError("published percentiles need the source they come from")

    @property
    def samples(self) -> int | None:
        """How many there are; None where only percentiles are known."""
        return None if self.published else len(self.samples_ns)

    @property
    def service_ns(self) -> tuple[int, ...]:
        """Equally likely service times for the capacity: the samples to promise by, or the conservative step
        distribution through the percentiles published; calibrated."""
        return self.in_service(self.published.steps_ns() if self.published else self.judged_ns)

    def in_service(self, samples_ns: tuple[int, ...]) -> tuple[int, ...]:
        """As long as they are when the variant really serves."""
        if self.calibration == 1.0:
            return samples_ns
        return tuple(max(round(ns * self.calibration), 1) for ns in samples_ns)

    @property
    def judged_ns(self) -> tuple[int, ...]:
        """The samples to promise by: the fresh ones where there are any; being chosen flatters the rest."""
        return self.samples_ns[-self.fresh :] if self.fresh else self.samples_ns

    @property
    def cpu_joules_per_request(self) -> float | None:
        """Of all CPU packages of the machine; None where not readable."""
        return _per_request(self.conditions.cpu_joules, self.configuration.batch_size)

    @property
    def gpu_joules_per_request(self) -> float | None:
        """None where it did not run on a GPU, or that does not tell."""
        return _per_request(self.conditions.gpu_joules, self.configuration.batch_size)

    def percentile_ns(self, percentile: float) -> int:
        """The empirical percentile (nearest rank), or the published one.

        Raises SupportError without enough samples, or where it was not published.
        """
        if self.published is not None:
            return self._published_ns(self.published, percentile)
        needed = samples_for(percentile)
        if len(self.samples_ns) < needed:
            raise SupportError(
                f"{self.configuration.describe()}: p{percentile:g} needs {needed} samples at 99 % "
                f"confidence, there are {len(self.samples_ns)}; measure more or ask for a lower percentile"
            )
        return nearest_rank(sorted(self.samples_ns), percentile)

    def mean_ns(self) -> float:
        """Raises SupportError where it was not published."""
        if self.published is None:
            return sum(self.samples_ns) / len(self.samples_ns)
        if self.published.mean_ns is None:
            raise SupportError(f"{self.configuration.describe()}: no mean was published by {self.source}")
        return self.published.mean_ns

    def _published_ns(self, published: Published, percentile: float) -> int:
        known = dict(published.percentiles_ns)
        if percentile not in known:
            given = ", ".join(f"p{level:g}" for level in known)
            raise SupportError(
                f"{self.configuration.describe()}: p{percentile:g} is not known, {self.source} gives "
                f"{given}; ask for one of those"
            )
        return known[percentile]


def _per_request(joules: float | None, batch_size: int) -> float | None:
    return None if joules is None else joules / batch_size


def imported_environment(source: str, libraries: tuple[tuple[str, str], ...]) -> Environment:
    """What imported profiles belong to: each source is one, and none is an environment of the planner's."""
    return Environment("", "", (), 0, 0, f"imported: {source}", libraries)
