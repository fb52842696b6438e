"""All that the solver sees, and what it answers. Plain numbers: no file, no engine, no graph."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.domain.offer import Offer


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a workload: a serving configuration on a device, with its capacity.

    ``capacity_rps`` is what one replica takes with headroom already set aside, as long as no more than
    ``side_by_side`` replicas share an instance; beyond that it is ``packed_capacity_rps``, extrapolated
    with a stated derating. ``threads`` and ``memory_bytes`` are what one replica occupies.
    """

    id: str
    workload: str
    recipe: str
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
    workload: str
    rate_rps: float


@dataclass(frozen=True, slots=True)
class Problem:
    """``max_instances_per_offer`` None means no limit."""

    demands: tuple[Demand, ...]
    candidates: tuple[Candidate, ...]
    offers: tuple[Offer, ...]
    max_instances_per_offer: int | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """What one instance of an offer runs: how many replicas of which candidates.

    ``extrapolated``: more replicas share the instance than were measured side by side.
    """

    offer_id: str
    replicas: tuple[tuple[str, int], ...]
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """``instances`` of one pattern, and the rate that each of its candidates gets over all of them."""

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
