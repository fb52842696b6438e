"""A fleet in full: what a problem with any of its features is made of, in exact numbers.

``formulation`` is the short form of this for problems where only rates, prices and one limit per offer count;
``rows`` writes the program down. Here are its columns (an offer, a packing, and a zone where that matters),
what they hold, what is needed of them, and a check of the counts that does not trust the solver.

Two reductions beyond those of ``patterns``, with the reason why an optimal fleet remains:

*Columns* (``_undominated``). Column j is dropped for column i where an instance of i is worth no less than
one of j on every axis, costs no more, uses no more power or carbon (where that is optimised), no more of any
quota, is in the same zone (where zones matter), is not spot where j is not (where spot is limited), and is of
the same instance type (where kinds are limited). Move every instance from j to i: nothing that is served,
survived or limited gets worse. If any one instance is lost, the others are each worth no less than before,
so the loss is survived as well. There is no such i where each offer has a limit, since i's may be full, nor
between commitments over several periods, since instances of theirs are paid for all the time.

*Counts* (``_most``). No optimal fleet needs more instances of a column in a period than serve, by themselves,
all that it can serve there, and one more where the loss of an instance is survived: of more, one can go,
which costs no more, and whatever it served the others of its column still can, in every row that counts them.
(At least one is allowed where zones are counted.)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from operator import le

from planner.domain.offer import SPOT, Offer
from planner.domain.problem import (
    ANY_INSTANCE,
    ANY_ZONE,
    Candidate,
    Demand,
    Problem,
    is_commitment,
    zones_of,
)
from planner.optimize.patterns import Column, MayServe, anywhere, columns, mean_latencies
from planner.optimize.supply import (
    by_turns,
    class_names,
    class_rates,
    figures_by_offer,
    is_blended,
    per_hour,
    shares_time,
)

SHORTFALL = Fraction(1, 10**8)
"""A demand counts as served from 1 - this of it up: half of it is built in, half is the solver's rounding."""

Counts = tuple[tuple[int, ...], ...]
"""Instances by period and column."""


@dataclass(frozen=True, slots=True)
class Source:
    """Replicas that are worth the same: of one candidate, at one rate for each class, on spot or not."""

    candidate: Candidate
    spot: bool
    rates_rps: tuple[tuple[str, Fraction], ...]


@dataclass(frozen=True, slots=True)
class Fleet:
    """``contents[k]``: the sources on one instance of column k, by index, with their replicas.

    ``needs``: rates above 0 by (period, workload, class), a little below what is asked for (``SHORTFALL``);
    ``weights``: each period's part of the time; ``most[t][k]``: no optimal fleet has more.
    """

    problem: Problem
    columns: tuple[Column, ...]
    sources: tuple[Source, ...]
    contents: tuple[tuple[tuple[int, int], ...], ...]
    needs: dict[tuple[int, str, str], Fraction]
    weights: tuple[Fraction, ...]
    most: Counts

    @property
    def periods(self) -> range:
        return range(len(self.weights))

    @property
    def committed(self) -> tuple[str, ...]:
        """Offers bought once for several periods; with one period there is no difference."""
        if len(self.weights) == 1:
            return ()
        return tuple(sorted({c.offer.id for c in self.columns if is_commitment(c.offer)}))

    def demand(self, workload: str) -> Demand:
        return next(demand for demand in self.problem.demands if demand.workload == workload)

    def blended(self, workload: str) -> bool:
        return is_blended(self.problem, self.demand(workload))

    def by_turns(self, workload: str) -> bool:
        return shares_time(self.problem, self.demand(workload))

    def price(self, k: int) -> Fraction:
        """USD per hour, the decimal that the catalog wrote."""
        return Fraction(repr(self.columns[k].offer.usd_per_hour))

    def capacity(self, k: int, workload: str, name: str) -> Fraction:
        """What one instance of column k takes of a class, where no replica serves several by turns."""
        return sum(
            (
                rate * count
                for s, count in self.contents[k]
                if self.sources[s].candidate.workload == workload
                for other, rate in self.sources[s].rates_rps
                if other == name
            ),
            Fraction(0),
        )

    def running(self, offer_id: str, counts: Sequence[int]) -> int:
        return sum(n for column, n in zip(self.columns, counts, strict=True) if column.offer.id == offer_id)

    def bought(self, counts: Counts) -> dict[str, int]:
        """The least commitments that these counts need."""
        return {o: max(self.running(o, counts[t]) for t in self.periods) for o in self.committed}

    def cost(self, counts: Counts) -> Fraction:
        """Mean USD per hour, commitments included."""
        once = set(self.committed)
        by_period = (
            weight
            * sum((self.price(k) * n for k, n in enumerate(row) if self.columns[k].offer.id not in once))
            for weight, row in zip(self.weights, counts, strict=True)
        )
        prices = {column.offer.id: self.price(k) for k, column in enumerate(self.columns)}
        return sum(by_period, Fraction(0)) + sum(
            (prices[o] * n for o, n in self.bought(counts).items()), Fraction(0)
        )


def zones_matter(problem: Problem) -> bool:
    return problem.min_zones > 0 or any(demand.redundancy == ANY_ZONE for demand in problem.demands)


def fleet_columns(problem: Problem, may_serve: MayServe = anywhere) -> tuple[Column, ...]:
    """Every column that some optimal fleet could need, by offer, packing and zone. Errors as ``columns``."""
    figures = figures_by_offer(problem)
    offers = tuple(o for o in problem.offers if per_hour(problem, figures[o.id]) is not None)
    listed = columns(replace(problem, offers=offers, figures=(), keep=None), may_serve)
    if zones_matter(problem):
        listed = tuple(replace(c, zone=zone) for c in listed for zone in zones_of(c.offer))
    return _undominated(problem, listed)


def fleet(problem: Problem, listed: Sequence[Column]) -> Fleet:
    """The problem over these columns, in exact numbers."""
    figures = figures_by_offer(problem)
    demands = {demand.workload: demand for demand in problem.demands}
    candidate_of = {candidate.id: candidate for candidate in problem.candidates}
    index: dict[Source, int] = {}
    contents = []
    for column in listed:
        mine = []
        for candidate_id, count in column.packing.replicas:
            c = candidate_of[candidate_id]
            rate = c.packed_capacity_rps if column.packing.extrapolated else c.capacity_rps
            available = Fraction(repr(figures[column.offer.id].availability))
            rates = class_rates(c, demands[c.workload], rate)
            source = Source(
                c,
                column.offer.purchase == SPOT,
                tuple((name, r * available) for name, r in sorted(rates.items())),
            )
            mine.append((index.setdefault(source, len(index)), count))
        contents.append(tuple(mine))
    hours = [Fraction(repr(period.hours)) for period in problem.periods] or [Fraction(1)]
    made = Fleet(
        problem=problem,
        columns=tuple(listed),
        sources=tuple(index),
        contents=tuple(contents),
        needs=dict(_needs(problem, len(hours))),
        weights=tuple(h / sum(hours) for h in hours),
        most=(),
    )
    blended = {w for w in demands if made.blended(w)}
    most = (tuple(_most(made, t, k, blended) for k in range(len(listed))) for t in made.periods)
    return replace(made, most=tuple(most))


def _needs(problem: Problem, periods: int) -> Iterator[tuple[tuple[int, str, str], Fraction]]:
    for demand in sorted(problem.demands, key=lambda d: d.workload):
        shares = {c.name: Fraction(repr(c.share)) for c in demand.classes}
        for t in range(periods):
            rate = Fraction(demand.rate_in(t)) * (1 - SHORTFALL / 2)
            for name in class_names(demand):
                if rate:
                    yield (t, demand.workload, name), rate * shares.get(name, Fraction(1))


def _most(f: Fleet, t: int, k: int, blended: Collection[str]) -> int:
    """See the module's docstring; ``blended``: the workloads that are."""
    enough, spare = Fraction(0), 0
    for s, count in f.contents[k]:
        source = f.sources[s]
        w = source.candidate.workload
        alone = [
            f.needs[t, w, name] / (rate * count if w in blended else f.capacity(k, w, name))
            for name, rate in source.rates_rps
            if (t, w, name) in f.needs
        ]
        together = sum(alone, Fraction(0))
        enough = max(enough, together if by_turns(source.candidate) else max(alone, default=together))
        if alone and f.demand(w).redundancy == ANY_INSTANCE:
            spare = 1
    most = math.ceil(enough) + spare
    if f.problem.min_zones:
        most = max(most, 1)
    return min(most, f.problem.max_instances_per_offer or most)


def _undominated(problem: Problem, listed: Sequence[Column]) -> tuple[Column, ...]:
    """See the module's docstring."""
    if problem.max_instances_per_offer is not None:
        return tuple(listed)
    figures = figures_by_offer(problem)
    several = len(problem.periods) > 1
    spot_limited = any(demand.max_spot_share < 1 for demand in problem.demands)

    def place(column: Column) -> tuple[object, ...]:
        offer = column.offer
        kind = (offer.provider, offer.instance_type) if problem.max_kinds is not None else None
        return column.zone, kind, offer.id if several and is_commitment(offer) else None

    def loss(column: Column) -> tuple[float, ...]:
        """Less is better."""
        offer = column.offer
        mine = figures[offer.id]
        return (
            offer.usd_per_hour,
            float(per_hour(problem, mine) or 0),
            float(spot_limited and offer.purchase == SPOT),
            *(quota.counts(offer) if quota.selects(offer) else 0.0 for quota in problem.quotas),
            *(-rate * mine.availability for rate in column.packing.rates_rps),
        )

    kept: dict[tuple[object, ...], list[tuple[tuple[float, ...], int]]] = defaultdict(list)
    losses = [loss(column) for column in listed]
    latencies = mean_latencies(listed, {candidate.id: candidate for candidate in problem.candidates})
    for k in sorted(range(len(listed)), key=lambda k: (losses[k], latencies[k], k)):
        rivals = kept[place(listed[k])]
        if not any(all(map(le, other, losses[k])) for other, _ in rivals):
            rivals.append((losses[k], k))
    return tuple(listed[k] for k in sorted(k for rivals in kept.values() for _, k in rivals))


def broken_limit(f: Fleet, counts: Counts) -> str | None:
    """The first limit that these counts break, in exact numbers, or None."""
    p, bought = f.problem, f.bought(counts)
    offers: Mapping[str, Offer] = {column.offer.id: column.offer for column in f.columns}
    used = {f.columns[k].offer for row in counts for k, n in enumerate(row) if n}
    for t in f.periods:
        held = {o: bought.get(o, f.running(o, counts[t])) for o in offers}
        if p.max_instances_per_offer is not None and max(held.values()) > p.max_instances_per_offer:
            return f"it holds more than {p.max_instances_per_offer} instances of an offer"
        for quota in p.quotas:
            taken = sum(
                Fraction(quota.counts(offers[o])) * n for o, n in held.items() if quota.selects(offers[o])
            )
            if taken > Fraction(quota.at_most) * (1 + SHORTFALL):
                return f"it takes {float(taken):g} of quota {quota.name}, which allows {quota.at_most:g}"
        zones = {f.columns[k].zone for k, n in enumerate(counts[t]) if n}
        asked = any(period == t for period, _, _ in f.needs)
        if asked and len(zones) < p.min_zones:
            return f"it is in {len(zones)} zones, min_zones is {p.min_zones}"
    if p.max_kinds is not None and len({(o.provider, o.instance_type) for o in used}) > p.max_kinds:
        return f"it has more than {p.max_kinds} kinds of instance"
    budget = p.budget_usd_per_hour
    if budget is not None and f.cost(counts) > Fraction(repr(budget)) * (1 + SHORTFALL):
        return f"it costs {float(f.cost(counts)):g} USD/h, the budget is {budget:g}"
    return None


def shortcoming(f: Fleet, counts: Counts) -> str | None:
    """Which demand these counts do not serve, in normal operation or after a loss, or None.

    Workloads whose replicas serve several classes by turns are left to the flows.
    """
    for (t, w, name), need in f.needs.items():
        if f.by_turns(w):
            continue
        least = need * (1 - SHORTFALL)
        demand = f.demand(w)
        takes = [(f.capacity(k, w, name), k, n) for k, n in enumerate(counts[t]) if n]
        total = sum((rate * n for rate, _, n in takes), Fraction(0))
        after = [total]
        if demand.redundancy == ANY_INSTANCE:
            after += [total - rate for rate, _, _ in takes]
        if demand.redundancy == ANY_ZONE:
            for zone in {f.columns[k].zone for _, k, _ in takes}:
                after.append(sum((r * n for r, k, n in takes if f.columns[k].zone != zone), Fraction(0)))
        if demand.max_spot_share < 1 and not f.blended(w):
            steady = sum((r * n for r, k, n in takes if f.columns[k].offer.purchase != SPOT), Fraction(0))
            after.append(steady + need * Fraction(repr(demand.max_spot_share)))
        if min(after) < least:
            return (
                f"it serves {float(min(after)):g} of {float(need):g} rps of {w}{f' {name}' if name else ''}"
            )
    return None
