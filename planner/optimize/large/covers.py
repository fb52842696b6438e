"""What serves each workload at the least price, when every good has one: a covering knapsack for each of
them.

    z_w  =  minimise  sum_g cost_g m_g    subject to  sum_g a_wg m_g >= need_w,  m_g >= 0 integer

Method: branch and bound, breadth first and for all workloads at once, one unit at a time in the order of
cost per rate, after as many of the first as any good enough cover holds. What is left of a need costs at
least its rate times the least cost per rate of the goods still allowed (the linear relaxation); filling it
up with one good alone is a cover. A workload whose
branches become too many stops with the least bound among them, which is a lower bound on z_w all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.optimize.large.market import Floats, Ints

Cover = tuple[tuple[int, int], ...]
"""Goods and how many of each serve a workload."""

# Covers that are cheaper by less than this share do not matter.
_NEGLIGIBLE = 2e-5
# Branches of one workload at one depth.
_MOST_BRANCHES = 400
_MOST_NEAR = 120
_ROUNDING = 1e-11


@dataclass(frozen=True, slots=True)
class Priced:
    """``costs[w]`` of ``covers[w]``; no cover of w costs less than ``bounds[w]``."""

    costs: Floats
    bounds: Floats
    covers: list[Cover]


@dataclass(frozen=True, slots=True)
class _Goods:
    """Of every workload the goods that a cheapest cover may hold, cheapest rate first; padded with rate 0."""

    good: Ints
    rate: Floats
    cost: Floats
    ratio: Floats


def cheapest_covers(
    rates: Floats, needs: Floats, costs: Floats, most_branches: int = _MOST_BRANCHES
) -> Priced:
    """``rates``: (workloads, goods), 0 where a good is of no use; ``costs``: (goods,), 0 or more."""
    goods = _worth_considering(rates, needs, costs)
    best, made = _single(goods, needs)
    bounds = best.copy()
    open_ = np.full(len(needs), np.inf)
    w = np.arange(len(needs))
    sure = _sure_of_first(goods, needs, best)
    left, spent = needs - sure * goods.rate[:, 0], sure * goods.cost[:, 0]
    start = np.zeros(len(needs), dtype=np.int64)
    last = (goods.rate > 0).sum(axis=1) - 1
    parents: list[Ints] = []
    chosen: list[Ints] = []
    # Of the best cover: the branch it ends in (level, position), the good that fills up, how many of it.
    ends = np.stack([np.full(len(needs), -1), w, made[0], made[1]], axis=1)
    while len(w):
        rest, total, bound, allowed = _branches(goods, w, left, spent, start)
        # Filling up with the last good has been tried already.
        allowed &= np.arange(allowed.shape[1])[None, :] < last[w][:, None]
        parent, item = np.nonzero(allowed & (bound < (best[w] * (1 - _NEGLIGIBLE))[:, None]))
        left, spent, bound = rest[parent, item], total[parent, item], bound[parent, item]
        w, start = w[parent], item
        level = len(parents)
        parents.append(parent)
        chosen.append(item)
        _complete(goods, w, left, spent, best, ends, level)
        keep = (left > needs[w] * _ROUNDING) & (bound < best[w] * (1 - _NEGLIGIBLE))
        crowded = np.bincount(w[keep], minlength=len(needs)) > most_branches
        given_up = keep & crowded[w]
        np.minimum.at(open_, w[given_up], bound[given_up])
        keep &= ~crowded[w]
        # A level of its own for what is kept, so that positions can be traced back.
        index = np.nonzero(keep)[0]
        w, left, spent, start = w[index], left[index], spent[index], start[index]
        parents.append(index)
        chosen.append(np.full(len(index), -1))
    bounds = np.minimum(best * (1 - _NEGLIGIBLE), open_)
    covers = [_traced(goods, v, ends[v], parents, chosen, int(sure[v])) for v in range(len(needs))]
    return Priced(best, bounds, covers)


def near_cheapest_covers(
    rates: Floats, needs: Floats, costs: Floats, slack: Floats, most: int
) -> list[tuple[int, Cover]]:
    """(w, cover) for covers that cost at most ``slack[w]`` more than the cheapest: up to ``most`` a workload.

    Not all of them where branches are many: the most promising are followed.
    """
    goods = _worth_considering(rates, needs, costs, slack)
    limit = _fill_up(goods, np.arange(len(needs)), needs)[0]
    limit = np.minimum(limit, cheapest_covers(rates, needs, costs).costs) + slack
    w = np.arange(len(needs))
    sure = _sure_of_first(goods, needs, limit)
    left, spent = needs - sure * goods.rate[:, 0], sure * goods.cost[:, 0]
    start = np.zeros(len(needs), dtype=np.int64)
    counts = np.zeros((len(needs), goods.good.shape[1]), dtype=np.int32)
    counts[:, 0] = sure
    found_w, found_cost, found_counts = [], [], []
    while len(w):
        rest, total, bound, allowed = _branches(goods, w, left, spent, start)
        parent, item = np.nonzero(allowed & (bound <= limit[w][:, None]))
        counts = counts[parent]
        counts[np.arange(len(item)), item] += 1
        left, spent, bound, w, start = (
            rest[parent, item],
            total[parent, item],
            bound[parent, item],
            w[parent],
            item,
        )
        done = left <= needs[w] * _ROUNDING
        found_w.append(w[done])
        found_cost.append(spent[done])
        found_counts.append(counts[done])
        open_ = np.nonzero(~done)[0]
        kept = open_[_first_of_each(w[open_], bound[open_], _MOST_NEAR)]
        w, left, spent, start, counts = w[kept], left[kept], spent[kept], start[kept], counts[kept]
    w, cost, counts = np.concatenate(found_w), np.concatenate(found_cost), np.concatenate(found_counts)
    kept = _first_of_each(w, cost, most)
    covers: list[tuple[int, Cover]] = []
    for i in kept:
        v = int(w[i])
        used = np.nonzero(counts[i])[0]
        covers.append((v, tuple(sorted((int(goods.good[v, j]), int(counts[i, j])) for j in used))))
    return covers


def _branches(
    goods: _Goods, w: Ints, left: Floats, spent: Floats, start: Ints
) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """One unit more of each good, by branch and good: what is left then, what is spent, the least that a
    cover costs; and whether the good is one that may come next."""
    with np.errstate(invalid="ignore"):
        rest = left[:, None] - goods.rate[w]
        total = spent[:, None] + goods.cost[w]
        bound = total + np.maximum(rest, 0) * goods.ratio[w]
    later = np.arange(goods.good.shape[1])[None, :] >= start[:, None]
    return rest, total, bound, later & (goods.rate[w] > 0)


def _first_of_each(group: Ints, value: Floats, most: int) -> Ints:
    """Positions of the ``most`` least values of each group."""
    order = np.lexsort((value, group))
    sizes = np.bincount(group[order]) if len(group) else np.zeros(0, dtype=np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[np.arange(len(order)) - starts < most]


def useful_goods(rates: Floats, needs: Floats, costs: Floats, slack: Floats | float) -> npt.NDArray[np.bool_]:
    """(workloads, goods): without goods that make every cover dearer than a known one by more than
    ``slack``."""
    useful = rates > 0
    rate = np.minimum(rates, needs[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(useful, costs[None, :] / rate, np.inf)
        units = np.ceil(needs[:, None] / rate * (1 - _ROUNDING))
        known = np.where(useful, units * costs[None, :], np.inf).min(axis=1)
        bound = costs[None, :] + (needs[:, None] - rate) * ratio.min(axis=1)[:, None]
    useful &= bound <= (known + slack)[:, None] * (1 + 1e-12)
    return useful


def _worth_considering(rates: Floats, needs: Floats, costs: Floats, slack: Floats | None = None) -> _Goods:
    """Without goods that no cover as cheap as a known one (or by ``slack`` dearer) can hold.

    Without slack, also without those that another one matches.
    """
    useful = useful_goods(rates, needs, costs, 0.0 if slack is None else slack)
    rate = np.minimum(rates, needs[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(useful, costs[None, :] / rate, np.inf)
    if slack is None:
        useful &= _unmatched(useful, rate, costs)
    width = max(1, int(useful.sum(axis=1).max()))
    order = np.argsort(np.where(useful, ratio, np.inf), axis=1, kind="stable")[:, :width]
    kept = np.take_along_axis(useful, order, axis=1)
    return _Goods(
        good=order,
        rate=np.where(kept, np.take_along_axis(rate, order, axis=1), 0.0),
        cost=np.where(kept, costs[order], np.inf),
        ratio=np.where(kept, np.take_along_axis(ratio, order, axis=1), np.inf),
    )


def _unmatched(useful: npt.NDArray[np.bool_], rate: Floats, costs: Floats) -> npt.NDArray[np.bool_]:
    """Goods of which no other one costs no more and takes no less."""
    by_cost = np.lexsort((-rate, np.where(useful, costs[None, :], np.inf)), axis=1)
    sorted_rate = np.take_along_axis(np.where(useful, rate, 0.0), by_cost, axis=1)
    before = np.maximum.accumulate(sorted_rate, axis=1)
    better = np.ones_like(useful)
    better[:, 1:] = sorted_rate[:, 1:] > before[:, :-1]
    found = np.zeros_like(useful)
    np.put_along_axis(found, by_cost, better, axis=1)
    return found


def _sure_of_first(goods: _Goods, needs: Floats, limits: Floats) -> Ints:
    """How many of the first good every cover that costs less than its limit holds, less one.

    What the others serve costs at least the second least cost per rate, which leaves that much for them.
    """
    if goods.ratio.shape[1] == 1:
        others = np.zeros(len(needs))
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            dearer = goods.ratio[:, 1] - goods.ratio[:, 0]
            others = np.where(dearer > 0, (limits - needs * goods.ratio[:, 0]) / dearer, np.inf)
    count: Floats = np.floor((needs - others) / goods.rate[:, 0]) - 1
    return np.maximum(count, 0).astype(np.int64)


def _fill_up(goods: _Goods, w: Ints, left: Floats) -> tuple[Floats, Ints, Ints]:
    """The least cost of serving what is left with one good alone, that good, and how many of it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.ceil(np.maximum(left, 0)[:, None] / goods.rate[w] - _ROUNDING)
        cost = np.where(goods.rate[w] > 0, units * goods.cost[w], np.inf)
    item = cost.argmin(axis=1)
    rows = np.arange(len(w))
    return cost[rows, item], item, np.nan_to_num(units[rows, item], posinf=0).astype(np.int64)


def _single(goods: _Goods, needs: Floats) -> tuple[Floats, tuple[Ints, Ints]]:
    cost, item, units = _fill_up(goods, np.arange(len(needs)), needs)
    return cost, (item, units)


def _complete(
    goods: _Goods, w: Ints, left: Floats, spent: Floats, best: Floats, ends: Ints, level: int
) -> None:
    """Lowers ``best`` and sets ``ends`` wherever a branch, filled up, is a cheaper cover."""
    if not len(w):
        return
    more, item, units = _fill_up(goods, w, left)
    cost = spent + more
    order = np.lexsort((cost, w))
    first = order[np.r_[True, w[order][1:] != w[order][:-1]]]
    better = first[cost[first] < best[w[first]]]
    best[w[better]] = cost[better]
    ends[w[better]] = np.stack([np.full(len(better), level), better, item[better], units[better]], axis=1)


def _traced(goods: _Goods, w: int, end: Ints, parents: list[Ints], chosen: list[Ints], sure: int) -> Cover:
    level, position, item, units = (int(x) for x in end)
    counts: dict[int, int] = {}
    if units:
        counts[int(goods.good[w, item])] = units
    if level >= 0 and sure:
        g = int(goods.good[w, 0])
        counts[g] = counts.get(g, 0) + sure
    while level >= 0:
        i = int(chosen[level][position])
        if i >= 0:
            g = int(goods.good[w, i])
            counts[g] = counts.get(g, 0) + 1
        position = int(parents[level][position])
        level -= 1
    return tuple(sorted(counts.items()))
