"""Hours of traces to fewer periods: neighbouring ones together, each at its highest rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise

DAY_H = 24

Rates = Mapping[str, float]
Block = tuple[str, ...]
"""Neighbouring hours."""


def merged(rates: Sequence[Rates], at_most: int) -> tuple[dict[str, float], list[dict[str, float]]]:
    """At most so many blocks of neighbouring hours: the hours of each by name, and each workload's rates.

    ``rates``: by hour of the day (``18:00``), of each workload that varies, all of the same hours. A block
    (``18:00-21:00``) has the highest rate of its hours, so that no hour is planned for too little. Of all
    ways to divide the day it is one with the least sum, over hours and workloads, of what is planned beyond
    an hour's own rate, in parts of the workload's highest; past midnight too, where every hour is there.
    """
    hours = tuple(rates[0])
    highest = [max(one.values()) or 1.0 for one in rates]

    @cache
    def cost(block: Block) -> float:
        """What is planned beyond the hours' own rates."""
        found = 0.0
        for one, most in zip(rates, highest, strict=True):
            planned = max(one[hour] for hour in block)
            found += sum(planned - one[hour] for hour in block) / most
        return found

    starts = range(len(hours)) if len(hours) == DAY_H else range(1)
    turned = [hours[start:] + hours[:start] for start in starts]
    order, (_, cuts) = min(
        ((order, _cuts(cost, order, at_most)) for order in turned), key=lambda found: found[1][0]
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


def _cuts(cost: Callable[[Block], float], order: Block, at_most: int) -> tuple[float, list[int]]:
    """The least cost, and where blocks begin and the last one ends, by dynamic programming over their
    number."""
    count = len(order)
    best: list[dict[int, tuple[float, list[int]]]] = [{0: (0.0, [0])}]
    for _ in range(min(at_most, count)):
        ends: dict[int, tuple[float, list[int]]] = {}
        for i, (spent, cuts) in best[-1].items():
            for j in range(i + 1, count + 1):
                total = spent + cost(order[i:j])
                if j not in ends or total < ends[j][0]:
                    ends[j] = (total, [*cuts, j])
        best.append(ends)
    return min((ends[count] for ends in best[1:] if count in ends), key=lambda found: found[0])
