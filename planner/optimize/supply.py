"""What a problem tells apart in the capacity of an instance: its axes.

To serve a workload at a rate, capacity is capacity, whoever has it: one axis. Where requests fall into
classes, each class is an axis, and a candidate takes its own mix of them. Where it matters *which* candidate
serves a request (a mean quality is asked for, or the best one, or the lowest latency; a replica's classes
share its time; spot is limited class by class), every candidate is an axis of its own: the workload is
*blended*, and its flows are variables of the program.

One instance is worth no less than another one where it has no less on any axis. All reductions compare by
that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from planner.domain.problem import (
    ACCURACY,
    CARBON,
    EACH,
    ENERGY,
    GPU_SLICES,
    LATENCY,
    NO_LOSS,
    TIME,
    USD,
    Candidate,
    Demand,
    OfferFigures,
    Problem,
)

ALIKE = ""
"""The one class of a workload that has none."""

Figures = Callable[[Candidate], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Axes:
    """``parts``: by candidate id, its axes and the share of its rate that each of them gets.

    ``figures``: by which candidates of a workload compare, less is better; they are of one length for each
    ``peers`` key, and candidates of different keys do not compare.
    """

    count: int
    parts: dict[str, tuple[tuple[int, float], ...]]
    figures: Figures
    peers: Callable[[Candidate], tuple[str, ...]]


def is_plain(problem: Problem) -> bool:
    """Whether only rates, prices and one limit per offer count: ``formulation`` is all there is to it."""
    return (
        len(problem.periods) <= 1
        and not problem.quotas
        and problem.budget_usd_per_hour is None
        and problem.max_kinds is None
        and problem.min_zones == 0
        and problem.objective == USD
        and all(figures.availability == 1 for figures in problem.figures)
        and not any(candidate.classes for candidate in problem.candidates)
        and all(
            not demand.classes
            and demand.min_mean_quality is None
            and demand.max_spot_share == 1
            and demand.redundancy == NO_LOSS
            for demand in problem.demands
        )
    )


def axes_of(problem: Problem, candidates: Iterable[Candidate]) -> Axes:
    """The axes of ``candidates``, which are of the problem's workloads and can serve."""
    demands = {demand.workload: demand for demand in problem.demands}
    mine = sorted(candidates, key=lambda c: c.id)
    mixed = {w for w, demand in demands.items() if is_blended(problem, demand)}
    known: dict[tuple[str, str], int] = {}
    parts: dict[str, tuple[tuple[int, float], ...]] = {}
    for workload in sorted(set(demands) - mixed):
        for name in class_names(demands[workload]):
            known[workload, name] = len(known)
    for candidate in mine:
        if candidate.workload in mixed:
            parts[candidate.id] = ((known.setdefault((candidate.workload, candidate.id), len(known)), 1.0),)
            continue
        rates = class_rates(candidate, demands[candidate.workload])
        total = sum(rates.values())
        parts[candidate.id] = tuple(
            (known[candidate.workload, name], 1.0 if rate == total else float(rate / total))
            for name, rate in sorted(rates.items())
            if rate
        )

    def figures(c: Candidate) -> tuple[float, ...]:
        slices = c.slices or GPU_SLICES
        own: tuple[float, ...] = (
            -c.capacity_rps,
            -c.packed_capacity_rps,
            -c.side_by_side,
            c.threads,
            c.memory_bytes,
            *slices,
        )
        demand = demands[c.workload]
        if demand.classes:
            packed = c.packed_capacity_rps / c.capacity_rps
            rates = class_rates(c, demand)
            own += tuple(-float(rates.get(name, 0)) for name in class_names(demand))
            own += tuple(-float(rates.get(name, 0)) * packed for name in class_names(demand))
        if counts_quality(problem, demand):
            own += (-(c.quality or 0.0),)
        if problem.objective == LATENCY:
            own += (c.latency_ns or 0.0,)
        return own

    return Axes(len(known), parts, figures, lambda c: (c.workload, c.mixing))


def class_names(demand: Demand) -> tuple[str, ...]:
    return tuple(sorted(c.name for c in demand.classes)) or (ALIKE,)


def class_rates(candidate: Candidate, demand: Demand, rate_rps: float | None = None) -> dict[str, Fraction]:
    """What one replica takes of each class where its capacity is ``rate_rps`` (default: its own).

    With ``mixing`` "time" that is each class by itself.
    """
    whole = Fraction(candidate.capacity_rps)
    scale = Fraction(1) if rate_rps is None else Fraction(rate_rps) / whole
    if not demand.classes:
        return {ALIKE: whole * scale}
    if not candidate.classes:
        return {c.name: whole * scale * Fraction(repr(c.share)) for c in demand.classes}
    return {name: Fraction(rate) * scale for name, rate in candidate.classes if rate}


def counts_quality(problem: Problem, demand: Demand) -> bool:
    return demand.min_mean_quality is not None or problem.objective == ACCURACY


def is_blended(problem: Problem, demand: Demand) -> bool:
    return (
        counts_quality(problem, demand)
        or problem.objective == LATENCY
        or shares_time(problem, demand)
        or (demand.max_spot_share < 1 and len(demand.classes) > 1)
    )


def shares_time(problem: Problem, demand: Demand) -> bool:
    """Whether some replica serves several of the workload's classes by turns."""
    return any(c.workload == demand.workload and by_turns(c) for c in problem.candidates)


def by_turns(candidate: Candidate) -> bool:
    return candidate.mixing == TIME and len(candidate.classes) > 1


def lacking(problem: Problem, demand: Demand, candidate: Candidate) -> str | None:
    """Which figure of a candidate of ``demand`` is unknown that the problem asks for, or None."""
    if counts_quality(problem, demand) and candidate.quality is None:
        return "its quality is unknown, and the plan asks for it"
    if problem.objective == LATENCY and candidate.latency_ns is None:
        return "its latency is unknown, and the plan asks for it"
    return None


def figures_by_offer(problem: Problem) -> dict[str, OfferFigures]:
    known = {figures.offer_id: figures for figures in problem.figures}
    return {offer.id: known.get(offer.id, OfferFigures(offer.id)) for offer in problem.offers}


def per_hour(problem: Problem, figures: OfferFigures) -> Fraction | None:
    """What the objective counts of an offer besides its price; 0 where that is nothing, None: unknown."""
    if problem.objective not in (ENERGY, CARBON):
        return Fraction(0)
    known = figures.power_w if problem.objective == ENERGY else figures.carbon_g_per_hour
    return None if known is None else Fraction(repr(known))


def makes_sense(candidate: Candidate) -> bool:
    """Whether the rates of its classes are numbers that can be planned with."""
    return all(math.isfinite(rate) for _, rate in candidate.classes) and candidate.mixing in (EACH, TIME)
