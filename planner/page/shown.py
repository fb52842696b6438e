"""What the page shows besides plan.json itself: figures that are found again from the plan's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.capacity import SojournByRate
from planner.domain.problem import Candidate
from planner.domain.reasons import Alternative, Curve
from planner.optimize import Full
from planner.report import PlanReport


@dataclass(frozen=True, slots=True)
class ByRate:
    """What a replica of a candidate does to latencies; ``extrapolated``: crowded, with stretched service
    times."""

    candidate_id: str
    extrapolated: bool
    curve: SojournByRate


@dataclass(frozen=True, slots=True)
class Shown:
    """``candidates`` and ``full``: by id, as the solver saw them, and what each costs by itself.
    ``missing``: what could not be found, and why, by the section that it would be in.
    """

    report: PlanReport
    candidates: Mapping[str, Candidate]
    full: Mapping[str, Full]
    by_rate: tuple[ByRate, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    curves: tuple[Curve, ...] = ()
    unmeasured: int = 0
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
