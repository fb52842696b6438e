"""What an instance is best divided into, when every slot has a price: an unbounded knapsack for each
shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from planner.optimize.large.market import Floats, Market
from planner.optimize.packing import Item, Resources, best_filling, second_can_bind

Filling = tuple[tuple[int, int], ...]
"""Slots and how many of each one instance holds."""

# Beyond so many pairs of resources a table of them is slower than branching.
_MOST_CELLS = 400_000


def best_fillings(m: Market, pool: int, slot_prices: Floats) -> list[tuple[int, Filling, float]]:
    """For each shape of the pool: a filling worth most, exactly, and its worth."""
    shapes = m.shapes_of(pool)
    limits = [m.shapes[h].limits for h in shapes]
    priced = [t for t in m.slots_of(pool) if slot_prices[t] > 0]
    items = [Item(m.slots[t].first, m.slots[t].second, float(slot_prices[t])) for t in priced]
    if not any(second_can_bind(items, both) for both in limits):
        items = [Item(item.first, 0, item.value) for item in items]
        limits = [(first, 0) for first, _ in limits]
    unit = math.gcd(*(item.second for item in items)) or 1
    most = max(first for first, _ in limits), max(second for _, second in limits) // unit
    if (most[0] + 1) * (most[1] + 1) <= _MOST_CELLS:
        scaled = [Item(item.first, item.second // unit, item.value) for item in items]
        found = _by_table(scaled, [(first, second // unit) for first, second in limits], most)
    else:
        best = [best_filling(items, both) for both in limits]
        found = [(filling.counts, filling.value) for filling in best]
    return [
        (h, tuple((t, c) for t, c in zip(priced, counts, strict=True) if c), worth)
        for h, (counts, worth) in zip(shapes, found, strict=True)
    ]


def _by_table(
    items: Sequence[Item], limits: Sequence[Resources], most: Resources
) -> list[tuple[tuple[int, ...], float]]:
    """One dynamic program, over both resources, for all limits at once."""
    useful = [
        i
        for i, a in enumerate(items)
        if a.first <= most[0]
        and a.second <= most[1]
        and not any(
            b.first <= a.first and b.second <= a.second and (b.value, -j) > (a.value, -i)
            for j, b in enumerate(items)
            if j != i
        )
    ]
    worth = np.zeros((most[0] + 1, most[1] + 1))
    last = np.full(worth.shape, -1, dtype=np.int16)
    for size in range(1, most[0] + 1):
        row, chosen = worth[size], last[size]
        row[:] = worth[size - 1]
        for i in useful:
            item = items[i]
            if item.first <= size:
                made = worth[size - item.first, : most[1] + 1 - item.second] + item.value
                better = made > row[item.second :]
                row[item.second :][better] = made[better]
                chosen[item.second :][better] = i
    found = []
    for limit in limits:
        counts = [0] * len(items)
        first, second = limit
        while first > 0:
            i = int(last[first, second])
            if i < 0:
                first -= 1
                continue
            counts[i] += 1
            first, second = first - items[i].first, second - items[i].second
        found.append((tuple(counts), float(worth[limit])))
    return found
