"""What has to be served, how fast, how well, and on what it may run."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from planner.domain.problem import NO_LOSS, Quota, RequestClass
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


QUEUEING, SATURATED = "queueing", "saturated"
"""What a capacity is: with the wait in the queue, or what is left where that is ignored."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How irregularly requests come, at whatever rate.

    ``cv``: the coefficient of variation of the times between them, which are gamma distributed and
    independent; at 1 that is Poisson. ``trace``, in place of it: when recorded requests came, ascending from
    0, counted in mean gaps (so about as far as there are requests), to be replayed in a circle.

    Raises ValueError where neither makes sense.
    """

    cv: float = 1.0
    trace: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cv) and self.cv > 0):
            raise ValueError(f"the coefficient of variation must be above 0, got {self.cv}")
        if self.trace and not (self.trace[0] >= 0 and self.trace[-1] > 0):
            raise ValueError("a trace starts at 0 or later, and needs requests at two different times")

    @property
    def poisson(self) -> bool:
        """Whether they come independently of each other."""
        return self.cv == 1.0 and not self.trace


POISSON = Arrivals()


@dataclass(frozen=True, slots=True)
class Batching:
    """What is considered of a replica: how long it may wait for a fuller batch, and how many instances of its
    engine share its queue."""

    queue_delays_ns: tuple[int, ...] = (0,)
    instances: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class Workload:
    """``rates_rps``: the rate in each of the fleet's periods, in their order, ``rate_rps`` the largest of
    them; empty: ``rate_rps`` always. ``redundancy`` and ``max_spot_share`` as in ``problem.Demand``.

    ``floor_on_average``: the floor is that of the mean over all requests, not of each variant that serves.
    ``capacity``: ``QUEUEING`` or ``SATURATED``. ``classes``: from the smallest requests to the largest, to
    which a batch is padded; none: all requests are alike.
    """

    name: str
    rate_rps: float
    slo: Slo
    floor: AccuracyFloor
    rates_rps: tuple[float, ...] = ()
    redundancy: str = NO_LOSS
    max_spot_share: float = 1.0
    floor_on_average: bool = False
    arrivals: Arrivals = POISSON
    batching: Batching = Batching()
    capacity: str = QUEUEING
    classes: tuple[RequestClass, ...] = ()

    def shares(self, classes: Collection[str]) -> tuple[float, ...]:
        """What part of the requests each of these classes is, in the workload's order; (1,) of none."""
        return tuple(c.share for c in self.classes if c.name in classes) or (1.0,)


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
