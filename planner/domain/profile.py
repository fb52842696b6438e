"""Raw latencies of a configuration, and the environment they were taken in."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass

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
    """Everything that can change a latency and is not the configuration."""

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

    def describe(self) -> str:
        threads = "thread" if self.threads == 1 else "threads"
        return f"{self.variant}, batch {self.batch_size}, {self.threads} {threads}, {self.backend}"


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples are kept, statistics derived. All replicas' samples are pooled."""

    configuration: Configuration
    environment: Environment
    samples_ns: tuple[int, ...]
    memory_bytes: int
    """Peak resident memory of one replica's process: runtime, weights and activations."""
    taken_at: str
    """ISO 8601, UTC."""
    foreign_load: float | None = None
    """Share of the machine that other processes kept busy while the samples were taken, where known."""

    def percentile_ns(self, percentile: float) -> int:
        """The empirical percentile (nearest rank). Raises SupportError without enough samples."""
        needed = samples_for(percentile)
        if len(self.samples_ns) < needed:
            raise SupportError(
                f"{self.configuration.describe()}: p{percentile:g} needs {needed} samples at 99 % "
                f"confidence, there are {len(self.samples_ns)}; measure more or ask for a lower percentile"
            )
        ordered = sorted(self.samples_ns)
        return ordered[math.ceil(percentile / 100 * len(ordered)) - 1]

    def mean_ns(self) -> float:
        return sum(self.samples_ns) / len(self.samples_ns)
