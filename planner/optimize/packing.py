"""How to fill one instance: an unbounded knapsack with two resources, solved exactly.

An item is one replica of a candidate; it uses some of two resources (threads and memory of a CPU
instance; accelerators and threads of a GPU instance) and is worth the rate that it takes::

    maximise    sum_i value_i x_i
    subject to  sum_i first_i x_i <= A,  sum_i second_i x_i <= B,  x_i >= 0 integer

Method: dynamic programming over the items, keeping only fillings that no other one beats in worth and
both resources at once, and of these only those whose worth plus a bound on what still fits exceeds the
best filling known. The bound is that of linear-programming duality: any prices (u, v) >= 0 of the
resources with ``u first_i + v second_i >= value_i`` for every i bound the worth of what fits into
(a, b) by ``u a + v b``. (Kellerer, Pferschy, Pisinger, *Knapsack Problems*, 2004, sections 5.2 and 9.3.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

Resources = tuple[int, int]

# Prices and worths are floats: a filling is pruned only where it loses by more than rounding can explain.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Item:
    """One replica. ``first`` is 1 or more, ``second`` 0 or more, ``value`` above 0."""

    first: int
    second: int
    value: float


@dataclass(frozen=True, slots=True)
class Filling:
    """``counts[i]`` replicas of item i, what they are worth and what they use."""

    counts: tuple[int, ...]
    value: float
    first: int
    second: int


def best_filling(items: Sequence[Item], limits: Resources) -> Filling:
    """A filling worth most; of several, always the same one, and rather one with few replicas."""
    kept, binding = _worth_considering(items, limits)
    if not kept:
        return Filling((0,) * len(items), 0.0, 0, 0)
    reduced = [items[i] if binding else Item(items[i].first, 0, items[i].value) for i in kept]
    prices = _shadow_prices(tuple(reduced))
    u, v = min(prices, key=lambda price: price[0] * limits[0] + price[1] * limits[1])
    # The items that pay least for what they use come first: each of them costs worth, so only few of them
    # can be in the best filling, and those that pay most fill up the rest.
    order = sorted(
        range(len(kept)), key=lambda i: reduced[i].value / (u * reduced[i].first + v * reduced[i].second)
    )
    ordered = [reduced[i] for i in order]
    known = _some_value(ordered, limits) * (1 - _SLACK)
    fillings = [Filling((), 0.0, 0, 0)]
    for item in ordered[:-1]:
        fillings = _unbeaten(
            filling
            for filling in _extended(fillings, item, limits)
            if filling.value + _bound(prices, filling, limits) >= known
        )
    fillings = [_topped_up(filling, ordered[-1], limits) for filling in fillings]
    positions = {kept[original]: position for position, original in enumerate(order)}
    full = [_spread(filling, positions, items) for filling in fillings]
    return min(full, key=lambda f: (-f.value, sum(f.counts), tuple(-count for count in f.counts)))


def unbeaten_fillings(items: Sequence[Item], limits: Resources, most: int) -> list[Filling] | None:
    """Every filling, the empty one included, that none beats in worth and both resources at once.

    None where there are more than ``most``.
    """
    fillings = [Filling((), 0.0, 0, 0)]
    for item in items:
        fillings = _unbeaten(_extended(fillings, item, limits))
        if len(fillings) > most:
            return None
    return fillings


def how_many_fit(item: Item, limits: Resources) -> int:
    fit = limits[0] // item.first
    return min(fit, limits[1] // item.second) if item.second else fit


def second_can_bind(items: Iterable[Item], limits: Resources) -> bool:
    """False where even the item greediest for the second resource exhausts the first one before."""
    return any(item.second * limits[0] > limits[1] * item.first for item in items)


def _worth_considering(items: Sequence[Item], limits: Resources) -> tuple[list[int], bool]:
    """Positions of the items that fit and that none beats, and whether the second resource can bind."""
    fit = [i for i, item in enumerate(items) if how_many_fit(item, limits) > 0]
    binding = second_can_bind((items[i] for i in fit), limits)

    def key(i: int) -> tuple[float, int, int, int]:
        return (-items[i].value, items[i].first, items[i].second if binding else 0, i)

    kept: list[int] = []
    for i in sorted(fit, key=key):
        beaten = any(
            items[k].first <= items[i].first and (not binding or items[k].second <= items[i].second)
            for k in kept
        )
        if not beaten:
            kept.append(i)
    return sorted(kept), binding


@lru_cache(maxsize=512)
def _shadow_prices(items: tuple[Item, ...]) -> tuple[tuple[float, float], ...]:
    """Corners of the dual's feasible region: one of them is the tightest bound, whatever remains."""
    corners = [(max(item.value / item.first for item in items), 0.0)]
    if all(item.second > 0 for item in items):
        corners.append((0.0, max(item.value / item.second for item in items)))
    for one, other in combinations(items, 2):
        determinant = one.first * other.second - other.first * one.second
        if determinant == 0:
            continue
        u = (one.value * other.second - other.value * one.second) / determinant
        v = (one.first * other.value - other.first * one.value) / determinant
        if u >= 0 and v >= 0 and all((u * i.first + v * i.second) * (1 + 1e-12) >= i.value for i in items):
            corners.append((u, v))
    return tuple(corners)


def _bound(prices: Sequence[tuple[float, float]], filling: Filling, limits: Resources) -> float:
    """At most so much can still be added."""
    first, second = limits[0] - filling.first, limits[1] - filling.second
    return min(u * first + v * second for u, v in prices)


def _some_value(items: Sequence[Item], limits: Resources) -> float:
    """The worth of a good filling: any number of the item that pays second best, then of the others."""
    *others, last = items
    best = 0.0
    second_best = others[-1] if others else last
    for start in range(how_many_fit(second_best, limits) + 1):
        filling = Filling(
            (), start * second_best.value, start * second_best.first, start * second_best.second
        )
        for item in reversed(items):
            filling = _topped_up(filling, item, limits)
        best = max(best, filling.value)
    return best


def _topped_up(filling: Filling, item: Item, limits: Resources) -> Filling:
    """With as many more of ``item`` as fit."""
    count = how_many_fit(item, (limits[0] - filling.first, limits[1] - filling.second))
    return _with(filling, item, count)


def _with(filling: Filling, item: Item, count: int) -> Filling:
    return Filling(
        (*filling.counts, count),
        filling.value + count * item.value,
        filling.first + count * item.first,
        filling.second + count * item.second,
    )


def _extended(fillings: Iterable[Filling], item: Item, limits: Resources) -> Iterable[Filling]:
    for filling in fillings:
        room = (limits[0] - filling.first, limits[1] - filling.second)
        for count in range(how_many_fit(item, room) + 1):
            yield _with(filling, item, count)


def _unbeaten(fillings: Iterable[Filling]) -> list[Filling]:
    """Those that no other one equals or beats in worth and both resources.

    From the worthiest down, a filling is beaten if one seen before uses no more of either. Those seen are
    kept as a staircase: rising in the first resource, falling in the second.
    """
    kept: list[Filling] = []
    firsts: list[int] = []
    seconds: list[int] = []
    for filling in sorted(fillings, key=lambda f: (-f.value, f.first, f.second, sum(f.counts), f.counts)):
        at = bisect_right(firsts, filling.first)
        if at and seconds[at - 1] <= filling.second:
            continue
        kept.append(filling)
        low = bisect_left(firsts, filling.first)
        high = low
        while high < len(firsts) and seconds[high] >= filling.second:
            high += 1
        firsts[low:high], seconds[low:high] = [filling.first], [filling.second]
    return kept


def _spread(filling: Filling, positions: dict[int, int], items: Sequence[Item]) -> Filling:
    """The filling over all items, in their order, with its worth and use added up in that order."""
    counts = tuple(filling.counts[positions[i]] if i in positions else 0 for i in range(len(items)))
    return Filling(
        counts,
        sum(count * item.value for count, item in zip(counts, items, strict=True)),
        sum(count * item.first for count, item in zip(counts, items, strict=True)),
        sum(count * item.second for count, item in zip(counts, items, strict=True)),
    )
