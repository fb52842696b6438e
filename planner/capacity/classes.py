"""What a replica takes of several classes of requests at once.

By the mixed service law, at the mix of the classes' shares. But what is promised has to hold for less of any
class as well: a plan may send a replica only some of the small requests that it could take, and then the
large ones, which are slower, are a larger part of what it serves. Less load makes up for that, or nearly
always. Where it does not, since large requests are late even when they are alone, the rate is lowered until
every mix of fewer classes holds, too: with D the classes that are left, and p their part of the requests,

    rate * p  <=  what the replica takes of D alone                            for every D.

Where queues are ignored, classes are served by turns instead: their loads add up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

from planner.capacity.analysis import (
    PACKED_REQUESTS,
    Analysis,
    analyse,
    analysed_at,
    at_most_rps,
    best_delay,
    is_exact,
    sojourn_percentile_at,
)
from planner.capacity.intervals import certainty
from planner.capacity.mixed import mixed_laws
from planner.capacity.service import Service, ServiceLaws
from planner.capacity.simulated import REQUESTS
from planner.capacity.simulation import Replica
from planner.domain.problem import EACH, TIME
from planner.domain.workload import SATURATED, Workload

Class = TypeVar("Class", str, int)
"""A class by its name, or by its number."""
Laws = Sequence[ServiceLaws]
"""One for each class, from the smallest requests to the largest."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a replica takes of some classes, and how their rates go together.

    ``parts``: of the rate, what each class may take up; where ``mixing`` is "each", they add up to 1.
    ``decisive``: the classes, by number, whose capacity it is.
    """

    replica: Replica
    analysis: Analysis
    parts: tuple[float, ...]
    mixing: str
    decisive: tuple[int, ...]


def best_of_classes(by_class: Laws, shares: Sequence[float], instances: int, workload: Workload) -> Taken:
    """What one replica takes with the best of the workload's queue delays. One class is just that."""
    if _by_turns(by_class, workload):
        return _turns(by_class, instances, workload)
    replica, found = best_delay(mixed_laws(by_class, shares), instances, workload)
    return _held_by_fewer(replica, found, by_class, shares, workload, REQUESTS)


def packed_classes(
    taken: Taken, by_class: Laws, shares: Sequence[float], workload: Workload, stretch: float
) -> Taken:
    """The same replica with service times stretched: it shares an instance with more than were measured."""
    slower = [laws.stretched(stretch) for laws in by_class]
    if _by_turns(by_class, workload):
        return _turns(slower, taken.replica.instances, workload)
    replica = replace(taken.replica, laws=mixed_laws(slower, shares))
    found = analyse(replica, workload, PACKED_REQUESTS)
    return _held_by_fewer(replica, found, slower, shares, workload, PACKED_REQUESTS)


def classes_at_most(
    by_class: Laws, shares: Sequence[float], instances: int, workload: Workload
) -> tuple[float, tuple[float, ...]]:
    """What no capacity is above, and ``Taken.parts``: at the classes' own mix alone, quickly found."""
    if _by_turns(by_class, workload):
        taken = _turns(by_class, instances, workload)
        return taken.analysis.low_rps, taken.parts
    return at_most_rps(mixed_laws(by_class, shares), instances, workload), _parts(shares)


def classes_replica(
    by_class: Laws, rates: Sequence[float], instances: int, delay_ns: int, workload: Workload
) -> Replica:
    """What serves the classes at these rates, or in these proportions; by turns: as the largest has it."""
    if _by_turns(by_class, workload):
        return Replica(by_class[-1], instances, delay_ns)
    served = [(laws, rate) for laws, rate in zip(by_class, rates, strict=True) if rate > 0]
    return Replica(mixed_laws(*zip(*served, strict=True)), instances, delay_ns)


def classes_certainty(
    service_ns: Sequence[Service],
    shares: Sequence[float],
    max_batch_size: int,
    workload: Workload,
    taken: Taken,
) -> tuple[float, float]:
    """``intervals.certainty`` of what is decisive."""
    return certainty(
        [service_ns[c] for c in taken.decisive], max_batch_size, workload, [shares[c] for c in taken.decisive]
    )


def parts_of(workload: Workload, classes: Collection[str]) -> tuple[tuple[float, ...], str]:
    """``Taken.parts`` and ``mixing`` of these classes, as far as they do not depend on service times."""
    shares = workload.shares(classes)
    if len(shares) > 1 and workload.capacity == SATURATED:
        return (1.0,) * len(shares), TIME
    return _parts(shares), EACH


def subsets(classes: Sequence[Class]) -> list[tuple[Class, ...]]:
    """Those that are not empty, smaller ones first; one empty one where there are no classes."""
    counts = range(1, len(classes) + 1)
    return [found for count in counts for found in combinations(classes, count)] or [()]


def _by_turns(by_class: Laws, workload: Workload) -> bool:
    return workload.capacity == SATURATED and len(by_class) > 1


def _turns(by_class: Laws, instances: int, workload: Workload) -> Taken:
    """Each class alone; nothing where one of them cannot be served."""
    alone = [analyse(Replica(laws, instances), workload) for laws in by_class]
    rates = [found.low_rps for found in alone]
    most = max(rates) if min(rates) > 0 else 0.0
    found = replace(alone[-1], rate_rps=most, low_rps=most, high_rps=most, utilisation=float(most > 0))
    parts = tuple(rate / most if most else 0.0 for rate in rates)
    return Taken(Replica(by_class[-1], instances), found, parts, TIME, tuple(range(len(by_class))))


def _held_by_fewer(
    replica: Replica,
    found: Analysis,
    by_class: Laws,
    shares: Sequence[float],
    workload: Workload,
    requests: int,
) -> Taken:
    """The rate, lowered where fewer classes would not hold at theirs."""
    everyone = tuple(range(len(by_class)))
    decisive = everyone
    for fewer in subsets(everyone)[:-1]:
        part = sum(shares[c] for c in fewer) / sum(shares)
        alone = replace(replica, laws=mixed_laws([by_class[c] for c in fewer], [shares[c] for c in fewer]))
        if found.low_rps <= 0 or _holds(alone, workload, found.low_rps * part):
            continue
        taken = analyse(alone, workload, requests)
        if taken.low_rps < found.low_rps * part:
            rate = taken.low_rps / part
            seen = analysed_at(replica, workload, rate) if rate > 0 else taken
            found = replace(
                seen,
                rate_rps=min(found.rate_rps, taken.rate_rps / part),
                low_rps=rate,
                high_rps=min(found.high_rps, taken.high_rps / part),
            )
            decisive = fewer
    return Taken(replica, found, _parts(shares), EACH, decisive)


def _holds(replica: Replica, workload: Workload, rate_rps: float) -> bool:
    """Whether a simulation would say so; where there is an exact answer, that is as quickly had."""
    if is_exact(replica, workload):
        return False
    return sojourn_percentile_at(replica, workload, rate_rps) <= workload.slo.budget_ns


def _parts(shares: Sequence[float]) -> tuple[float, ...]:
    return tuple(share / sum(shares) for share in shares)
