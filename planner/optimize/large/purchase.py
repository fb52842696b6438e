"""The instances to buy, once it is known what each workload takes, and what runs on each of them.

With the covers given, the program of ``master`` falls apart into pools, but for quotas that count instances
of several of them. Each part is a small integer program, built with PuLP (n integer)::

    minimise    sum_o price_o n_o

    subject to  slot[t], whole[h], quota[q] as in ``master``, with what the covers take on the right

How instances are divided (y) may be in parts there: replicas come in few sizes, most of which divide each
other, so packing them (``packing``) rarely leaves one over. Where it does, the part is bought once more,
with what was left over taken twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import pulp

from planner.optimize.large.covers import Cover
from planner.optimize.large.market import Market
from planner.optimize.large.master import Columns
from planner.optimize.large.packing import Load, alone, pack, shared
from planner.optimize.patterns import resources

_Terms = list[tuple[pulp.LpVariable, float]]
# How often a part is bought again because something was left over.
_MOST_TRIES = 12
_GAP = 1e-4


@dataclass(frozen=True, slots=True)
class Purchase:
    """``loads``: offer (its position), what one instance runs, and how many of these."""

    loads: tuple[tuple[int, Load, int], ...]

    def cost(self, m: Market) -> float:
        return float(sum(m.prices[o] * count for o, _, count in self.loads))


class Buyer:
    """Remembers what it bought: few parts change from one choice of covers to the next."""

    def __init__(self, m: Market, columns: Columns) -> None:
        self.market = m
        self._columns = columns
        self._parts = _parts(m)
        self._part_of = {p: i for i, pools in enumerate(self._parts) for p in pools}
        self._known: dict[tuple[int, tuple[tuple[int, int, int], ...]], Purchase | None] = {}

    def buy(self, covers: Sequence[Cover], deadline: float) -> Purchase | None:
        """The cheapest instances for all covers, or nearly; None where quotas and limits allow none, or in
        no time."""
        m = self.market
        pool_of = m.pool_of
        wanted: list[list[tuple[int, int, int]]] = [[] for _ in self._parts]
        for w, cover in enumerate(covers):
            for g, count in cover:
                wanted[self._part_of[pool_of[g]]].append((w, g, count))
        loads: list[tuple[int, Load, int]] = []
        for i, pools in enumerate(self._parts):
            key = i, tuple(wanted[i])
            if wanted[i] and key not in self._known:
                mine: list[list[tuple[int, int]]] = [[] for _ in covers]
                for w, g, count in wanted[i]:
                    mine[w].append((g, count))
                self._known[key] = _furnished(m, self._columns, pools, [tuple(c) for c in mine], deadline)
            if wanted[i]:
                part = self._known[key]
                if part is None:
                    return None
                loads += part.loads
        return Purchase(tuple(loads))


def _furnished(
    m: Market, columns: Columns, pools: Sequence[int], covers: Sequence[Cover], deadline: float
) -> Purchase | None:
    taken: Counter[int] = Counter()
    for cover in covers:
        for g, count in cover:
            taken[g] += count
    for _ in range(_MOST_TRIES):
        instances = _instances(m, columns, taken, pools, max(1.0, deadline - perf_counter()))
        if instances is None:
            return None
        loads, left_over = _loaded(m, pools, covers, instances)
        if not left_over:
            return Purchase(tuple((o, load, count) for (o, load), count in sorted(loads.items())))
        taken += left_over
    return None


def _loaded(
    m: Market, pools: Sequence[int], covers: Sequence[Cover], instances: dict[int, int]
) -> tuple[Counter[tuple[int, Load]], Counter[int]]:
    """What runs on the instances (empty ones are left out), and the slots of what found no room."""
    loads: Counter[tuple[int, Load]] = Counter()
    left = dict(instances)
    for h, wanted in alone(m, covers).items():
        for load, count in wanted.items():
            for o in m.shapes[h].offers:
                used = min(count, left.get(o, 0))
                if used:
                    loads[o, load] += used
                    left[o] -= used
                    count -= used
    left_over: Counter[int] = Counter()
    replicas = shared(m, covers)
    for p in pools:
        offers = [o for h in m.shapes_of(p) for o in m.shapes[h].offers]
        offers.sort(key=lambda o: (-m.offers[o].vcpus, -m.offers[o].device_count, m.offers[o].id))
        bins = [o for o in offers for _ in range(left.get(o, 0))]
        gpu = bool(offers) and m.offers[offers[0]].device_count > 0
        held, over = pack(replicas.get(p, []), [resources(m.offers[o]) for o in bins], gpu)
        for o, counts in zip(bins, held, strict=True):
            if counts:
                loads[o, tuple(sorted(counts.items()))] += 1
        for _, count, slot in over:
            left_over[slot] += count
    return loads, left_over


def _goods_of(m: Market, pool: int) -> list[int]:
    return [*m.slots_of(pool), *(len(m.slots) + h for h in m.shapes_of(pool))]


def _parts(m: Market) -> list[list[int]]:
    """Pools that some quota counts together."""
    pool_of = {o: shape.pool for shape in m.shapes for o in shape.offers}
    head = list(range(m.pools))

    def find(p: int) -> int:
        while head[p] != p:
            p = head[p]
        return p

    for row in m.quota_use:
        touched = sorted({pool_of[int(o)] for o in row.nonzero()[0]})
        for p in touched[1:]:
            head[find(p)] = find(touched[0])
    parts: dict[int, list[int]] = {}
    for p in range(m.pools):
        parts.setdefault(find(p), []).append(p)
    return list(parts.values())


def _instances(
    m: Market, columns: Columns, taken: Counter[int], pools: Sequence[int], time_limit_s: float
) -> dict[int, int] | None:
    problem = pulp.LpProblem("instances", pulp.LpMinimize)
    most = None if math.isinf(m.most) else int(m.most)
    shapes = {h for p in pools for h in m.shapes_of(p)}
    offers = [o for h in sorted(shapes) for o in m.shapes[h].offers]
    n = {o: problem.add_variable(f"n{o}", 0, most, pulp.LpInteger) for o in offers}
    supply: dict[int, _Terms] = {g: [] for p in pools for g in _goods_of(m, p)}
    for h in sorted(shapes):
        supply[len(m.slots) + h] += [(n[o], 1.0) for o in m.shapes[h].offers]
    for i, (h, filling) in enumerate(columns.fillings):
        if h in shapes:
            y = problem.add_variable(f"y{i}", 0)
            supply[len(m.slots) + h].append((y, -1.0))
            for t, count in filling:
                supply[t].append((y, float(count)))
    for i, (large, small) in enumerate(columns.smaller):
        if large in supply:
            d = problem.add_variable(f"d{i}", 0)
            supply[large].append((d, -1.0))
            supply[small].append((d, 1.0))
    problem += pulp.LpAffineExpression([(n[o], float(m.prices[o])) for o in offers])
    for g, terms in supply.items():
        if terms:
            problem += pulp.LpAffineExpression(terms) >= taken[g], f"good{g}"
        elif taken[g]:
            return None
    for q, limit in enumerate(m.quota_limits):
        used = [(n[o], float(m.quota_use[q, o])) for o in offers if m.quota_use[q, o]]
        if used:
            problem += pulp.LpAffineExpression(used) <= float(limit), f"quota{q}"
    problem.solve(pulp.HiGHS(msg=False, timeLimit=min(time_limit_s, 2.0), gapRel=_GAP, threads=1))
    if problem.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return None
    return {o: round(v.value()) for o, v in n.items() if round(v.value())}
