"""What has to be served, how fast, how well, and on what it may run."""

from __future__ import annotations

from dataclasses import dataclass

from planner.domain.problem import NO_LOSS, Quota
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
    """``rates_rps``: the rate in each of the fleet's periods, in their order, ``rate_rps`` the largest of
    them; empty: ``rate_rps`` always. ``redundancy`` and ``max_spot_share`` as in ``problem.Demand``.

    ``floor_on_average``: the floor is that of the mean over all requests, not of each variant that serves.
    """

    name: str
    rate_rps: float
    slo: Slo
    floor: AccuracyFloor
    rates_rps: tuple[float, ...] = ()
    redundancy: str = NO_LOSS
    max_spot_share: float = 1.0
    floor_on_average: bool = False


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """What may be bought. Empty tuples and None mean *any*.

    ``without`` and ``only`` name devices, their architectures (``Ampere``) or their kinds (``gpu``).
    ``spot_availability``: the part of the time that a spot instance is there, as stated by the user.
    """

    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    purchases: tuple[str, ...] = ("on-demand",)
    max_instances_per_offer: int | None = None
    terms: tuple[str, ...] = ()
    """Of commitments: ``1yr``, ``3yr``."""
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    quotas: tuple[Quota, ...] = ()
    budget_usd_per_hour: float | None = None
    max_kinds: int | None = None
    min_zones: int = 0
    spot_availability: float = 1.0
