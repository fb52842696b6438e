"""What one instance can run: the patterns of each offer that some optimal plan could need.

An instance of an offer runs a *pattern*, a multiset of replicas of candidates made for its device:

* CPU instances (``device_count`` 0) share ``vcpus`` hardware threads and ``memory_bytes``;
* GPU instances share ``vcpus`` and run one replica on each whole accelerator, or divide it by MIG
  (``slices``).

A replica takes its candidate's ``capacity_rps`` where the pattern holds nothing but that candidate and no
more than ``side_by_side`` of it, else ``packed_capacity_rps``.

Three reductions keep the list short, and none of them loses the optimum:

1. *A candidate is dropped* where another one for the same workload and device needs no more threads, memory
   and slices, takes no less rate alone and packed, of every class, was measured with as many side by side,
   and is no worse in quality or latency where these count (of equals that of lower latency stays, then the
   smaller id). Put the other in its place in any plan: all still fits, and serves no less and no worse.
2. *A packing is dropped* where another one of the same offer takes no less on any axis (``supply``: in plain
   problems one for each workload). Put the other in its place: the price is that of the instance, whatever
   it runs. So one workload needs one packing per offer, and the worthiest is found without listing the
   others (``packing.best_filling``).
3. *Of several axes*, all candidates but those of the last group (a group shares its axes in one proportion)
   are packed in every way that no other way beats in rate and use of the instance, and the last one fills
   what remains best. There are many ways on a large instance: above ``MOST_PACKINGS`` the caller hears of it.
   Between the classes of one workload, above ``MOST_OF_CLASSES``, only some are listed (``_some_ways``): each
   group alone, and two together in quarters. ``Packing.of_some`` says so.

They hold with every limit and demand of a problem: the offer, and with it price, zone, quotas and purchase,
stays the same, and so does the number of instances. They hold for a fleet that survives the loss of an
instance too: whichever is lost, each of those that remain takes no less than the one in whose place it came.

What falls out for another reason (an unknown memory, half a GPU) is told by ``rejections``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, permutations

from planner.domain.offer import Offer
from planner.domain.problem import GPU_SLICES, Candidate, Pattern, Problem, Rejection
from planner.errors import CatalogError, InfeasibleError, InputError
from planner.optimize.packing import (
    Item,
    Resources,
    best_filling,
    how_many_fit,
    second_can_bind,
    unbeaten_fillings,
)
from planner.optimize.slices import Tenant, divisions, fit_together, most_on_one
from planner.optimize.supply import Axes, axes_of, figures_by_offer, lacking, makes_sense, per_hour
from planner.units import format_bytes

MOST_PACKINGS = 2_000
"""Ways to share one instance among several workloads."""
MOST_OF_CLASSES = 40
"""The same among the classes of one workload."""
FEW_GROUPS = 3
MOST_COLUMNS = 20_000
"""Packings of all offers together."""

MayServe = Callable[[Candidate, Offer], bool]


class TooManyWaysError(InputError):
    """Instances can be shared in more ways than can be listed."""


@dataclass(frozen=True, slots=True)
class Packing:
    """``replicas`` by candidate id, and the rate that they take on each of the problem's axes.

    ``of_some``: not all ways to share such an instance are listed.
    """

    replicas: tuple[tuple[str, int], ...]
    extrapolated: bool
    rates_rps: tuple[float, ...]
    of_some: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One integer of the program: how many instances of ``offer`` run ``packing``.

    ``zone`` is "" where nothing asks where they are.
    """

    offer: Offer
    packing: Packing
    zone: str = ""

    @property
    def pattern(self) -> Pattern:
        return Pattern(self.offer.id, self.packing.replicas, self.packing.extrapolated)

    @property
    def id(self) -> str:
        replicas = " + ".join(f"{count} x {candidate}" for candidate, count in self.packing.replicas)
        return f"{self.offer.id}: {replicas}"


def mean_latencies(columns: Sequence[Column], candidate_of: Mapping[str, Candidate]) -> list[Fraction]:
    """Of each column's replicas at full load, weighted by what they take; all 0 where one is unknown."""
    if any(candidate_of[i].latency_ns is None for column in columns for i, _ in column.packing.replicas):
        return [Fraction(0)] * len(columns)
    found = []
    for column in columns:
        whole = weighed = Fraction(0)
        for i, count in column.packing.replicas:
            c = candidate_of[i]
            rate = Fraction(replica_rate_rps(c, column.pattern)) * count
            whole += rate
            weighed += rate * Fraction(c.latency_ns or 0)
        found.append(weighed / whole)
    return found


def replica_rate_rps(candidate: Candidate, pattern: Pattern) -> float:
    """What one replica of ``candidate`` takes within ``pattern``."""
    return candidate.packed_capacity_rps if pattern.extrapolated else candidate.capacity_rps


def anywhere(candidate: Candidate, offer: Offer) -> bool:
    """The filter that lets every candidate run on every offer of its device."""
    return True


def columns(problem: Problem, may_serve: MayServe = anywhere) -> tuple[Column, ...]:
    """The packings of every offer, by id: the same whatever the order of candidates and offers.

    Raises InfeasibleError naming a candidate, and CatalogError naming an offer, whose figures make no
    sense; InputError where there are more than ``MOST_COLUMNS``.
    """
    by_device = usable_candidates(problem)
    workloads = sorted(demand.workload for demand in problem.demands)
    axes = axes_of(problem, (candidate for mine in by_device.values() for candidate in mine))
    known: dict[tuple[object, ...], tuple[Packing, ...]] = {}
    found: list[Column] = []
    for offer in sorted(problem.offers, key=lambda offer: offer.id):
        _check_price(offer)
        fitting = tuple(
            candidate
            for candidate in by_device.get(offer.device, ())
            if misfit(candidate, offer) is None and may_serve(candidate, offer)
        )
        if not fitting:
            continue
        # Many offers are the same machine in another region: pack it once.
        shape = (offer.device_count > 0, resources(offer), tuple(candidate.id for candidate in fitting))
        if shape not in known:
            known[shape] = packings(offer, fitting, axes)
        found.extend(Column(offer, packing) for packing in known[shape])
        if len(found) > MOST_COLUMNS:
            raise TooManyWaysError(
                f"more than {MOST_COLUMNS} ways to share instances among workloads {', '.join(workloads)}; "
                "narrow the offers by provider or region, or plan fewer workloads at once"
            )
    return tuple(found)


def packings(offer: Offer, candidates: Sequence[Candidate], axes: Axes) -> tuple[Packing, ...]:
    """Those packings of ``candidates``, all of which fit, that no other one beats on every axis."""
    kept = undominated(candidates, axes)
    limits = resources(offer)
    divided = offer.device_count > 0 and any(candidate.slices for candidate in kept)
    filled, of_some = (_divided(kept, offer, axes), False) if divided else _extrapolated(kept, offer, axes)
    counted = _measured(kept, offer, limits) + filled
    candidate_of = {candidate.id: candidate for candidate in kept}
    listed = {packed(counts, candidate_of, axes) for counts in counted}
    unbeaten: list[Packing] = []
    for packing in sorted(listed, key=_preference):
        beaten = any(
            all(ours >= theirs for ours, theirs in zip(other.rates_rps, packing.rates_rps, strict=True))
            for other in unbeaten
        )
        if not beaten:
            unbeaten.append(packing)
    found = sorted(unbeaten, key=lambda packing: packing.replicas)
    return tuple(replace(packing, of_some=True) for packing in found) if of_some else tuple(found)


def undominated(candidates: Iterable[Candidate], axes: Axes) -> list[Candidate]:
    """Reduction 1, by id. All candidates are for one device."""

    def order(c: Candidate) -> tuple[tuple[float, ...], float, str]:
        return axes.figures(c), math.inf if c.latency_ns is None else c.latency_ns, c.id

    kept: dict[tuple[str, ...], list[tuple[tuple[float, ...], Candidate]]] = defaultdict(list)
    for candidate in sorted(candidates, key=lambda c: (c.workload, order(c))):
        mine = axes.figures(candidate)
        rivals = kept[axes.peers(candidate)]
        if not any(all(a <= b for a, b in zip(theirs, mine, strict=True)) for theirs, _ in rivals):
            rivals.append((mine, candidate))
    return sorted((c for rivals in kept.values() for _, c in rivals), key=lambda c: c.id)


def resources(offer: Offer) -> Resources:
    """What the replicas of one instance share: threads and bytes (CPU), or accelerators and threads (GPU)."""
    if offer.device_count == 0:
        return offer.vcpus, offer.memory_bytes or 0
    return math.floor(offer.device_count), offer.vcpus


def misfit(candidate: Candidate, offer: Offer) -> str | None:
    """Why not even one replica fits into an instance of ``offer``, or None where it does."""
    if offer.device_count > 0 and math.floor(offer.device_count) < 1:
        return f"it sells {offer.device_count:g} of a {offer.device}, a replica needs a whole one"
    if offer.vcpus < candidate.threads:
        return f"it has {offer.vcpus} vCPUs, a replica needs {candidate.threads}"
    if offer.device_count > 0:
        return None
    if offer.memory_bytes is None:
        return "its memory is unknown; add memory_bytes to the catalog"
    if offer.memory_bytes < candidate.memory_bytes:
        has, needs = format_bytes(offer.memory_bytes), format_bytes(candidate.memory_bytes)
        return f"it has {has}, a replica needs {needs}"
    return None


def runs_alone(replicas: Sequence[tuple[str, int]], candidate_of: Mapping[str, Candidate]) -> bool:
    """Whether these replicas of one instance run as they were measured: of one candidate, no more of it."""
    return len(replicas) == 1 and replicas[0][1] <= candidate_of[replicas[0][0]].side_by_side


def fits(counts: dict[str, int], candidate_of: dict[str, Candidate], offer: Offer) -> bool:
    """Whether so many replicas by candidate id fit one instance of ``offer`` together."""
    mine = [(candidate_of[i], count) for i, count in counts.items()]
    if any(c.device != offer.device or misfit(c, offer) is not None for c, _ in mine):
        return False
    if sum(c.threads * count for c, count in mine) > offer.vcpus:
        return False
    if offer.device_count > 0:
        gpus = math.floor(offer.device_count)
        return fit_together([(c.slices or GPU_SLICES, count) for c, count in mine], gpus)
    return sum(c.memory_bytes * count for c, count in mine) <= (offer.memory_bytes or 0)


def rejections(problem: Problem) -> tuple[Rejection, ...]:
    """Candidates without capacity or a figure that counts, devices without candidates, and offers that none
    of theirs fits into or whose figures are unknown."""
    by_device = usable_candidates(problem)
    demands = {demand.workload: demand for demand in problem.demands}
    found = []
    for candidate in sorted(problem.candidates, key=lambda c: c.id):
        reason = None
        if candidate.capacity_rps == 0:
            reason = "its capacity is 0 rps"
        elif candidate.workload in demands:
            reason = lacking(problem, demands[candidate.workload], candidate)
        if reason is not None:
            found.append(Rejection("fleet", candidate.id, reason))
    figures = figures_by_offer(problem)
    offers_of: dict[str, list[Offer]] = defaultdict(list)
    for offer in sorted(problem.offers, key=lambda offer: offer.id):
        offers_of[offer.device].append(offer)
    for device, offers in sorted(offers_of.items()):
        if device not in by_device:
            reason = f"no candidate runs on it ({len(offers)} {'offer' if len(offers) == 1 else 'offers'})"
            found.append(Rejection("fleet", device, reason))
            continue
        for offer in offers:
            reasons = [misfit(candidate, offer) for candidate in least_demanding(by_device[device])]
            if reasons[0] is not None and None not in reasons:
                found.append(Rejection("fleet", offer.id, reasons[0]))
            elif per_hour(problem, figures[offer.id]) is None:
                found.append(Rejection("fleet", offer.id, f"its {problem.objective} per hour is unknown"))
    return tuple(found)


def least_demanding(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda c: (c.threads, c.memory_bytes, c.id))


def usable_candidates(problem: Problem) -> dict[str, tuple[Candidate, ...]]:
    """Candidates with a capacity, and all figures that count, of workloads that are asked for, by device."""
    demands = {demand.workload: demand for demand in problem.demands}
    by_device: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in sorted(problem.candidates, key=lambda c: c.id):
        _check_figures(candidate)
        demand = demands.get(candidate.workload)
        if demand and candidate.capacity_rps > 0 and lacking(problem, demand, candidate) is None:
            by_device[candidate.device].append(candidate)
    return {device: tuple(candidates) for device, candidates in by_device.items()}


def _check_figures(candidate: Candidate) -> None:
    capacity, packed = candidate.capacity_rps, candidate.packed_capacity_rps
    for name, rate in (("capacity_rps", capacity), ("packed_capacity_rps", packed)):
        if not (math.isfinite(rate) and rate >= 0):
            raise InfeasibleError(
                f"candidate {candidate.id}: {name} must be finite and 0 or more, got {rate}; measure it again"
            )
    if not makes_sense(candidate):
        raise InfeasibleError(
            f"candidate {candidate.id}: the rates of its classes must be finite; measure it again"
        )
    if packed > capacity:
        raise InfeasibleError(
            f"candidate {candidate.id}: packed_capacity_rps {packed:g} is above capacity_rps {capacity:g}; "
            "packing more replicas can only cost capacity"
        )
    if candidate.threads < 1 or candidate.memory_bytes < 0 or candidate.side_by_side < 1:
        raise InfeasibleError(
            f"candidate {candidate.id}: needs 1 or more threads and side_by_side, and 0 or more bytes, got "
            f"{candidate.threads}, {candidate.side_by_side} and {candidate.memory_bytes}"
        )


def _check_price(offer: Offer) -> None:
    if not (math.isfinite(offer.usd_per_hour) and offer.usd_per_hour > 0):
        raise CatalogError(
            f"{offer.id}: the price must be finite and above 0, got {offer.usd_per_hour} USD/h"
        )


def _item(candidate: Candidate, offer: Offer) -> Item:
    if offer.device_count == 0:
        return Item(candidate.threads, candidate.memory_bytes, candidate.packed_capacity_rps)
    return Item(1, candidate.threads, candidate.packed_capacity_rps)


def _measured(candidates: Sequence[Candidate], offer: Offer, limits: Resources) -> list[dict[str, int]]:
    """Each candidate by itself, as many as were measured side by side."""
    return [{c.id: min(c.side_by_side, _most(c, offer, limits))} for c in candidates]


def _most(candidate: Candidate, offer: Offer, limits: Resources) -> int:
    """Replicas of one candidate that fit an instance."""
    if candidate.slices is None or offer.device_count == 0:
        return how_many_fit(_item(candidate, offer), limits)
    return min(limits[0] * most_on_one(candidate.slices), offer.vcpus // candidate.threads)


def _divided(candidates: Sequence[Candidate], offer: Offer, axes: Axes) -> list[dict[str, int]]:
    """As many replicas as find room on GPUs that may be divided (reduction 2)."""
    mine = [c for c in candidates if c.packed_capacity_rps > 0]
    tenants = [
        Tenant(
            c.slices or GPU_SLICES,
            c.threads,
            tuple((axis, share * c.packed_capacity_rps) for axis, share in axes.parts[c.id]),
        )
        for c in mine
    ]
    gpus, vcpus = resources(offer)
    ways = divisions(tenants, gpus, vcpus, axes.count, MOST_PACKINGS)
    if ways is None:
        raise _too_many(offer, {c.workload for c in mine})
    return [_by_id(mine, way) for way in ways if any(way)]


def _extrapolated(
    candidates: Sequence[Candidate], offer: Offer, axes: Axes
) -> tuple[list[dict[str, int]], bool]:
    """As many replicas as fit, of any candidates that may be packed (reductions 2 and 3), and whether these
    are not all ways."""
    limits = resources(offer)
    groups: dict[object, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.packed_capacity_rps > 0:
            groups[candidate.workload, axes.parts[candidate.id]].append(candidate)
    if not groups:
        return [], False
    items = {c.id: _item(c, offer) for group in groups.values() for c in group}
    if not second_can_bind(items.values(), limits):
        # What cannot run out need not be traded off, which leaves far fewer ways.
        items = {i: Item(item.first, 0, item.value) for i, item in items.items()}
    of_classes = len({c.workload for c in candidates}) == 1 and any(c.classes for c in candidates)
    most = MOST_OF_CLASSES if of_classes else MOST_PACKINGS
    ways = _all_ways(list(groups.values()), items, limits, most)
    if ways is None and not of_classes:
        raise _too_many(offer, {c.workload for c in candidates})
    return (_some_ways(list(groups.values()), items, limits), True) if ways is None else (ways, False)


Items = Mapping[str, Item]


def _all_ways(
    groups: list[list[Candidate]], items: Items, limits: Resources, most: int
) -> list[dict[str, int]] | None:
    """None where there are more than ``most``."""
    *others, last = groups
    partial: list[tuple[dict[str, int], Resources]] = [({}, limits)]
    for group in others:
        ways = unbeaten_fillings([items[c.id] for c in group], limits, most)
        if ways is None:
            return None
        extended = (
            (counts | _by_id(group, way.counts), (first - way.first, second - way.second))
            for counts, (first, second) in partial
            for way in ways
            if way.first <= first and way.second <= second
        )
        partial = list(islice(extended, most + 1))
        if len(partial) > most:
            return None
    filled = [counts | _filled(last, items, room)[0] for counts, room in partial]
    return [counts for counts in filled if counts]


def _some_ways(groups: list[list[Candidate]], items: Items, limits: Resources) -> list[dict[str, int]]:
    """Each group alone, and where there are few, each beside another that has a quarter, half or three."""
    found = [_filled(group, items, limits)[0] for group in groups]
    if len(groups) <= FEW_GROUPS:
        for one, other in permutations(groups, 2):
            for quarters in (1, 2, 3):
                part = (limits[0] * quarters // 4, limits[1] * quarters // 4)
                counts, (first, second) = _filled(one, items, part)
                found.append(counts | _filled(other, items, (limits[0] - first, limits[1] - second))[0])
    return [counts for counts in found if counts]


def _filled(group: list[Candidate], items: Items, room: Resources) -> tuple[dict[str, int], Resources]:
    """The best filling, and what it takes."""
    way = best_filling([items[c.id] for c in group], room)
    return _by_id(group, way.counts), (way.first, way.second)


def _by_id(candidates: Sequence[Candidate], counts: Sequence[int]) -> dict[str, int]:
    return {c.id: count for c, count in zip(candidates, counts, strict=True) if count}


def _too_many(offer: Offer, workloads: Iterable[str]) -> TooManyWaysError:
    return TooManyWaysError(
        f"{offer.id}: there are more than {MOST_PACKINGS} ways to share one instance among workloads "
        f"{', '.join(sorted(workloads))}; leave out instances that large, or plan fewer workloads at once"
    )


def packed(counts: dict[str, int], candidate_of: dict[str, Candidate], axes: Axes) -> Packing:
    """The packing by definition: who shares an instance with whom decides on the rate."""
    replicas = tuple(sorted(counts.items()))
    alone = runs_alone(replicas, candidate_of)
    rates = [0.0] * axes.count
    for candidate_id, count in replicas:
        candidate = candidate_of[candidate_id]
        rate = candidate.capacity_rps if alone else candidate.packed_capacity_rps
        for axis, share in axes.parts[candidate_id]:
            rates[axis] += count * (rate * share)
    return Packing(replicas, not alone, tuple(rates))


def _preference(packing: Packing) -> tuple[object, ...]:
    """Worthiest first; of equals: measured before extrapolated, fewer replicas, smaller ids."""
    rates = tuple(-rate for rate in packing.rates_rps)
    return (rates, packing.extrapolated, sum(count for _, count in packing.replicas), packing.replicas)
