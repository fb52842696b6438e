"""A better fleet out of a good one: large neighbourhood search.

Again and again some pools and some workloads are freed, and the integer program over them (``direct``) is
solved with all else as it is. The first pools are those with most unused room; later ones come by a fixed
seed. (Pisinger and Ropke, Large neighborhood search, 2010.) Few workloads are freed all at once: then the
program's bound holds for every fleet too.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from time import perf_counter

import numpy as np

from planner.optimize.large.bound import Relaxed
from planner.optimize.large.covers import Cover, useful_goods
from planner.optimize.large.direct import Freed, solve_direct
from planner.optimize.large.market import Market
from planner.optimize.large.purchase import Buyer, Purchase

# What is freed at once, and for how long the solver may take: many small steps do better than few large ones.
_POOLS, _WORKLOADS = 10, 15
_SECONDS = 1.0
# So many workloads are freed all at once, and so many without other steps before that.
_FEW, _AT_ONCE = 150, 20
# Goods that make a cover dearer by less than this share of what an average workload costs.
_NEAR = 0.1
_MOST_IDLE = 40

Choice = tuple[Purchase, list[Cover]]


class Improver:
    def __init__(self, m: Market, relaxed: Relaxed, buyer: Buyer) -> None:
        self._market, self._relaxed, self._buyer = m, relaxed, buyer
        self._pool_of = m.pool_of
        self._goods = relaxed.duals.goods

    def improve(self, found: Choice, enough: float, deadline: float) -> tuple[Choice, float]:
        """A fleet no dearer, until its cost is ``enough``, and the bound of all fleets."""
        workloads = len(self._market.workloads)
        if workloads > _AT_ONCE:
            now = perf_counter()
            until = deadline if workloads > _FEW else now + (deadline - now) / 2
            found = self._piece_by_piece(found, enough, until)
        if workloads > _FEW:
            return found, self._relaxed.bound
        return self._all_at_once(found, deadline)

    def _all_at_once(self, found: Choice, deadline: float) -> tuple[Choice, float]:
        """What costs more than the fleet at hand, by the prices that prove the bound, is left out."""
        m, bound = self._market, self._relaxed.bound
        cost = found[0].cost(m)
        goods = useful_goods(m.rates, m.needs, self._goods, max(cost - bound, 0.0) * 1.001)
        freed = Freed(range(m.pools), range(len(m.workloads)), goods | _taken(m, found[1]))
        answer = solve_direct(m, freed, found[1], _instances(found), 0.95 * (deadline - perf_counter()))
        return self._cheaper(found, answer.covers, deadline), max(bound, min(answer.bound, cost))

    def _piece_by_piece(self, found: Choice, enough: float, deadline: float) -> Choice:
        m, random = self._market, Random(0)
        goods = useful_goods(m.rates, m.needs, self._goods, _NEAR * self._relaxed.cost / len(m.needs))
        cost, idle = found[0].cost(m), 0
        while cost > enough and perf_counter() < deadline and idle < _MOST_IDLE:
            pools = self._pools(found, random, wasteful=idle % 2 == 0)
            able = np.nonzero(goods[:, np.isin(self._pool_of, pools)].any(axis=1))[0].tolist()
            workloads = sorted(random.sample(able, min(_WORKLOADS, len(able))))
            freed = Freed(pools, workloads, goods | _taken(m, found[1]))
            seconds = min(_SECONDS, deadline - perf_counter())
            found = self._cheaper(
                found, solve_direct(m, freed, found[1], _instances(found), seconds).covers, deadline
            )
            idle = 0 if found[0].cost(m) < cost - 1e-9 else idle + 1
            cost = found[0].cost(m)
        return found

    def _cheaper(self, found: Choice, covers: list[Cover] | None, deadline: float) -> Choice:
        if covers is None or covers == found[1]:
            return found
        bought = self._buyer.buy(covers, deadline)
        if bought is None or bought.cost(self._market) >= found[0].cost(self._market):
            return found
        return bought, covers

    def _pools(self, found: Choice, random: Random, wasteful: bool) -> list[int]:
        """The pools with most unused room, of which a few by chance, and others by chance."""
        m = self._market
        unused = np.zeros(m.pools)
        shape_of = {o: h for h, shape in enumerate(m.shapes) for o in shape.offers}
        for o, _, count in found[0].loads:
            h = shape_of[o]
            unused[m.shapes[h].pool] += float(self._goods[len(m.slots) + h]) * count
        for cover in found[1]:
            for g, count in cover:
                unused[self._pool_of[g]] -= float(self._goods[g]) * count
        order = [int(p) for p in np.argsort(-unused)]
        first = random.sample(order[:8], min(3, len(order[:8]))) if wasteful else []
        others = [p for p in order if p not in first]
        return first + random.sample(others, min(_POOLS - len(first), len(others)))


def _instances(found: Choice) -> Counter[int]:
    instances: Counter[int] = Counter()
    for o, _, count in found[0].loads:
        instances[o] += count
    return instances


def _taken(m: Market, covers: list[Cover]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    taken = np.zeros(m.rates.shape, dtype=bool)
    for w, cover in enumerate(covers):
        taken[w, [g for g, _ in cover]] = True
    return taken
