"""Hours of traces to fewer periods: neighbouring ones together, each at its highest rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

DAY_H = 24

Rates = Mapping[str, float]


def merged(rates: Sequence[Rates], at_most: int) -> tuple[dict[str, float], list[dict[str, float]]]:
    """At most so many blocks of neighbouring hours: the hours of each by name, and each workload's rates.

    ``rates``: by hour of the day (``18:00``), of each workload that varies, all of the same hours. A block
    (``18:00-21:00``) has the highest rate of its hours, so that no hour is planned for too little. Of all
    ways to divide the day it is one with the least sum, over hours and workloads, of what is planned beyond
    an hour's own rate, in parts of the workload's highest; past midnight too, where every hour is there.
    """
    hours = list(rates[0])
    starts = range(len(hours)) if len(hours) == DAY_H else range(1)
    turned = [hours[start:] + hours[:start] for start in starts]
    order, cuts = min(
        ((order, _cuts(rates, order, at_most)) for order in turned),
        key=lambda found: _beyond(rates, found[0], found[1]),
    )
    blocks = [order[first:last] for first, last in pairwise(cuts)]
    blocks.sort(key=lambda block: hours.index(block[0]))
    named = {_name(block): block for block in blocks}
    return (
        {name: float(len(block)) for name, block in named.items()},
        [{name: max(one[hour] for hour in block) for name, block in named.items()} for one in rates],
    )


def _name(block: Sequence[str]) -> str:
    end = int(block[-1][:2]) + 1
    return f"{block[0]}-{end:02}:00"


def _cost(rates: Sequence[Rates], block: Sequence[str]) -> float:
    """What is planned beyond the hours' own rates."""
    found = 0.0
    for one in rates:
        highest = max(one[hour] for hour in block)
        found += sum(highest - one[hour] for hour in block) / (max(one.values()) or 1.0)
    return found


def _beyond(rates: Sequence[Rates], order: Sequence[str], cuts: Sequence[int]) -> float:
    return sum(_cost(rates, order[first:last]) for first, last in pairwise(cuts))


def _cuts(rates: Sequence[Rates], order: Sequence[str], at_most: int) -> list[int]:
    """Where blocks begin and the last one ends, by dynamic programming over the number of blocks."""
    count = len(order)
    cost = {(i, j): _cost(rates, order[i:j]) for i in range(count) for j in range(i + 1, count + 1)}
    best: list[dict[int, tuple[float, list[int]]]] = [{0: (0.0, [0])}]
    for _ in range(min(at_most, count)):
        ends: dict[int, tuple[float, list[int]]] = {}
        for i, (spent, cuts) in best[-1].items():
            for j in range(i + 1, count + 1):
                total = spent + cost[i, j]
                if j not in ends or total < ends[j][0]:
                    ends[j] = (total, [*cuts, j])
        best.append(ends)
    return min((ends[count] for ends in best[1:] if count in ends), key=lambda found: found[0])[1]
