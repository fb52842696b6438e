"""The relaxed program over the columns known so far, solved again and again as more of them come.

Columns: ``n_o`` instances of offer o (0 to L); ``y_hp`` instances of shape h divided by filling p; ``d_tt'``
slots t that are used as smaller slots t'; ``x_wq`` the share of workload w that cover q serves; ``short_w``
the share that nothing serves, at a price above any other::

    minimise    sum_o price_o n_o + sum_w price_short_w short_w

    subject to  serve[w]:  sum_q x_wq + short_w >= 1                                             for every w
                slot[t]:   sum_hp p_t y_hp + sum_t' d_t't - sum_t' d_tt' >= sum_wq q_t x_wq      for every t
                whole[h]:  sum_(o in h) n_o - sum_p y_hp >= sum_wq q_h x_wq                      for every h
                quota[q]:  sum_o use_qo n_o <= limit_q                                           for every q

With x and the rest integer this is the whole problem (Dantzig and Wolfe's decomposition of it, by workloads
on the one side, by instances on the other). Here they are continuous.

HiGHS is called directly: PuLP builds a program from nothing each time and passes no basis on, and this one is
solved some thirty times with a thousand columns more each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np

from planner.errors import PlannerError
from planner.optimize.large.covers import Cover
from planner.optimize.large.fillings import Filling
from planner.optimize.large.market import Floats, Market


@dataclass(frozen=True, slots=True)
class Duals:
    """Prices that the rows set: of serving each workload, of each good, and of each quota (0 or more)."""

    serve: Floats
    goods: Floats
    quotas: Floats


@dataclass(slots=True)
class Columns:
    """All columns made so far. ``covers[i]`` serves workload ``cover_of[i]``."""

    fillings: list[tuple[int, Filling]]
    smaller: list[tuple[int, int]]
    covers: list[Cover]
    cover_of: list[int]


def smaller_slots(m: Market) -> list[tuple[int, int]]:
    """(t, t') where t holds what t' holds, and no slot is between them."""
    found = []
    for pool in range(m.pools):
        mine = m.slots_of(pool)

        def holds(a: int, b: int) -> bool:
            return a != b and m.slots[a].first >= m.slots[b].first and m.slots[a].second >= m.slots[b].second

        for a in mine:
            below = [b for b in mine if holds(a, b)]
            found += [(a, b) for b in below if not any(holds(c, b) for c in below)]
    return found


class Master:
    """Grows by ``add_*``; ``solve`` starts from where the last one ended."""

    def __init__(self, m: Market, short_prices: Floats) -> None:
        self.market = m
        self.columns = Columns([], [], [], [])
        self._known: set[object] = set()
        self._serve, self._goods = 0, len(m.workloads)
        self._quotas = self._goods + m.goods
        self._covers: list[int] = []
        self._highs = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        low = np.r_[
            np.ones(len(m.workloads)), np.zeros(m.goods), np.full(len(m.quota_limits), -highspy.kHighsInf)
        ]
        high = np.r_[np.full(self._quotas, highspy.kHighsInf), m.quota_limits]
        none = np.array([], dtype=np.int32)
        self._highs.addRows(len(low), low, high, 0, np.zeros(len(low), dtype=np.int32), none, np.array([]))
        self._short = self._add([[(w, 1.0)] for w in range(len(m.workloads))], short_prices)
        shape_of = {o: h for h, shape in enumerate(m.shapes) for o in shape.offers}
        instances = []
        for o in range(len(m.offers)):
            quotas = [
                (self._quotas + int(q), float(m.quota_use[q, o])) for q in np.nonzero(m.quota_use[:, o])[0]
            ]
            instances.append([(self._goods + len(m.slots) + shape_of[o], 1.0), *quotas])
        self.instances = self._add(instances, m.prices, m.most)
        self.columns.smaller = smaller_slots(m)
        self._add(
            [[(self._goods + a, -1.0), (self._goods + b, 1.0)] for a, b in self.columns.smaller],
            np.zeros(len(self.columns.smaller)),
        )

    def add_fillings(self, fillings: Sequence[tuple[int, Filling]]) -> int:
        """How many of them were new."""
        new = [f for f in fillings if f[1] and f not in self._known]
        self._known.update(new)
        self.columns.fillings += new
        slots = len(self.market.slots)
        self._add(
            [
                [*((self._goods + t, float(c)) for t, c in filling), (self._goods + slots + h, -1.0)]
                for h, filling in new
            ],
            np.zeros(len(new)),
        )
        return len(new)

    def add_covers(self, covers: Sequence[tuple[int, Cover]]) -> int:
        """How many of them were new."""
        new = [c for c in dict.fromkeys(covers) if c not in self._known]
        self._known.update(new)
        self.columns.covers += [cover for _, cover in new]
        self.columns.cover_of += [w for w, _ in new]
        terms = [[(w, 1.0), *((self._goods + g, -float(c)) for g, c in cover)] for w, cover in new]
        self._covers += range(self._add(terms, np.zeros(len(new))), self._highs.getNumCol())
        return len(new)

    def raise_short(self, prices: Floats) -> None:
        for w, price in enumerate(prices):
            self._highs.changeColCost(self._short + w, float(price))

    def bound_instances(self, offer: int, least: float, most: float) -> None:
        self._highs.changeColBounds(self.instances + offer, float(least), float(most))

    def bound_cover(self, i: int, least: float) -> None:
        """``least``: 1 to serve a workload by ``columns.covers[i]`` and nothing else, 0 to leave it open."""
        self._highs.changeColBounds(self._covers[i], float(least), highspy.kHighsInf)

    def solve(self) -> tuple[float, Duals]:
        """The least cost over the columns known, and the prices that go with it."""
        cost = self.cost()
        if not math.isfinite(cost):
            raise PlannerError(
                "no part of the program serves its workloads, though serving nothing is allowed"
            )
        row = np.array(self._highs.getSolution().row_dual)
        return cost, Duals(
            np.maximum(row[: self._goods], 0),
            np.maximum(row[self._goods : self._quotas], 0),
            np.maximum(-row[self._quotas :], 0),
        )

    def cost(self) -> float:
        """The least cost; infinity where instances and covers that are fixed do not go together."""
        self._highs.run()
        status = self._highs.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return math.inf
        if status != highspy.HighsModelStatus.kOptimal:
            raise PlannerError(f"HiGHS stopped with {status} on a program that has an optimum")
        return float(self._highs.getInfo().objective_function_value)

    def values(self) -> tuple[Floats, Floats, Floats]:
        """``short_w``, ``n_o`` and ``x`` of the last solution."""
        value = np.array(self._highs.getSolution().col_value)
        short = value[self._short : self._short + len(self.market.workloads)]
        return short, value[self.instances : self.instances + len(self.market.offers)], value[self._covers]

    def _add(
        self, columns: Sequence[Sequence[tuple[int, float]]], costs: Floats, upper: float = np.inf
    ) -> int:
        """The position of the first of them."""
        first = int(self._highs.getNumCol())
        if columns:
            lengths = np.array([len(c) for c in columns])
            starts = np.r_[0, np.cumsum(lengths)[:-1]].astype(np.int32)
            index = np.array([row for c in columns for row, _ in c], dtype=np.int32)
            value = np.array([v for c in columns for _, v in c], dtype=float)
            n = len(columns)
            self._highs.addCols(
                n,
                np.asarray(costs, dtype=float),
                np.zeros(n),
                np.full(n, upper),
                len(index),
                starts,
                index,
                value,
            )
        return first
