"""From the relaxed program to one cover for each workload: a dive.

What is in parts becomes whole, the dearest first: instances of an offer, or a workload that is divided
between covers. The program is solved again each time, and what is still open adapts; where it got dearer,
covers are priced anew. So what is dear is decided while much else can still be fitted around it, and what no
fit is found for falls on the cheapest instances, where one more is bought for cents (``purchase``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from planner.optimize.large.bound import add_cheaper_covers
from planner.optimize.large.covers import Cover, near_cheapest_covers
from planner.optimize.large.market import Floats, Market
from planner.optimize.large.master import Duals, Master

_PART = 1e-6
# Covers that cost so much more, as a share of what an average workload costs, give the rounding room.
_NEAR = 3e-3
_NEAR_COVERS = 20
# Of few workloads, whole instances are a large part of the fleet, and other covers may fill them better.
_FEW, _NEAR_IF_FEW, _NEAR_COVERS_IF_FEW = 60, 0.3, 100
# In what an average workload costs: parts of instances with a price below the first are left to the purchase;
# covers are priced anew once the program has become dearer by the second; by less than the third is nothing.
_SMALL, _DEARER, _CALM = 0.02, 0.01, 0.001
# How far from whole an instance is rounded without trying both ways.
_NEARLY_WHOLE = 0.15
# The share of a cover that is taken without trying others, and how many are at once.
_LIKELY, _AT_ONCE, _TRIED = 0.7, 4, 3
# The share of a cover that may wait until all else is decided: it often settles by itself.
_CLEAR = 0.85

# How often what is decided about instances may be taken back, where it leaves no room for the workloads.
_MOST_REOPENINGS = 20
# The part of the time after which less is tried and more is done at once.
_CAREFUL = 0.5
# A step that costs more (in what an average workload costs) may leave something unserved.
_MUCH = 0.1

_Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Way:
    """A choice for the master program: how to make it, and how to take it back."""

    make: _Step
    take_back: _Step


def enrich(m: Market, master: Master, duals: Duals) -> None:
    """Adds covers that cost nearly as little as the cheapest at these prices."""
    few = len(m.needs) <= _FEW
    near, most = (_NEAR_IF_FEW, _NEAR_COVERS_IF_FEW) if few else (_NEAR, _NEAR_COVERS)
    slack = np.full(len(m.needs), near * float(duals.serve.sum()) / len(m.needs))
    master.add_covers(near_cheapest_covers(m.rates, m.needs, duals.goods, slack, most))


def dive(m: Market, master: Master, goods: Floats, deadline: float) -> list[Cover]:
    """One cover for each workload; ``goods``: prices that tell which are dear."""
    return _Dive(m, master, goods).run(deadline)


class _Dive:
    def __init__(self, m: Market, master: Master, goods: Floats) -> None:
        self._market, self._master, self._goods = m, master, goods
        self._cost = self._priced = master.cost()
        # Offers and workloads that are decided, and offers that are left in parts.
        self._counts: dict[int, float] = {}
        self._done: set[int] = set()
        self._left: set[int] = set()
        self._reopenings = 0
        self._hurry_from = math.inf
        self._at_once = _AT_ONCE
        self._average = self._cost / len(m.needs)

    def run(self, deadline: float) -> list[Cover]:
        now = perf_counter()
        self._hurry_from = now + _CAREFUL * (deadline - now)
        while perf_counter() < deadline and self._step():
            if self._cost > self._priced + _DEARER * self._average:
                add_cheaper_covers(self._market, self._master)
                self._cost = self._priced = self._master.cost()
        return self._covers()

    def _step(self) -> bool:
        """Decides what is dearest; False where nothing is left."""
        _, instances, shares = self._master.values()
        offer = self._dearest_part(instances)
        divided = self._divided(shares)
        unclear = {w: covers for w, covers in divided.items() if max(covers.values()) < _CLEAR}
        order = sorted(unclear, key=lambda w: (-self._dearest_good(unclear[w]), w))
        if offer is not None and not (
            order and self._dearest_good(unclear[order[0]]) > self._market.prices[offer]
        ):
            self._round(offer, float(instances[offer]))
        elif order:
            self._settle(order, unclear)
        elif divided:
            self._settle_all(divided)
        return offer is not None or bool(divided)

    @property
    def _hurried(self) -> bool:
        return perf_counter() > self._hurry_from

    def _dearest_part(self, instances: Floats) -> int | None:
        prices = self._market.prices
        parts = np.nonzero(
            (np.abs(instances - np.round(instances)) > _PART) & (prices >= _SMALL * self._average)
        )[0]
        return max(
            (int(o) for o in parts if int(o) not in self._counts and int(o) not in self._left),
            key=lambda o: prices[o],
            default=None,
        )

    def _divided(self, shares: Floats) -> dict[int, dict[int, float]]:
        """Workloads that are served by several covers, with the share of each."""
        found: dict[int, dict[int, float]] = defaultdict(dict)
        for i in np.nonzero((shares > _PART) & (shares < 1 - _PART))[0]:
            found[self._master.columns.cover_of[i]][int(i)] = float(shares[i])
        return {w: covers for w, covers in found.items() if len(covers) > 1 and w not in self._done}

    def _dearest_good(self, covers: dict[int, float]) -> float:
        return max(float(self._goods[g]) for i in covers for g, _ in self._master.columns.covers[i])

    def _round(self, offer: int, instances: float) -> None:
        ways = sorted((math.floor(instances), math.ceil(instances)), key=lambda n: -abs(n - instances))
        ways = [n for n in ways if self._within_quotas(offer, n)]
        if ways and (self._hurried or abs(ways[-1] - instances) < _NEARLY_WHOLE):
            ways = ways[-1:]
        best = self._best([self._instances(offer, n) for n in ways])
        if best is not None:
            self._counts[offer] = ways[best]
        elif not self._reopened():
            self._left.add(offer)

    def _settle(self, order: Sequence[int], divided: dict[int, dict[int, float]]) -> None:
        likely = [w for w in order if self._hurried or max(divided[w].values()) >= _LIKELY]
        calm = self._at_once > _AT_ONCE
        before = self._cost
        if likely and (calm or order[0] in likely) and self._take(likely[: self._at_once], divided):
            calm = self._hurried or self._cost < before + _CALM * self._average
            self._at_once = 2 * self._at_once if calm else _AT_ONCE
            return
        w = order[0]
        covers = sorted(divided[w], key=lambda i: (divided[w][i], i))[-_TRIED:]
        if self._best([self._cover(i) for i in covers]) is not None or not self._reopened():
            self._done.add(w)

    def _settle_all(self, divided: dict[int, dict[int, float]]) -> None:
        if not self._take(list(divided), divided):
            self._settle(sorted(divided, key=lambda w: (-self._dearest_good(divided[w]), w))[:1], divided)

    def _reopened(self) -> bool:
        """Where what is decided leaves no room: more instances of each offer may be bought again."""
        if not self._counts or self._reopenings == _MOST_REOPENINGS:
            return False
        for offer, count in self._counts.items():
            self._master.bound_instances(offer, count, self._market.most)
        self._counts.clear()
        self._reopenings += 1
        self._cost = self._master.cost()
        return True

    def _take(self, workloads: Sequence[int], divided: dict[int, dict[int, float]]) -> bool:
        """The cover with the largest share for each of them, unless that is more than fits."""
        ways = [self._cover(max(divided[w], key=lambda i: (divided[w][i], i))) for w in workloads]

        def make() -> None:
            for way in ways:
                way.make()

        def take_back() -> None:
            for way in ways:
                way.take_back()

        if self._best([_Way(make, take_back)]) is None:
            return False
        self._done.update(workloads)
        return True

    def _best(self, ways: Sequence[_Way]) -> int | None:
        """Makes the choice that costs least; None where none is possible. The likeliest comes last."""
        costs: list[float] = []
        for way in ways:
            way.make()
            costs.append(self._cost_of_all())
            if way is not ways[-1]:
                way.take_back()
        best = min(range(len(ways)), key=lambda i: (costs[i], -i), default=None)
        if best is None or (best == len(ways) - 1 and math.isfinite(costs[best])):
            self._cost = costs[-1] if costs else self._cost
            return best
        ways[-1].take_back()
        possible = math.isfinite(costs[best])
        if possible:
            ways[best].make()
        self._cost = self._master.cost()
        return best if possible else None

    def _cost_of_all(self) -> float:
        """Infinity where something is not served."""
        cost = self._master.cost()
        dearer = cost > self._cost + _MUCH * self._average
        return math.inf if dearer and self._master.values()[0].max(initial=0.0) > _PART else cost

    def _instances(self, offer: int, count: float) -> _Way:
        master, most = self._master, self._market.most
        return _Way(
            lambda: master.bound_instances(offer, count, count),
            lambda: master.bound_instances(offer, 0, most),
        )

    def _cover(self, i: int) -> _Way:
        return _Way(lambda: self._master.bound_cover(i, 1.0), lambda: self._master.bound_cover(i, 0.0))

    def _within_quotas(self, offer: int, count: float) -> bool:
        m, counts = self._market, self._counts | {offer: count}
        used = m.quota_use[:, list(counts)] @ np.array(list(counts.values()))
        return bool((used <= m.quota_limits + 1e-9).all())

    def _covers(self) -> list[Cover]:
        """Of every workload the one with the largest share."""
        shares, columns = self._master.values()[2], self._master.columns
        best: dict[int, int] = {}
        for i, w in enumerate(columns.cover_of):
            if w not in best or shares[i] > shares[best[w]]:
                best[w] = i
        return [columns.covers[best[w]] for w in range(len(self._market.needs))]
