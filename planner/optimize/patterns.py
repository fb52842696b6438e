"""What one instance can run: the patterns of each offer that some optimal plan could need.

An instance of an offer runs a *pattern*, a multiset of replicas of candidates made for its device:

* CPU instances (``device_count`` 0) share ``vcpus`` hardware threads and ``memory_bytes``;
* GPU instances run one replica on each whole accelerator, and share ``vcpus``.

A replica takes its candidate's ``capacity_rps`` where the pattern holds nothing but that candidate and no
more than ``side_by_side`` of it, else ``packed_capacity_rps``.

Three reductions keep the list short, and none of them loses the optimum:

1. *A candidate is dropped* where another one for the same workload and device needs no more threads and
   memory, takes no less rate alone and packed, and was measured with as many side by side (of equals the
   smaller id stays). Put the other in its place in any plan: all still fits, and serves no less.
2. *A packing is dropped* where another one of the same offer takes no less of every workload. Put the
   other in its place: the price is that of the instance, whatever it runs. So one workload needs one
   packing per offer, and the worthiest is found without listing the others (``packing.best_filling``).
3. *Of several workloads*, all but the last are packed in every way that no other way beats in rate and
   use of the instance, and the last one fills what remains best. There are many ways on a large
   instance: above ``MOST_PACKINGS`` the caller hears of it.

What falls out for another reason (an unknown memory, half a GPU) is told by ``rejections``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Pattern, Problem, Rejection
from planner.errors import CatalogError, InfeasibleError, InputError
from planner.optimize.packing import (
    Item,
    Resources,
    best_filling,
    how_many_fit,
    second_can_bind,
    unbeaten_fillings,
)
from planner.units import format_bytes

MOST_PACKINGS = 2_000
"""Ways to share one instance among several workloads."""
MOST_COLUMNS = 20_000
"""Packings of all offers together."""

MayServe = Callable[[Candidate, Offer], bool]


@dataclass(frozen=True, slots=True)
class Packing:
    """``replicas`` by candidate id, and the rate that they take of each of the problem's workloads."""

    replicas: tuple[tuple[str, int], ...]
    extrapolated: bool
    rates_rps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One integer of the program: how many instances of ``offer`` run ``packing``."""

    offer: Offer
    packing: Packing

    @property
    def pattern(self) -> Pattern:
        return Pattern(self.offer.id, self.packing.replicas, self.packing.extrapolated)

    @property
    def id(self) -> str:
        replicas = " + ".join(f"{count} x {candidate}" for candidate, count in self.packing.replicas)
        return f"{self.offer.id}: {replicas}"


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
    by_device = _usable_candidates(problem)
    workloads = tuple(sorted(demand.workload for demand in problem.demands))
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
            known[shape] = packings(offer, fitting, workloads)
        found.extend(Column(offer, packing) for packing in known[shape])
        if len(found) > MOST_COLUMNS:
            raise InputError(
                f"more than {MOST_COLUMNS} ways to share instances among workloads {', '.join(workloads)}; "
                "narrow the offers by provider or region, or plan fewer workloads at once"
            )
    return tuple(found)


def packings(offer: Offer, candidates: Sequence[Candidate], workloads: Sequence[str]) -> tuple[Packing, ...]:
    """Those packings of ``candidates``, all of which fit, that no other one beats in every workload."""
    kept = undominated(candidates)
    limits = resources(offer)
    counted = _measured(kept, offer, limits) + _extrapolated(kept, offer, limits)
    candidate_of = {candidate.id: candidate for candidate in kept}
    listed = {_packing(counts, candidate_of, workloads) for counts in counted}
    unbeaten: list[Packing] = []
    for packing in sorted(listed, key=_preference):
        beaten = any(
            all(ours >= theirs for ours, theirs in zip(other.rates_rps, packing.rates_rps, strict=True))
            for other in unbeaten
        )
        if not beaten:
            unbeaten.append(packing)
    return tuple(sorted(unbeaten, key=lambda packing: packing.replicas))


def undominated(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Reduction 1, by id. All candidates are for one device."""

    def figures(c: Candidate) -> tuple[float, ...]:
        return (-c.capacity_rps, -c.packed_capacity_rps, -c.side_by_side, c.threads, c.memory_bytes)

    kept: dict[str, list[tuple[tuple[float, ...], Candidate]]] = defaultdict(list)
    for candidate in sorted(candidates, key=lambda c: (figures(c), c.id)):
        mine = figures(candidate)
        rivals = kept[candidate.workload]
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


def rejections(problem: Problem) -> tuple[Rejection, ...]:
    """Candidates without capacity, devices without candidates, and offers that none of theirs fits into."""
    by_device = _usable_candidates(problem)
    found = [
        Rejection("fleet", candidate.id, "its capacity is 0 rps")
        for candidate in sorted(problem.candidates, key=lambda c: c.id)
        if candidate.capacity_rps == 0
    ]
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
    return tuple(found)


def least_demanding(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda c: (c.threads, c.memory_bytes, c.id))


def _usable_candidates(problem: Problem) -> dict[str, tuple[Candidate, ...]]:
    """Candidates with a capacity, of workloads that are asked for, by device."""
    wanted = {demand.workload for demand in problem.demands}
    by_device: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in sorted(problem.candidates, key=lambda c: c.id):
        _check_figures(candidate)
        if candidate.workload in wanted and candidate.capacity_rps > 0:
            by_device[candidate.device].append(candidate)
    return {device: tuple(candidates) for device, candidates in by_device.items()}


def _check_figures(candidate: Candidate) -> None:
    capacity, packed = candidate.capacity_rps, candidate.packed_capacity_rps
    for name, rate in (("capacity_rps", capacity), ("packed_capacity_rps", packed)):
        if not (math.isfinite(rate) and rate >= 0):
            raise InfeasibleError(
                f"candidate {candidate.id}: {name} must be finite and 0 or more, got {rate}; measure it again"
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
    return [{c.id: min(c.side_by_side, how_many_fit(_item(c, offer), limits))} for c in candidates]


def _extrapolated(candidates: Sequence[Candidate], offer: Offer, limits: Resources) -> list[dict[str, int]]:
    """As many replicas as fit, of any candidates that may be packed (reductions 2 and 3)."""
    by_workload: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.packed_capacity_rps > 0:
            by_workload[candidate.workload].append(candidate)
    if not by_workload:
        return []
    *others, last = by_workload.values()
    items = {c.id: _item(c, offer) for group in by_workload.values() for c in group}
    if not second_can_bind(items.values(), limits):
        # What cannot run out need not be traded off, which leaves far fewer ways.
        items = {i: Item(item.first, 0, item.value) for i, item in items.items()}
    partial: list[tuple[dict[str, int], Resources]] = [({}, limits)]
    for group in others:
        ways = unbeaten_fillings([items[c.id] for c in group], limits, MOST_PACKINGS)
        if ways is None:
            raise _too_many(offer, by_workload)
        extended = (
            (counts | _by_id(group, way.counts), (first - way.first, second - way.second))
            for counts, (first, second) in partial
            for way in ways
            if way.first <= first and way.second <= second
        )
        partial = list(islice(extended, MOST_PACKINGS + 1))
        if len(partial) > MOST_PACKINGS:
            raise _too_many(offer, by_workload)
    last_items = [items[c.id] for c in last]
    filled = [counts | _by_id(last, best_filling(last_items, room).counts) for counts, room in partial]
    return [counts for counts in filled if counts]


def _by_id(candidates: Sequence[Candidate], counts: Sequence[int]) -> dict[str, int]:
    return {c.id: count for c, count in zip(candidates, counts, strict=True) if count}


def _too_many(offer: Offer, workloads: Iterable[str]) -> InputError:
    return InputError(
        f"{offer.id}: there are more than {MOST_PACKINGS} ways to share one instance among workloads "
        f"{', '.join(sorted(workloads))}; leave out instances that large, or plan fewer workloads at once"
    )


def _packing(counts: dict[str, int], candidate_of: dict[str, Candidate], workloads: Sequence[str]) -> Packing:
    """The packing by definition: who shares an instance with whom decides on the rate."""
    replicas = tuple(sorted(counts.items()))
    alone = len(replicas) == 1 and replicas[0][1] <= candidate_of[replicas[0][0]].side_by_side
    rates = dict.fromkeys(workloads, 0.0)
    for candidate_id, count in replicas:
        candidate = candidate_of[candidate_id]
        rates[candidate.workload] += count * (
            candidate.capacity_rps if alone else candidate.packed_capacity_rps
        )
    return Packing(replicas, not alone, tuple(rates.values()))


def _preference(packing: Packing) -> tuple[object, ...]:
    """Worthiest first; of equals: measured before extrapolated, fewer replicas, smaller ids."""
    rates = tuple(-rate for rate in packing.rates_rps)
    return (rates, packing.extrapolated, sum(count for _, count in packing.replicas), packing.replicas)
