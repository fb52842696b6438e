"""The least change of one limit, all else as it is, with which a problem has a plan.

Exact for the budget, quotas, instances per offer, kinds, zones and redundancy. The share of spot is found to
a point, a rate to 1/1000 of what is asked for, a mean quality to 1/1000 of what candidates leave open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from time import perf_counter

from planner.domain.problem import ANY_INSTANCE, ANY_ZONE, NO_LOSS, USD, Problem
from planner.optimize import limits
from planner.optimize.fleet import Counts, Fleet, fleet, fleet_columns
from planner.optimize.limits import Limit, demand_of, quota_of, scaled, with_demand, with_quota, without
from planner.optimize.patterns import MayServe
from planner.optimize.program import INFEASIBLE, Row, Solver
from planner.optimize.rows import Objective, build, held, kind_variable, objective
from planner.optimize.stages import read

_STEPS = 1000
_PLENTY = 10**6


class OutOfTimeError(Exception):
    """The solver did not tell in time."""


Change = tuple[str, Problem]
"""What a limit becomes, in words, and the problem with that."""


@dataclass(frozen=True, slots=True)
class Relaxing:
    """``problem`` has no plan, though each of its workloads can be served by something.

    Its methods raise OutOfTimeError where ``deadline`` (by ``perf_counter``) passes before they know.
    """

    problem: Problem
    deadline: float
    solver: Solver
    may_serve: MayServe

    def has_plan(self, problem: Problem) -> bool:
        nothing: Objective = ((), Fraction(1))
        return self._counts(self._fleet(problem), nothing) is not None

    def cost(self, problem: Problem) -> Fraction | None:
        """Of the cheapest plan, or of the best one found in time; None where there is none."""
        f = self._fleet(problem)
        counts = self._counts(f, objective(f, USD))
        return None if counts is None else f.cost(counts)

    def least(self, limit: Limit) -> Change | None:
        """None where no value of this limit helps."""
        p = self.problem
        if limit.kind == limits.BUDGET:
            cost = self.cost(without(p, limit))
            if cost is None:
                return None
            enough = _rounded_up(float(cost))
            return f"{limits.BUDGET} {enough:g}", replace(p, budget_usd_per_hour=enough)
        if limit.kind in (limits.QUOTA, limits.PER_OFFER, limits.KINDS):
            return self._fewest(limit)
        if limit.kind == limits.ZONES:
            fewer = range(p.min_zones - 1, -1, -1)
            return self._first((f"min_zones {z}", replace(p, min_zones=z)) for z in fewer)
        who, demand = f"workload {limit.subject}", demand_of(p, limit)
        if limit.kind == limits.REDUNDANCY:
            weaker = (ANY_INSTANCE, NO_LOSS) if demand.redundancy == ANY_ZONE else (NO_LOSS,)
            return self._first(
                (f"{who}: redundancy {kind}", with_demand(p, limit.subject, redundancy=kind))
                for kind in weaker
            )
        if limit.kind == limits.SPOT:
            points = math.floor(demand.max_spot_share * 100)

            def spot(more: int) -> Change:
                share = (points + more) / 100
                changed = with_demand(p, limit.subject, max_spot_share=share)
                return f"{who}: max_spot_share {share:g}", changed

            return self._nearest(spot, 100 - points)
        if limit.kind == limits.QUALITY:
            return self._nearest(self._lower_quality(limit), _STEPS)
        return self._nearest(self._lower_rate(limit), _STEPS - 1)

    def _lower_rate(self, limit: Limit) -> Callable[[int], Change]:
        rate = demand_of(self.problem, limit).rate_rps

        def lower(steps: int) -> Change:
            factor = 1 - steps / _STEPS
            changed = scaled(self.problem, limit.subject, factor)
            return f"workload {limit.subject}: {_rounded_down(rate * factor):g} rps", changed

        return lower

    def _lower_quality(self, limit: Limit) -> Callable[[int], Change]:
        p, asked = self.problem, demand_of(self.problem, limit).min_mean_quality
        known = [c.quality for c in p.candidates if c.workload == limit.subject and c.quality is not None]
        assert asked is not None
        worst = min(known, default=asked)

        def lower(steps: int) -> Change:
            floor = asked - (asked - worst) * steps / _STEPS
            changed = with_demand(p, limit.subject, min_mean_quality=floor)
            return f"workload {limit.subject}: min_mean_quality {_rounded_down(floor):g}", changed

        return lower

    def _nearest(self, change: Callable[[int], Change], most: int) -> Change | None:
        """By the fewest of 1 to ``most`` steps; more of them leave no less plans."""
        if most < 1 or not self.has_plan(change(most)[1]):
            return None
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            if self.has_plan(change(middle)[1]):
                high = middle
            else:
                low = middle
        return change(high)

    def _first(self, changes: Iterable[Change]) -> Change | None:
        return next((change for change in changes if self.has_plan(change[1])), None)

    def _fewest(self, limit: Limit) -> Change | None:
        """The least that any plan takes of what is limited is the least limit."""
        p = self.problem
        if limit.kind == limits.KINDS:
            return self._fewest_kinds()
        # Not without it: what takes less of it must not be dropped for what is cheaper.
        plenty = replace(p, max_instances_per_offer=_PLENTY)
        if limit.kind == limits.QUOTA:
            plenty = with_quota(p, limit.subject, _PLENTY)
        f = self._fleet(plenty)
        sizes = self._sizes(f, limit)
        rows = []
        for t in f.periods:
            terms = [(size, held(f, t)[offer_id]) for offer_id, size in sizes]
            each = [[(name, float(c * size)) for name, c in mine] for size, mine in terms]
            together = each if limit.kind == limits.PER_OFFER else [[term for mine in each for term in mine]]
            rows += [
                Row(f"most[{t},{i}]", (*mine, ("most", -1.0)), None, 0.0) for i, mine in enumerate(together)
            ]
        found = self._counts(f, ((("most", 1.0),), Fraction(1)), rows)
        if found is None:
            return None
        taken = _taken(f, found, dict(sizes))
        if limit.kind == limits.PER_OFFER:
            most = int(max(n for row in taken for n in row.values()))
            return f"max_instances_per_offer {most}", replace(p, max_instances_per_offer=most)
        quota = quota_of(p, limit)
        least = float(max(sum(row.values()) for row in taken))
        return f"quota {quota.name}: at most {least:g} {quota.unit}", with_quota(p, quota.name, least)

    def _fewest_kinds(self) -> Change | None:
        p = self.problem
        f = self._fleet(replace(p, max_kinds=len(p.offers)))
        types = sorted({kind_variable(column.offer) for column in f.columns})
        found = self._counts(f, (tuple((name, 1.0) for name in types), Fraction(1)))
        if found is None:
            return None
        kinds = len({kind_variable(f.columns[k].offer) for row in found for k, n in enumerate(row) if n})
        return f"max_kinds {kinds}", replace(p, max_kinds=kinds)

    def _sizes(self, f: Fleet, limit: Limit) -> list[tuple[str, Fraction]]:
        """What one instance of each offer counts, by its id."""
        offers = {column.offer.id: column.offer for column in f.columns}
        if limit.kind == limits.PER_OFFER:
            return [(i, Fraction(1)) for i in offers]
        quota = quota_of(self.problem, limit)
        return [(i, Fraction(quota.counts(offer))) for i, offer in offers.items() if quota.selects(offer)]

    def _fleet(self, problem: Problem) -> Fleet:
        return fleet(problem, fleet_columns(problem, self.may_serve))

    def _counts(self, f: Fleet, what: Objective, rows: Iterable[Row] = ()) -> Counts | None:
        left = self.deadline - perf_counter()
        if left <= 0:
            raise OutOfTimeError
        answer = self.solver(build(f, what, tuple(rows)), left)
        if answer.values:
            return read(f, answer.values)
        if answer.status == INFEASIBLE:
            return None
        raise OutOfTimeError


def _taken(f: Fleet, counts: Counts, sizes: dict[str, Fraction]) -> list[dict[str, Fraction]]:
    """By period and offer, what its instances count."""
    bought = f.bought(counts)
    return [
        {i: size * bought.get(i, f.running(i, counts[t])) for i, size in sizes.items()} for t in f.periods
    ]


def _rounded_up(value: float) -> float:
    """To four digits, so that a budget of it is enough."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return float(f"{math.ceil(value / unit - 1e-6) * unit:.10g}")


def _rounded_down(value: float) -> float:
    if not value:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return float(f"{math.floor(value / unit + 1e-6) * unit:.10g}")
