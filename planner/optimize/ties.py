"""The one plan among equally cheap ones, so that a plan does not depend on the order of its inputs.

Of the plans of least cost (over the columns that ``formulation.reduced`` keeps), the one with

1. fewer kinds, a kind being an offer running a pattern;
2. then fewer instances;
3. then the lower latency at full load, of an instance's replicas weighted by what they take, summed over the
   instances (where every latency is known);
4. then the smaller ids of offers and patterns, compared in order;
5. then more instances of the earlier ids.

Found by exact enumeration in integers: the number of kinds in the solver's plan is an upper bound, and a
branch ends where even the best ratio of price to capacity among the columns left would exceed the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from planner.optimize.formulation import Formulation

MOST_STEPS = 400_000
"""Columns looked at before giving up: a fraction of a second, and the same on every machine."""


def preferred(formulation: Formulation, counts: Sequence[int]) -> tuple[int, ...] | None:
    """The plan preferred among those as cheap as ``counts``; None where there are too many to tell."""
    kinds = sum(1 for count in counts if count)
    search = _Search(formulation, formulation.cost(counts))
    try:
        for wanted in range(1, kinds + 1):
            best = min(search.plans(wanted), default=None)
            if best is not None:
                _, _, chosen, fewer = best
                found = [0] * len(counts)
                for k, negative in zip(chosen, fewer, strict=True):
                    found[k] = -negative
                return tuple(found)
    except _TooManyError:
        return None
    return tuple(counts)


class _TooManyError(Exception):
    """More steps than ``MOST_STEPS``."""


# Instances, their latencies, columns, and counts (negative: more of the earlier one comes first), in order of
# preference.
_Plan = tuple[int, Fraction, tuple[int, ...], tuple[int, ...]]


@dataclass(slots=True)
class _Search:
    formulation: Formulation
    cost: int
    steps: int = 0
    ratios: list[list[float]] = field(init=False)
    """``ratios[w][k]``: the least price per capacity of workload w among columns k and after."""

    largest: tuple[int, ...] = field(init=False)
    """The largest capacity of one instance, by workload."""

    def __post_init__(self) -> None:
        f = self.formulation
        self.largest = tuple(map(max, zip(*f.capacities, strict=True)))
        self.ratios = []
        for w in range(len(f.workloads)):
            suffix = [float("inf")]
            for price, capacity in zip(reversed(f.prices), reversed(f.capacities), strict=True):
                own = price / capacity[w] if capacity[w] else float("inf")
                suffix.append(min(suffix[-1], own))
            self.ratios.append(suffix[::-1])

    def plans(self, kinds: int) -> Iterator[_Plan]:
        """Plans of exactly ``kinds`` kinds and exactly the cost, among them the preferred one."""
        f = self.formulation
        fewest: list[float] = [float("inf")]

        def descend(
            start: int,
            left: int,
            rest: tuple[int, ...],
            budget: int,
            chosen: tuple[int, ...],
            fewer: tuple[int, ...],
        ) -> Iterator[_Plan]:
            if left == 1:
                yield from self._last(start, rest, budget, chosen, fewer, fewest)
                return
            if not self._within_reach(left, rest):
                return
            for k in range(start, len(f.columns) - left + 1):
                count = 1
                while -sum(fewer) + count + left - 1 <= fewest[0] and self._allowed(k, count, chosen, fewer):
                    self._step(1)
                    after = budget - count * f.prices[k]
                    remaining = tuple(r - count * c for r, c in zip(rest, f.capacities[k], strict=True))
                    if after <= 0:
                        break
                    if self._least(k + 1, remaining) <= after:
                        yield from descend(k + 1, left - 1, remaining, after, (*chosen, k), (*fewer, -count))
                    count += 1

        yield from descend(0, kinds, f.needs, self.cost, (), ())

    def _last(
        self,
        start: int,
        rest: tuple[int, ...],
        budget: int,
        chosen: tuple[int, ...],
        fewer: tuple[int, ...],
        fewest: list[float],
    ) -> Iterator[_Plan]:
        """The last kind has to cost exactly the budget and to serve all that remains."""
        f = self.formulation
        self._step(len(f.columns) - start)
        for k in range(start, len(f.columns)):
            count, remainder = divmod(budget, f.prices[k])
            if remainder or not count or not self._allowed(k, count, chosen, fewer):
                continue
            if all(count * c >= r for c, r in zip(f.capacities[k], rest, strict=True)):
                instances = count - sum(fewer)
                fewest[0] = min(fewest[0], instances)
                plan = (*chosen, k), (*fewer, -count)
                latency = sum((f.latencies[i] * -n for i, n in zip(*plan, strict=True)), Fraction(0))
                yield instances, latency, *plan

    def _allowed(self, k: int, count: int, chosen: tuple[int, ...], fewer: tuple[int, ...]) -> bool:
        f = self.formulation
        if f.limit is None:
            return True
        offer_id = f.columns[k].offer.id
        used = sum(-n for i, n in zip(chosen, fewer, strict=True) if f.columns[i].offer.id == offer_id)
        return used + count <= f.limit

    def _within_reach(self, kinds: int, rest: tuple[int, ...]) -> bool:
        """Whether so many kinds, each at the limit, could serve ``rest``."""
        f = self.formulation
        if f.limit is None:
            return True
        return all(kinds * f.limit * most >= r for most, r in zip(self.largest, rest, strict=True))

    def _least(self, start: int, rest: tuple[int, ...]) -> float:
        """No plan of columns from ``start`` on serves ``rest`` for less."""
        return max((r * self.ratios[w][start] * (1 - 1e-9) for w, r in enumerate(rest) if r > 0), default=0.0)

    def _step(self, count: int) -> None:
        self.steps += count
        if self.steps > MOST_STEPS:
            raise _TooManyError
