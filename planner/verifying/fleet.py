"""The replicas of a plan as its files describe them, and what is left of them when something is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.capacity import Replica, ServiceLaws, classes_replica
from planner.domain.problem import ANY_INSTANCE, ANY_ZONE, Candidate, Placement
from planner.domain.workload import QUEUEING, Workload

ALL = ""
"""In place of a class of requests, where all are alike."""
Laws = Mapping[str, tuple[ServiceLaws, ...]]
"""By candidate id: those of each class that it serves, from the smallest class to the largest."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Replicas that are alike: of one candidate, on instances of one placement, ``number`` of its period.

    ``count`` of them, ``per_instance`` on each; ``rates_rps``: what all of them get of each class together,
    in the candidate's order. ``stretch``: by which service times are longer, since more share an instance
    than were measured side by side. ``predicted_ns``: the SLO's percentile that the plan has for them.
    """

    candidate: Candidate
    placement: Placement
    number: int
    count: int
    per_instance: int
    rates_rps: tuple[float, ...]
    stretch: float
    predicted_ns: float | None

    @property
    def rate_rps(self) -> float:
        return sum(self.rates_rps)

    @property
    def capacities_rps(self) -> tuple[float, ...]:
        """Of one replica, by class: what the plan lets it take at once."""
        c = self.candidate
        by_class = tuple(rate for _, rate in c.classes) or (c.capacity_rps,)
        if not self.placement.pattern.extrapolated:
            return by_class
        return tuple(rate * c.packed_capacity_rps / c.capacity_rps for rate in by_class)

    def replica(self, laws: Laws, workload: Workload) -> Replica:
        """What each of them is, at the mix of classes that it gets."""
        c = self.candidate
        stretched = [of_class.stretched(self.stretch) for of_class in laws[c.id]]
        # Whatever the plan ignores: requests of all classes wait in one queue.
        queueing = replace(workload, capacity=QUEUEING)
        return classes_replica(stretched, self.rates_rps, c.instances, c.queue_delay_ns, queueing)


@dataclass(frozen=True, slots=True)
class Loss:
    """What may be lost at once, and how full that leaves the rest: the rate over what it may take, at most.

    ``lost``: how many instances of each placement, by its number in the period. ``load`` is infinite where
    nothing is left for some class of requests.
    """

    name: str
    lost: tuple[tuple[int, int], ...]
    load: float


def kinds_of(
    workload: Workload,
    placements: Sequence[Placement],
    candidates: Mapping[str, Candidate],
    packing_derating: float,
    predicted_ns: Mapping[tuple[int, str], float],
) -> tuple[Kind, ...]:
    """The workload's replicas in one period. ``predicted_ns``: by number of the placement and candidate."""
    found = []
    for number, placement in enumerate(placements):
        flows, by_class = dict(placement.flow_rps), placement.class_flow_rps
        for candidate_id, replicas in placement.pattern.replicas:
            candidate = candidates[candidate_id]
            if candidate.workload != workload.name:
                continue
            rates = {name: rate for i, name, rate in by_class if i == candidate_id}
            found.append(
                Kind(
                    candidate=candidate,
                    placement=placement,
                    number=number,
                    count=replicas * placement.instances,
                    per_instance=replicas,
                    rates_rps=tuple(rates.get(name, 0.0) for name, _ in candidate.classes)
                    or (flows[candidate_id],),
                    stretch=1.0 + packing_derating if placement.pattern.extrapolated else 1.0,
                    predicted_ns=predicted_ns.get((number, candidate_id)),
                )
            )
    return tuple(found)


def worst_loss(
    kinds: Sequence[Kind], placements: Sequence[Placement], workload: Workload, rate_rps: float
) -> Loss | None:
    """Of all that the workload asks to survive the loss of, what leaves the rest fullest; None: it does not
    ask."""
    found = [
        Loss(name, lost, _load(_left(kinds, dict(lost)), workload, rate_rps))
        for name, lost in _losses(placements, workload.redundancy)
    ]
    return max(found, key=lambda loss: loss.load, default=None)


def after(loss: Loss, kinds: Sequence[Kind], workload: Workload, rate_rps: float) -> tuple[Kind, ...]:
    """What is left, with the whole rate: each class goes to what serves it in proportion to its capacity.

    That is what makes the fullest replica least full, so it holds wherever any other division does.
    """
    left = _left(kinds, dict(loss.lost))
    room = _room(left)
    asked = _asked(workload, rate_rps)
    return tuple(
        replace(
            kind,
            rates_rps=tuple(
                asked[name] * kind.count * capacity / room[name]
                for name, capacity in zip(_classes(kind), kind.capacities_rps, strict=True)
            ),
            predicted_ns=None,
        )
        for kind in left
    )


def _losses(
    placements: Sequence[Placement], redundancy: str
) -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
    if redundancy == ANY_INSTANCE:
        for number, placement in enumerate(placements):
            where = f" in {placement.zone}" if placement.zone else ""
            yield f"one {placement.pattern.offer_id}{where}", ((number, 1),)
    if redundancy == ANY_ZONE:
        for zone in sorted({placement.zone for placement in placements}):
            lost = [(n, p.instances) for n, p in enumerate(placements) if p.zone == zone]
            yield f"zone {zone}", tuple(lost)


def _left(kinds: Sequence[Kind], lost: Mapping[int, int]) -> tuple[Kind, ...]:
    left = (replace(k, count=k.count - lost.get(k.number, 0) * k.per_instance) for k in kinds)
    return tuple(kind for kind in left if kind.count > 0)


def _load(left: Sequence[Kind], workload: Workload, rate_rps: float) -> float:
    room = _room(left)
    loads = [
        rate / room[name] if room.get(name) else float("inf")
        for name, rate in _asked(workload, rate_rps).items()
    ]
    return max(loads)


def _room(kinds: Iterable[Kind]) -> dict[str, float]:
    """What all of them take of each class."""
    room: dict[str, float] = {}
    for kind in kinds:
        for name, capacity in zip(_classes(kind), kind.capacities_rps, strict=True):
            room[name] = room.get(name, 0.0) + kind.count * capacity
    return room


def _classes(kind: Kind) -> tuple[str, ...]:
    return tuple(name for name, _ in kind.candidate.classes) or (ALL,)


def _asked(workload: Workload, rate_rps: float) -> dict[str, float]:
    return {c.name: c.share * rate_rps for c in workload.classes} or {ALL: rate_rps}
