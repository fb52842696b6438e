"""A problem as a market: what instances offer, and what replicas take, in slots.

Notation (used throughout this package)::

    pool    offers whose instances differ in size only: same device, availability and candidates admitted
    shape h instances of one pool with the same resources, whatever their region and price
    slot t  the share of an instance of a pool that one replica takes when others share the instance with it:
            threads and bytes (CPU), one accelerator and threads (GPU)
    good g  what a workload can take: a slot, or all of an instance of a shape (*whole*), where its replicas
            run as they were measured, alone
    a_wg    the rate that workload w gets out of one of good g, by the candidate that gets most out of it

Slots are the distinct sizes of a pool's candidates. Where memory cannot run out before threads do, it does
not count. Where there are more than ``MOST_SLOTS`` sizes, memory is rounded down to a coarser grid; then the
market is a relaxation, its bound still a bound, and ``place`` fits the replicas in with their true sizes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Problem
from planner.optimize.formulation import SHORTFALL
from planner.optimize.large.quotas import limits_of
from planner.optimize.packing import Item, Resources, how_many_fit, second_can_bind
from planner.optimize.patterns import MayServe, anywhere, misfit, resources, usable_candidates

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_SLOTS = 24
"""Sizes of slots in one pool."""
# Half of the shortfall that counts as served; the rest is for rounding in sums of floats.
_BUILT_SHORTFALL = float(SHORTFALL / 2)


@dataclass(frozen=True, slots=True)
class Slot:
    pool: int
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Shape:
    """``offers``: positions in ``Market.offers``."""

    pool: int
    limits: Resources
    offers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """What a workload does with one of a good: ``count`` replicas of ``candidate``."""

    candidate: Candidate
    count: int


@dataclass(frozen=True, slots=True)
class Market:
    """``rates[w, g]`` is a_wg (0: no use), ``uses[w, g]`` who gets it; ``needs[w]`` the rate to serve.

    Goods are the slots, then the shapes. ``prices[o]`` in USD per hour, ``quota_use[q, o]`` what an instance
    takes of a limit set by quotas (``quotas.limits_of``), ``quota_limits[q]``; ``most`` instances of one
    offer, or infinity. ``coarse`` tells that memory was rounded.
    """

    problem: Problem
    workloads: tuple[str, ...]
    offers: tuple[Offer, ...]
    slots: tuple[Slot, ...]
    shapes: tuple[Shape, ...]
    pools: int
    availability: tuple[Fraction, ...]
    rates: Floats
    uses: dict[tuple[int, int], Use]
    needs: Floats
    prices: Floats
    quota_names: tuple[str, ...]
    quota_use: Floats
    quota_limits: Floats
    most: float
    coarse: bool

    @property
    def goods(self) -> int:
        return len(self.slots) + len(self.shapes)

    @property
    def pool_of(self) -> list[int]:
        """The pool of every good."""
        return [slot.pool for slot in self.slots] + [shape.pool for shape in self.shapes]

    def slots_of(self, pool: int) -> list[int]:
        return [t for t, slot in enumerate(self.slots) if slot.pool == pool]

    def shapes_of(self, pool: int) -> list[int]:
        return [h for h, shape in enumerate(self.shapes) if shape.pool == pool]


def market(problem: Problem, may_serve: MayServe = anywhere) -> Market:
    """The market of a problem's demands, candidates and offers (its other limits are not looked at)."""
    workloads = tuple(sorted(demand.workload for demand in problem.demands))
    position = {workload: w for w, workload in enumerate(workloads)}
    rate_of = {demand.workload: demand.rate_rps for demand in problem.demands}
    by_device = usable_candidates(problem)
    figures = {f.offer_id: Fraction(repr(f.availability)) for f in problem.figures}
    members: dict[tuple[str, Fraction, bool, frozenset[str]], list[Offer]] = defaultdict(list)
    for offer in sorted(problem.offers, key=lambda o: o.id):
        able = by_device.get(offer.device, ())
        kept_out = (
            frozenset() if may_serve is anywhere else frozenset(c.id for c in able if not may_serve(c, offer))
        )
        if any(misfit(c, offer) is None and c.id not in kept_out for c in able):
            available = figures.get(offer.id, Fraction(1))
            members[offer.device, available, offer.device_count > 0, kept_out].append(offer)
    offers: list[Offer] = []
    slots: list[Slot] = []
    shapes: list[Shape] = []
    availability: list[Fraction] = []
    packed: dict[tuple[int, int], tuple[float, Candidate]] = {}
    whole: dict[tuple[int, int], tuple[float, Use]] = {}
    coarse = False
    for pool, ((device, available, gpu, kept_out), pool_offers) in enumerate(members.items()):
        mine = [c for c in by_device[device] if c.id not in kept_out]
        by_limits: dict[Resources, list[int]] = defaultdict(list)
        for offer in pool_offers:
            by_limits[resources(offer)].append(len(offers))
            offers.append(offer)
        availability.append(available)
        sizes = {c.id: share_of(c, gpu) for c in mine}
        sizes, rounded = _slot_sizes(sizes, list(by_limits))
        coarse = coarse or rounded
        slot_of = {}
        for size in sorted({sizes[c.id] for c in mine if c.packed_capacity_rps > 0}):
            slot_of[size] = len(slots)
            slots.append(Slot(pool, *size))
        for c in mine:
            if c.packed_capacity_rps > 0:
                key = position[c.workload], slot_of[sizes[c.id]]
                rate = c.packed_capacity_rps * float(available)
                if key not in packed or rate > packed[key][0]:
                    packed[key] = rate, c
        for limits, positions in by_limits.items():
            h = len(shapes)
            shapes.append(Shape(pool, limits, tuple(positions)))
            for c in mine:
                use = _alone(c, gpu, limits)
                if use is not None:
                    key = position[c.workload], h
                    rate = use.count * c.capacity_rps * float(available)
                    if key not in whole or rate > whole[key][0]:
                        whole[key] = rate, use
    rates = np.zeros((len(workloads), len(slots) + len(shapes)))
    uses: dict[tuple[int, int], Use] = {}
    for (w, t), (rate, c) in packed.items():
        rates[w, t], uses[w, t] = rate, Use(c, 1)
    for (w, h), (rate, use) in whole.items():
        g = len(slots) + h
        rates[w, g], uses[w, g] = rate, use
    capped = limits_of(problem.quotas, offers)
    return Market(
        problem=problem,
        workloads=workloads,
        offers=tuple(offers),
        slots=tuple(slots),
        shapes=tuple(shapes),
        pools=len(members),
        availability=tuple(availability),
        rates=rates,
        uses=uses,
        needs=np.array([rate_of[w] * (1 - _BUILT_SHORTFALL) for w in workloads]),
        prices=np.array([offer.usd_per_hour for offer in offers]),
        quota_names=tuple(limit.name for limit in capped),
        quota_use=np.array([limit.uses for limit in capped], dtype=np.float64).reshape(
            len(capped), len(offers)
        ),
        quota_limits=np.array([limit.at_most for limit in capped], dtype=float),
        most=math.inf if problem.max_instances_per_offer is None else problem.max_instances_per_offer,
        coarse=coarse,
    )


def share_of(candidate: Candidate, gpu: bool) -> Resources:
    """What one replica takes of an instance's resources, see ``patterns.resources``."""
    return (1, candidate.threads) if gpu else (candidate.threads, candidate.memory_bytes)


def _alone(candidate: Candidate, gpu: bool, limits: Resources) -> Use | None:
    """All of an instance for as many replicas as were measured side by side, unless packed they take as
    much."""
    first, second = share_of(candidate, gpu)
    fit = how_many_fit(Item(first, second, 1.0), limits)
    count = min(candidate.side_by_side, fit)
    if count == 0 or count * candidate.capacity_rps <= fit * candidate.packed_capacity_rps:
        return None
    return Use(candidate, count)


def _slot_sizes(
    sizes: dict[str, Resources], shapes: Sequence[Resources]
) -> tuple[dict[str, Resources], bool]:
    """The slot of each candidate, by id, and whether memory was rounded down to get few enough of them."""
    if not any(second_can_bind([Item(*size, 1.0) for size in sizes.values()], limits) for limits in shapes):
        return {i: (first, 0) for i, (first, _) in sizes.items()}, False
    if len(set(sizes.values())) <= MOST_SLOTS:
        return sizes, False
    fair = min(second / first for first, second in shapes)
    for steps in (4, 3, 2, 1):
        rounded = {i: _coarser(size, fair, steps) for i, size in sizes.items()}
        if len(set(rounded.values())) <= MOST_SLOTS:
            break
    return rounded, True


def _coarser(size: Resources, fair: float, steps: int) -> Resources:
    """Memory rounded down to ``steps`` parts of a fair share of the instance, and to ever wider ones above
    it."""
    first, second = size
    unit = max(1, math.floor(fair / steps))
    parts = second / (unit * first)
    if parts >= steps:
        doublings = math.floor(math.log2(parts / steps) * steps) / steps
        return first, math.floor(steps * 2**doublings * first) * unit
    return first, math.floor(parts) * first * unit
