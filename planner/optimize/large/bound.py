"""Column generation: the columns that matter, and a bound that no fleet beats.

For any prices of goods and quotas (``Duals``) that no instance undercuts, that is, with sigma_h the price of
all of an instance of shape h and pi_t that of a slot::

    sum_t p_t pi_t <= sigma_h                           for every filling p of h
    sigma_h <= price_o + sum_q use_qo mu_q + lambda_o   for every offer o of h; lambda_o >= 0, without L 0

what any fleet costs is at least (Lagrangian duality; z_w as in ``covers``)::

    sum_w z_w(pi, sigma) - sum_q limit_q mu_q - sum_o L lambda_o

``no_instance_undercuts`` makes such prices out of any, so there is a bound in every round. Prices are taken
between the best so far and those of the master program (Wentges, Weighted Dantzig-Wolfe decomposition,
1997), which settles sooner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from planner.errors import InfeasibleError
from planner.optimize.large.covers import Cover, cheapest_covers
from planner.optimize.large.fillings import Filling, best_fillings
from planner.optimize.large.market import Floats, Market
from planner.optimize.large.master import Duals, Master

_TOWARDS_BEST = 0.6
_MOST_ROUNDS = 400
# What serves nothing costs up to so many times what serving costs without quotas.
_MOST_SHORT = 1e6
_EPS = 1e-9


@dataclass(frozen=True, slots=True)
class Relaxed:
    """``cost`` of the master program, ``bound`` of all fleets, the ``duals`` that prove it."""

    master: Master
    cost: float
    bound: float
    duals: Duals


def relax(m: Market, close_enough: float, deadline: float) -> Relaxed:
    """Until cost and bound are no further apart than that share of the cost, or the time is over.

    Raises InfeasibleError where no fleet, not even of parts of instances, serves all within quotas and
    limits.
    """
    goods = _least_prices(m)
    first = cheapest_covers(m.rates, m.needs, goods)
    scale, dearest = np.maximum(first.costs, 1e-12), 10.0
    master = Master(m, dearest * scale)
    _start(m, master, goods)
    bound, best = -np.inf, Duals(first.costs, goods, np.zeros(len(m.quota_limits)))
    weight, cost = 0.0, np.inf
    for _ in range(_MOST_ROUNDS):
        cost, duals = master.solve()
        if cost - bound <= close_enough * cost and not _short(master):
            break
        if perf_counter() > deadline:
            break
        at, fillings = no_instance_undercuts(m, _between(best, duals, weight))
        priced = cheapest_covers(m.rates, m.needs, at.goods)
        new = _add_cheaper(m, master, duals, fillings, priced.covers)
        here = float(priced.bounds.sum()) - _penalty(m, at)
        if here > bound:
            bound, best = here, at
            weight = _TOWARDS_BEST if weight == 0 else weight
        if new:
            continue
        if weight > 0:
            weight = weight / 2 if weight > 0.05 else 0.0
        elif _short(master) and dearest < _MOST_SHORT:
            dearest *= 30
            master.raise_short(dearest * scale)
        else:
            break
    if _short(master):
        raise _too_little(m, master, perf_counter() > deadline)
    return Relaxed(master, cost, bound, best)


def _short(master: Master) -> bool:
    return bool(master.values()[0].max(initial=0.0) > 1e-7)


def _too_little(m: Market, master: Master, late: bool) -> InfeasibleError:
    if late:
        return InfeasibleError("no plan was found within the time limit; allow more time")
    short = [m.workloads[w] for w in np.nonzero(master.values()[0] > 1e-7)[0]]
    duals = master.solve()[1]
    names = [name for name, price in zip(m.quota_names, duals.quotas, strict=True) if price > _EPS]
    limits = [f"quota {name}" for name in dict.fromkeys(names)][:3]
    if m.problem.max_instances_per_offer is not None:
        limits.append(f"max_instances_per_offer {m.problem.max_instances_per_offer}")
    who = f"workload {short[0]}" if len(short) == 1 else f"workload {short[0]} and {len(short) - 1} more"
    return InfeasibleError(
        f"{who}: no fleet serves all within {', '.join(limits) or 'the offers'}; raise one of them"
    )


def _add_cheaper(
    m: Market, master: Master, duals: Duals, fillings: list[tuple[int, Filling]], covers: list[Cover]
) -> int:
    """Adds what lowers the cost of the master program at its own prices; how many columns that are."""
    new = master.add_fillings([f for f in fillings if _worth(m, duals.goods, f) > _EPS])
    cost = np.array([sum(duals.goods[g] * c for g, c in cover) for cover in covers])
    cheaper = np.nonzero(cost < duals.serve * (1 - _EPS))[0]
    return new + master.add_covers([(int(w), covers[w]) for w in cheaper])


def add_cheaper_covers(m: Market, master: Master) -> int:
    """Adds covers that lower the cost of the master program as it is now; how many that are."""
    duals = master.solve()[1]
    return _add_cheaper(m, master, duals, [], cheapest_covers(m.rates, m.needs, duals.goods).covers)


def no_instance_undercuts(m: Market, duals: Duals) -> tuple[Duals, list[tuple[int, Filling]]]:
    """The nearest such prices (see above), and the best filling of every shape at the prices given."""
    goods = duals.goods.copy()
    slots = len(m.slots)
    dear = m.prices + duals.quotas @ m.quota_use
    found: list[tuple[int, Filling]] = []
    for a, b in _holds(m):
        goods[b] = min(goods[a], goods[b])
    for h, shape in enumerate(m.shapes):
        cheapest = float(dear[list(shape.offers)].min())
        goods[slots + h] = cheapest if np.isinf(m.most) else max(cheapest, goods[slots + h])
    for pool in range(m.pools):
        scale = 1.0
        for h, filling, worth in best_fillings(m, pool, goods[:slots]):
            found.append((h, filling))
            if worth > 0:
                scale = min(scale, float(goods[slots + h]) / worth)
        goods[m.slots_of(pool)] *= scale
    return replace(duals, goods=goods), found


def _holds(m: Market) -> list[tuple[int, int]]:
    found = []
    for pool in range(m.pools):
        mine = m.slots_of(pool)
        found += [
            (a, b)
            for a in mine
            for b in mine
            if a != b and m.slots[a].first >= m.slots[b].first and m.slots[a].second >= m.slots[b].second
        ]
    return found


def _penalty(m: Market, duals: Duals) -> float:
    total = float(duals.quotas @ m.quota_limits)
    if np.isinf(m.most):
        return total
    dear = m.prices + duals.quotas @ m.quota_use
    for h, shape in enumerate(m.shapes):
        worth = duals.goods[len(m.slots) + h]
        total += m.most * float(np.maximum(worth - dear[list(shape.offers)], 0).sum())
    return total


def _worth(m: Market, goods: Floats, filling: tuple[int, Filling]) -> float:
    h, slots = filling
    return float(sum(goods[t] * c for t, c in slots) - goods[len(m.slots) + h])


def _between(best: Duals, duals: Duals, weight: float) -> Duals:
    return Duals(
        duals.serve,
        weight * best.goods + (1 - weight) * duals.goods,
        weight * best.quotas + (1 - weight) * duals.quotas,
    )


def _least_prices(m: Market) -> Floats:
    """Prices of goods without quotas: a slot costs its part of the cheapest instance that holds it."""
    goods = np.zeros(m.goods)
    for pool in range(m.pools):
        for t in m.slots_of(pool):
            goods[t] = m.slots[t].first
    return no_instance_undercuts(
        m, Duals(np.zeros(0), _with_shapes(m, goods), np.zeros(len(m.quota_limits)))
    )[0].goods


def _with_shapes(m: Market, goods: Floats) -> Floats:
    for h, shape in enumerate(m.shapes):
        goods[len(m.slots) + h] = float(m.prices[list(shape.offers)].min())
    return goods


def _start(m: Market, master: Master, goods: Floats) -> None:
    """Each workload's covers by one good, the best few of them, and fillings by one slot."""
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.ceil(m.needs[:, None] / m.rates - 1e-11)
        cost = np.where(m.rates > 0, units * goods[None, :], np.inf)
    order = np.argsort(cost, axis=1)[:, :8]
    covers: list[tuple[int, Cover]] = [
        (w, ((int(g), int(units[w, g])),))
        for w in range(len(m.workloads))
        for g in order[w]
        if np.isfinite(cost[w, g])
    ]
    master.add_covers(covers)
    fillings: list[tuple[int, Filling]] = []
    for pool in range(m.pools):
        fillings += [(h, f) for h, f, _ in best_fillings(m, pool, goods[: len(m.slots)])]
        for t in m.slots_of(pool):
            alone = np.zeros(len(m.slots))
            alone[t] = 1.0
            fillings += [(h, f) for h, f, _ in best_fillings(m, pool, alone)]
    master.add_fillings(fillings)
