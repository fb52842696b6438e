"""One cover for each workload, such that all of them together fit the instances: local search.

At the prices of slots, what a pool's instances are worth when they are shared bounds what its replicas may
be worth (where instances are used fully, the two are equal). So a pool has one number for its room; each
shape has another, for the instances that workloads have for themselves; and a cover takes so much of each.
Starting from the covers with the largest shares in the relaxed program, the cover is changed that lowers
most what is worth more than there is room, until nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.optimize.large.covers import Cover, cheapest_covers
from planner.optimize.large.fillings import best_fillings
from planner.optimize.large.market import Floats, Ints, Market
from planner.optimize.large.master import Master

_MOST_MOVES = 2000
# Moves without a better choice, and moves for which a workload keeps its new cover (tabu search).
_PATIENCE, _BARRED = 60, 10
# Overflow that does not matter, in USD per hour and as a share of the fleet.
_CLOSE = 1e-7
# Weights of thrift, one search after the other.
_THRIFT = (1.0, 0.0)
_DEARER = (1.03, 1.1, 1.3)


class Fit:
    """Chooses among the master's covers. ``goods``: the prices by which they are compared."""

    def __init__(self, m: Market, master: Master, goods: Floats) -> None:
        self.market = m
        self._columns = master.columns
        self._goods = goods
        _with_dearer_pools(m, master, goods)
        self._cover_of = np.array(master.columns.cover_of)
        # What all of an instance is worth when it is shared.
        self._divided = goods.copy()
        for pool in range(m.pools):
            for h, _, worth in best_fillings(m, pool, goods[: len(m.slots)]):
                self._divided[len(m.slots) + h] = worth
        cost = np.array([sum(goods[g] * c for g, c in cover) for cover in master.columns.covers])
        least = np.full(len(m.workloads), np.inf)
        np.minimum.at(least, self._cover_of, cost)
        self._dearer = cost - least[self._cover_of]
        self._load = _load(m, master.columns.covers, goods, self._divided)

    def choose(self, shares: Floats, instances: Floats) -> list[Cover]:
        """``shares``: of the covers in the relaxed program (0 beyond its length); ``instances``: of each
        offer."""
        shares = np.r_[shares, np.zeros(len(self._cover_of) - len(shares))]
        order = np.lexsort((-shares, self._cover_of))
        first = np.r_[True, self._cover_of[order][1:] != self._cover_of[order][:-1]]
        chosen = order[first]
        for thrift in _THRIFT:
            chosen = self._search(chosen, self._room(instances), thrift)
        return [self._columns.covers[i] for i in chosen]

    def _room(self, instances: Floats) -> Floats:
        m = self.market
        room = np.zeros(m.pools + len(m.shapes))
        for h, shape in enumerate(m.shapes):
            count = instances[list(shape.offers)].sum()
            room[shape.pool] += self._divided[len(m.slots) + h] * count
            room[m.pools + h] = self._goods[len(m.slots) + h] * count
        return room

    def _search(self, chosen: Ints, room: Floats, thrift: float = 0.0) -> Ints:
        """Positions of the covers chosen, one for each workload.

        ``thrift`` weighs what covers cost more than the cheapest against what is beyond the room.
        """
        cover_of, load = self._cover_of, self._load
        chosen = chosen.copy()
        total = load[chosen].sum(axis=0)
        used = np.nonzero(load.any(axis=0))[0]
        load, room, total = load[:, used], room[used], total[used]
        extra = thrift * self._dearer
        barred = np.zeros(len(chosen), dtype=np.int64)
        least, best, since = np.inf, chosen.copy(), 0
        close = _CLOSE * float(total.sum())
        for move in range(_MOST_MOVES):
            over = float(np.maximum(total - room, 0).sum() + extra[chosen].sum())
            if over < least - 1e-9:
                least, best, since = over, chosen.copy(), move
            if least <= close or move - since > _PATIENCE:
                break
            after = load - load[chosen[cover_of]]
            after += total - room
            np.maximum(after, 0, out=after)
            value = after.sum(axis=1) + extra - extra[chosen[cover_of]] + extra[chosen].sum()
            value[(barred[cover_of] > move) & (value > least - 1e-9)] = np.inf
            value[chosen] = np.inf
            i = int(value.argmin())
            w = int(cover_of[i])
            total += load[i] - load[chosen[w]]
            chosen[w] = i
            barred[w] = move + _BARRED
        return best


def _load(m: Market, covers: Sequence[Cover], goods: Floats, divided: Floats) -> Floats:
    """(covers, pools + shapes): what each cover takes of each pool, and of it alone of each shape, at these
    prices."""
    pool_of = m.pool_of
    load = np.zeros((len(covers), m.pools + len(m.shapes)))
    for i, cover in enumerate(covers):
        for g, count in cover:
            load[i, pool_of[g]] += divided[g] * count
            if g >= len(m.slots):
                load[i, m.pools + g - len(m.slots)] += goods[g] * count
    return load


def _with_dearer_pools(m: Market, master: Master, goods: Floats) -> None:
    """More covers to choose from: the cheapest where half of the pools cost more."""
    pool_of = np.array(m.pool_of)
    for dearer in _DEARER:
        for half in (0, 1):
            prices = np.where(pool_of % 2 == half, goods * dearer, goods)
            master.add_covers(list(enumerate(cheapest_covers(m.rates, m.needs, prices).covers)))
