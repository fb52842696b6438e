"""A better fleet out of a good one: large neighbourhood search.

Again and again some pools and some workloads are freed, and the integer program of ``master`` over them is
solved with all else as it is: instances of the freed pools, covers of the freed workloads. The first pools
are those with most unused room; later ones come by a fixed seed. (Pisinger and Ropke, Large neighborhood
search, 2010.)

HiGHS is called directly: PuLP does not pass the fleet at hand to it, without which it seldom finds a better
one.
"""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from time import perf_counter

import highspy
import numpy as np

from planner.optimize.large.covers import Cover
from planner.optimize.large.market import Floats, Market
from planner.optimize.large.master import Columns, Duals
from planner.optimize.large.purchase import Buyer, Purchase

# What is freed at once, and for how long the solver may take: many small steps do better than few large ones.
_POOLS, _WORKLOADS, _COVERS = 5, 60, 12
_SECONDS = 1.0
# Few workloads are freed all at once.
_WHOLE_SECONDS, _COVERS_IF_FEW = 10.0, 100
_CLOSE = 2e-5
# Offers that cost more than their instances are worth by this share are not bought.
_DEAR = 0.5

Choice = tuple[Purchase, list[Cover]]
_Entries = dict[int, float]


class Improver:
    """``duals``: prices by which covers and offers are preferred."""

    def __init__(self, m: Market, columns: Columns, duals: Duals, buyer: Buyer) -> None:
        self.market, self._columns, self._buyer = m, columns, buyer
        self._pool_of = m.pool_of
        self._goods = duals.goods
        extra = [sum(duals.goods[g] * c for g, c in cover) for cover in columns.covers]
        self._covers_of: list[list[int]] = [[] for _ in m.workloads]
        for i in np.argsort(np.array(extra), kind="stable"):
            self._covers_of[columns.cover_of[i]].append(int(i))
        worth = np.zeros(len(m.offers))
        for h, shape in enumerate(m.shapes):
            worth[list(shape.offers)] = duals.goods[len(m.slots) + h]
        self._extra = m.prices + duals.quotas @ m.quota_use - worth

    def improve(self, found: Choice, enough: float, deadline: float) -> Choice:
        m = self.market
        if len(m.workloads) <= _WORKLOADS:
            return self._all_at_once(found, deadline)
        random = Random(0)
        cost = found[0].cost(m)
        idle = 0
        while cost > enough and perf_counter() < deadline and idle < 40:
            pools = self._pools(found, random, wasteful=idle % 2 == 0)
            workloads = self._workloads(found[1], pools, random)
            covers = self._solve(found, pools, workloads, min(_SECONDS, deadline - perf_counter()))
            idle += 1
            if covers is None or covers == found[1]:
                continue
            bought = self._buyer.buy(covers, deadline)
            if bought is not None and bought.cost(m) < cost - 1e-9:
                found, cost, idle = (bought, covers), bought.cost(m), 0
        return found

    def _all_at_once(self, found: Choice, deadline: float) -> Choice:
        everything = list(range(self.market.pools)), list(range(len(self.market.workloads)))
        seconds = min(_WHOLE_SECONDS, 0.8 * (deadline - perf_counter()))
        covers = self._solve(found, *everything, seconds)
        bought = None if covers is None else self._buyer.buy(covers, deadline)
        if (
            covers is not None
            and bought is not None
            and bought.cost(self.market) < found[0].cost(self.market)
        ):
            return bought, covers
        return found

    def _pools(self, found: Choice, random: Random, wasteful: bool) -> list[int]:
        """The pools with most unused room, of which a few by chance, and others by chance."""
        m = self.market
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

    def _workloads(self, covers: list[Cover], pools: list[int], random: Random) -> list[int]:
        """Those that use one of the pools, or could."""
        able = [
            w
            for w, mine in enumerate(self._covers_of)
            if len(mine) > 1
            and any(self._pool_of[g] in pools for i in mine[:_COVERS] for g, _ in self._columns.covers[i])
        ]
        return sorted(random.sample(able, min(_WORKLOADS, len(able))))

    def _solve(
        self, found: Choice, pools: list[int], workloads: list[int], time_limit_s: float
    ) -> list[Cover] | None:
        """New covers of the workloads, with instances of the pools bought anew."""
        m, columns = self.market, self._columns
        bought, covers = found
        instances: Counter[int] = Counter()
        for o, _, count in bought.loads:
            instances[o] += count
        freed = set(workloads)
        most = _COVERS if len(m.workloads) > _WORKLOADS else _COVERS_IF_FEW
        serve = {w: row for row, w in enumerate(workloads)}
        goods, quotas = len(workloads), len(workloads) + m.goods
        low = np.r_[np.ones(goods), np.zeros(m.goods), np.full(len(m.quota_limits), -np.inf)]
        high = np.r_[np.ones(goods), np.full(m.goods, np.inf), m.quota_limits]
        for w, cover in enumerate(covers):
            if w not in freed:
                for g, count in cover:
                    low[goods + g] += count
        entries: list[_Entries] = []
        costs: list[float] = []
        start: list[float] = []
        whole: list[bool] = []

        def column(entry: _Entries, cost: float, at: float, integer: bool) -> None:
            entries.append(entry)
            costs.append(cost)
            start.append(at)
            whole.append(integer)

        options: list[tuple[int, Cover]] = []
        for w in workloads:
            mine = dict.fromkeys([covers[w], *(columns.covers[i] for i in self._covers_of[w][:most])])
            for cover in mine:
                options.append((w, cover))
                entry = {serve[w]: 1.0} | {goods + g: -float(c) for g, c in cover}
                column(entry, 0.0, float(cover == covers[w]), True)
        open_pools = set(pools)
        for h, shape in enumerate(m.shapes):
            row = goods + len(m.slots) + h
            for o in shape.offers:
                use = m.quota_use[:, o]
                if shape.pool in open_pools and (instances[o] or self._extra[o] < _DEAR * m.prices[o]):
                    entry = {row: 1.0} | {quotas + int(q): float(use[q]) for q in np.nonzero(use)[0]}
                    column(entry, float(m.prices[o]), float(instances[o]), True)
                elif instances[o]:
                    low[row] -= instances[o]
                    high[quotas:] -= use * instances[o]
        integers = len(entries)
        for h, filling in columns.fillings:
            entry = {goods + t: float(c) for t, c in filling}
            column(entry | {goods + len(m.slots) + h: -1.0}, 0.0, 0.0, False)
        for large, small in columns.smaller:
            column({goods + large: -1.0, goods + small: 1.0}, 0.0, 0.0, False)
        values = _minimum(entries, costs, low, high, whole, start[:integers], m.most, time_limit_s)
        if values is None:
            return None
        changed = list(covers)
        for (w, cover), value in zip(options, values, strict=False):
            if value > 0.5:
                changed[w] = cover
        return changed


def _minimum(
    entries: list[_Entries],
    costs: list[float],
    low: Floats,
    high: Floats,
    whole: list[bool],
    start: list[float],
    most: float,
    time_limit_s: float,
) -> Floats | None:
    """The integer program by columns, from a start that gives all its integers."""
    highs = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("time_limit", max(0.1, time_limit_s)),
        ("mip_rel_gap", _CLOSE),
    ):
        highs.setOptionValue(name, value)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(entries), len(low)
    lp.col_cost_ = np.array(costs)
    lp.col_lower_ = np.zeros(len(entries))
    lp.col_upper_ = np.array(
        [1.0 if w and not c else (most if w else math.inf) for w, c in zip(whole, costs, strict=True)]
    )
    lp.row_lower_, lp.row_upper_ = low, high
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(e) for e in entries)])
    lp.a_matrix_.index_ = np.array([row for e in entries for row in e])
    lp.a_matrix_.value_ = np.array([value for e in entries for value in e.values()])
    lp.integrality_ = [
        highspy.HighsVarType.kInteger if w else highspy.HighsVarType.kContinuous for w in whole
    ]
    highs.passModel(lp)
    highs.setSolution(len(start), np.arange(len(start), dtype=np.int32), np.array(start))
    highs.run()
    values = np.array(highs.getSolution().col_value)
    if highs.getInfo().primal_solution_status != 2 or not len(values):
        return None
    return values
