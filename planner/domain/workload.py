"""What has to be served, how fast, how well, and on what it may run."""

from __future__ import annotations

from dataclasses import dataclass

from planner.domain.quality import AccuracyFloor


@dataclass(frozen=True, slots=True)
class Slo:
    """``percentile`` of the sojourn time stays within ``latency_ns``.

    ``overhead_ns`` (network, pre- and post-processing) is subtracted from the latency; ``headroom`` is
    the share of each replica's capacity that is kept free.
    """

    percentile: float
    latency_ns: int
    overhead_ns: int = 0
    headroom: float = 0.0

    @property
    def budget_ns(self) -> int:
        """What is left for queueing and inference."""
        return self.latency_ns - self.overhead_ns


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    rate_rps: float
    slo: Slo
    floor: AccuracyFloor


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """Empty tuples and None mean *any*."""

    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    purchases: tuple[str, ...] = ("on-demand",)
    max_instances_per_offer: int | None = None
