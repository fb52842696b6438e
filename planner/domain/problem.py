"""All that the solver sees, and what it answers. Plain numbers: no file, no engine, no graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from planner.domain.offer import Offer


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a workload: a serving configuration on a device, with its capacity.

    ``capacity_rps`` is what one replica takes with headroom already set aside, as long as no more than
    ``side_by_side`` replicas of it, and nothing else, share an instance; beyond that it is
    ``packed_capacity_rps``, extrapolated with a stated derating and therefore never above
    ``capacity_rps`` (0: never run it unmeasured). ``threads`` and ``memory_bytes`` are what one replica
    occupies.
    """

    id: str
    workload: str
    variant: str
    backend: str
    device: str
    threads: int
    max_batch_size: int
    memory_bytes: int
    capacity_rps: float
    side_by_side: int
    packed_capacity_rps: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something that cannot serve, at which ``stage`` it fell out, and why.

    Stages, in order: ``variant``, ``quality``, ``profile``, ``capacity``, ``fleet``.
    """

    stage: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Demand:
    """The rate at which requests of a workload arrive. Raises ValueError unless finite and above 0."""

    workload: str
    rate_rps: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_rps) and self.rate_rps > 0):
            raise ValueError(
                f"workload {self.workload}: the rate must be finite and above 0 rps, got {self.rate_rps}"
            )


@dataclass(frozen=True, slots=True)
class Problem:
    """``max_instances_per_offer`` None means no limit.

    Raises ValueError where two demands, candidates or offers share a name, where there is no demand, and
    where the limit is below 1.
    """

    demands: tuple[Demand, ...]
    candidates: tuple[Candidate, ...]
    offers: tuple[Offer, ...]
    max_instances_per_offer: int | None = None

    def __post_init__(self) -> None:
        if not self.demands:
            raise ValueError("a problem needs at least one demand")
        _all_different("demand", (demand.workload for demand in self.demands))
        _all_different("candidate", (candidate.id for candidate in self.candidates))
        _all_different("offer", (offer.id for offer in self.offers))
        if self.max_instances_per_offer is not None and self.max_instances_per_offer < 1:
            raise ValueError(
                f"the limit of instances per offer must be 1 or more, got {self.max_instances_per_offer}"
            )


@dataclass(frozen=True, slots=True)
class Pattern:
    """What one instance of an offer runs: how many replicas of which candidates.

    ``extrapolated``: more replicas share the instance than were measured side by side, or different ones;
    each then takes its candidate's ``packed_capacity_rps``.
    """

    offer_id: str
    replicas: tuple[tuple[str, int], ...]
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """``instances`` of one pattern, and the rate that each of its candidates gets over all of them.

    ``usd_per_hour`` is the price of all these instances together.
    """

    pattern: Pattern
    instances: int
    flow_rps: tuple[tuple[str, float], ...]
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Solution:
    """``proven`` where the gap is closed; otherwise the best found within the time limit.

    ``bound_usd_per_hour`` is the solver's lower bound on the cost, ``gap`` the share of the cost between.
    """

    placements: tuple[Placement, ...]
    usd_per_hour: float
    bound_usd_per_hour: float
    gap: float
    proven: bool
    solve_seconds: float
    solver: str
    notes: tuple[str, ...] = field(default=())


def _all_different(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two of the problem's {kind}s are called {name}")
        seen.add(name)
