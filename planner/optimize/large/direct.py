"""The integer program without columns: how many of each good every workload takes.

Where workloads are few, or most of them stay as they are, no columns are needed::

    minimise    sum_o price_o n_o

    subject to  serve[w]:     sum_g min(1, a_wg / need_w) m_wg >= 1                               for every w
                shape[h]:     sum_(o in h) n_o >= f_h + sum_w m_wh                                for every h
                resource[p]:  sum_(h in p) limit_h f_h >= sum_w sum_(t in p) size_t m_wt          for every p
                quota[q]:     sum_o use_qo n_o <= limit_q                                         for every q

``m_wg`` units of good g for workload w, ``n_o`` instances of offer o, ``f_h`` instances of shape h that are
shared, all integer; ``resource`` for each of an instance's two resources. That replicas must be packed into
single instances is left out: the bound is one for all fleets, and what is found is packed by ``purchase``.

HiGHS is called directly: PuLP does not pass the fleet at hand to it, without which it seldom finds a better
one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt

from planner.optimize.large.covers import Cover
from planner.optimize.large.market import Market

# A program no further from its bound is solved.
_CLOSE = 1e-7
# By how little rows may be missed.
_TOLERANCE = 1e-9
# What a sum of rates may lack to reach the need.
_ROUNDING = 1e-10


@dataclass(frozen=True, slots=True)
class Freed:
    """What may change: instances of ``pools``, and what ``workloads`` take, of ``goods[w, g]`` only."""

    pools: Sequence[int]
    workloads: Sequence[int]
    goods: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answer:
    """``covers`` of all workloads (None: no better ones) and a ``bound`` on the cost of all such fleets."""

    covers: list[Cover] | None
    bound: float


def solve_direct(
    m: Market, freed: Freed, covers: Sequence[Cover], instances: Counter[int], time_limit_s: float
) -> Answer:
    """All that is not freed stays as in the fleet at hand: ``covers``, and ``instances`` by offer."""
    program = _Program(m, freed.workloads)
    wholes: Counter[int] = Counter()
    for w, cover in enumerate(covers):
        for g, count in cover:
            wholes[g - len(m.slots)] += count
            if w not in program.serve:
                program.taken(g, count)
    takes: list[tuple[int, int]] = []
    for w in freed.workloads:
        now = dict(covers[w])
        for g in np.nonzero(freed.goods[w])[0].tolist():
            takes.append((w, g))
            program.take(w, g, now.get(g, 0))
    for h, shape in enumerate(m.shapes):
        count = sum(instances[o] for o in shape.offers)
        program.share(h, max(0, count - wholes[h]))
        for o in shape.offers:
            program.buy(o, h, instances[o], shape.pool in freed.pools)
    values, bound = program.minimum(time_limit_s)
    if values is None:
        return Answer(None, bound)
    changed: dict[int, list[tuple[int, int]]] = {w: [] for w in freed.workloads}
    for (w, g), value in zip(takes, values, strict=False):
        if value > 0.5:
            changed[w].append((g, round(value)))
    found = [tuple(changed[w]) if w in changed else cover for w, cover in enumerate(covers)]
    served = [sum(m.rates[w, g] * count for g, count in found[w]) for w in freed.workloads]
    enough = np.array(served) >= m.needs[list(freed.workloads)] * (1 - _ROUNDING)
    return Answer(found if enough.all() else None, bound)


class _Program:
    """Rows: serve, shape, resource (first, then second of every pool), quota."""

    def __init__(self, m: Market, workloads: Sequence[int]) -> None:
        self._market = m
        self.serve = {w: row for row, w in enumerate(workloads)}
        self._shape = len(workloads)
        self._first = self._shape + len(m.shapes)
        self._second = self._first + m.pools
        self._quota = self._second + m.pools
        self._low = np.r_[
            np.ones(self._shape), np.zeros(self._quota - self._shape), np.full(len(m.quota_limits), -np.inf)
        ]
        self._high = np.r_[np.full(self._quota, np.inf), m.quota_limits]
        self._unit = [1.0] * m.pools
        for shape in m.shapes:
            self._unit[shape.pool] = max(self._unit[shape.pool], float(shape.limits[1]))
        self._entries: list[dict[int, float]] = []
        self._columns: list[tuple[float, float, float, float]] = []

    def taken(self, good: int, count: int) -> None:
        """By workloads that are not freed."""
        for row, value in self._needs(good).items():
            self._low[row] += value * count

    def take(self, w: int, good: int, now: int) -> None:
        part = min(1.0, float(self._market.rates[w, good] / self._market.needs[w]))
        entry = {self.serve[w]: part} | {row: -value for row, value in self._needs(good).items()}
        self._add(entry, 0.0, 0.0, max(now, math.ceil(1 / part)), now)

    def share(self, h: int, now: int) -> None:
        shape = self._market.shapes[h]
        entry = {self._shape + h: -1.0} | self._resources(shape.pool, *shape.limits)
        self._add(entry, 0.0, 0.0, math.inf, now)

    def buy(self, o: int, h: int, now: int, free: bool) -> None:
        m = self._market
        use = m.quota_use[:, o]
        entry = {self._shape + h: 1.0} | {self._quota + int(q): float(use[q]) for q in np.nonzero(use)[0]}
        self._add(entry, float(m.prices[o]), 0.0 if free else now, m.most if free else now, now)

    def minimum(self, time_limit_s: float) -> tuple[list[float] | None, float]:
        highs = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),
            ("time_limit", max(0.1, time_limit_s)),
            ("mip_rel_gap", _CLOSE),
            ("primal_feasibility_tolerance", _TOLERANCE),
            ("mip_feasibility_tolerance", _TOLERANCE),
        ):
            highs.setOptionValue(name, value)
        costs, least, most, now = (np.array(column) for column in zip(*self._columns, strict=True))
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(costs), len(self._low)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = costs, least, most
        lp.row_lower_, lp.row_upper_ = self._low, self._high
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.cumsum([0, *(len(e) for e in self._entries)])
        lp.a_matrix_.index_ = np.array([row for e in self._entries for row in e])
        lp.a_matrix_.value_ = np.array([value for e in self._entries for value in e.values()])
        lp.integrality_ = [highspy.HighsVarType.kInteger] * len(costs)
        highs.passModel(lp)
        highs.setSolution(len(now), np.arange(len(now), dtype=np.int32), now)
        highs.run()
        info = highs.getInfo()
        found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        return list(highs.getSolution().col_value) if found else None, float(info.mip_dual_bound)

    def _needs(self, good: int) -> dict[int, float]:
        m = self._market
        if good >= len(m.slots):
            return {self._shape + good - len(m.slots): 1.0}
        slot = m.slots[good]
        return self._resources(slot.pool, slot.first, slot.second)

    def _resources(self, pool: int, first: int, second: int) -> dict[int, float]:
        found = {self._first + pool: float(first)}
        return found | {self._second + pool: second / self._unit[pool]} if second else found

    def _add(self, entry: dict[int, float], cost: float, least: float, most: float, now: float) -> None:
        self._entries.append(entry)
        self._columns.append((cost, least, float(most), float(now)))
