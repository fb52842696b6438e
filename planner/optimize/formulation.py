"""The integer program, in plain numbers: built, reduced and read here, solved in ``solve``.

Notation::

    w        a workload, asked for at rate_w                                    (Demand)
    o        an offer at price_o; one instance runs one of its patterns         (Offer)
    p        a pattern of o: it takes cap_wp of workload w                      (patterns.Column)
    n_op     instances of offer o that run pattern p, integer >= 0
    f_wo     rate of workload w that goes to the instances of offer o, >= 0

Program::

    minimise    sum_o price_o sum_p n_op

    subject to  serve[w]:       sum_o f_wo = rate_w                        for every w
                capacity[w,o]:  f_wo <= sum_p cap_wp n_op                  for every w, o
                limit[o]:       sum_p n_op <= L                            for every o, where L is given

The flows cost nothing and each appears in two rows only, so they are projected out before solving
(Fourier-Motzkin): flows with ``serve`` and ``capacity`` exist exactly where

                serve[w]:       sum_o sum_p cap_wp n_op >= rate_w          for every w

which is what is built. It has the same optimum and the same relaxation, and is 10 to 20 times faster to
branch on. The flows are put back when the answer is read: every replica of a workload runs at the same
utilisation, so each takes a share of the rate in proportion to its capacity.

*Exact numbers.* Prices are decimals and rates floats, so all of them are integers in a small enough unit;
``Formulation`` holds those. What the solver gets is scaled to about 1 (rows divided by the largest
coefficient, capacities cut at the rate), and what it answers is checked against the integers. A demand
counts as served from ``1 - SHORTFALL`` of it up: that is rounding, not rate. The solver's own tolerance is
coarser; where it answers with too little, ``build`` cuts that answer off and it is asked again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from operator import ge

from planner.domain.problem import Candidate, Placement, Problem
from planner.errors import PlannerError
from planner.optimize.patterns import Column, mean_latencies, replica_rate_rps
from planner.optimize.program import Program, Row, Variable

SHORTFALL = Fraction(1, 10**9)
# Half of it goes to the solver; the rest is for the rounding in the sums of a pattern's capacities.
_BUILT_SHORTFALL = SHORTFALL / 2


@dataclass(frozen=True, slots=True)
class Formulation:
    """Integers: ``prices[k]`` in ``usd``, ``capacities[k][w]`` and ``needs[w]`` in one unit per workload.

    ``latencies[k]``: see ``patterns.mean_latencies``.
    Capacities are cut at the need, which loses nothing: one instance that serves a workload whole is enough.
    """

    workloads: tuple[str, ...]
    columns: tuple[Column, ...]
    prices: tuple[int, ...]
    capacities: tuple[tuple[int, ...], ...]
    needs: tuple[int, ...]
    limit: int | None
    usd: Fraction
    latencies: tuple[Fraction, ...]

    def cost(self, counts: Sequence[int]) -> int:
        return sum(price * count for price, count in zip(self.prices, counts, strict=True))

    def serves(self, counts: Sequence[int]) -> bool:
        return all(
            sum(capacity[w] * count for capacity, count in zip(self.capacities, counts, strict=True)) >= need
            for w, need in enumerate(self.needs)
        )

    def within_limit(self, counts: Sequence[int]) -> bool:
        if self.limit is None:
            return True
        used: dict[str, int] = defaultdict(int)
        for column, count in zip(self.columns, counts, strict=True):
            used[column.offer.id] += count
        return max(used.values(), default=0) <= self.limit


def formulate(problem: Problem, columns: Sequence[Column]) -> Formulation:
    """The problem in integers. Columns without any use are left out."""
    workloads = tuple(sorted(demand.workload for demand in problem.demands))
    rate_of = {demand.workload: Fraction(demand.rate_rps) for demand in problem.demands}
    needs = [rate_of[w] * (1 - _BUILT_SHORTFALL) for w in workloads]
    rates = [[Fraction(rate) for rate in column.packing.rates_rps] for column in columns]
    scales = [
        math.lcm(need.denominator, *(row[w].denominator for row in rates)) for w, need in enumerate(needs)
    ]
    integer_needs = tuple(int(need * scale) for need, scale in zip(needs, scales, strict=True))
    capacities = tuple(
        tuple(
            min(int(rate * scale), need) for rate, scale, need in zip(row, scales, integer_needs, strict=True)
        )
        for row in rates
    )
    # repr gives the shortest decimal that is this float: the price as the catalog wrote it.
    decimals = [Fraction(repr(column.offer.usd_per_hour)) for column in columns]
    usd = Fraction(
        math.gcd(*(price.numerator for price in decimals)),
        math.lcm(*(price.denominator for price in decimals)),
    )
    prices = tuple(int(price / usd) for price in decimals)
    return Formulation(
        workloads=workloads,
        columns=tuple(columns),
        prices=prices,
        capacities=capacities,
        needs=integer_needs,
        limit=problem.max_instances_per_offer,
        usd=usd,
        latencies=tuple(mean_latencies(columns, {c.id: c for c in problem.candidates})),
    )


def reduced(formulation: Formulation) -> Formulation:
    """Without the columns that no cheapest plan needs.

    Column j is beaten by column i where i costs no more and takes no less of every workload. Move one
    instance from j to i: the plan costs no more and serves no less, and for one workload it has no more
    kinds. That can go on until j is unused, or the offers of all that beat it are full. Full, they cost
    L times their price; where that and one j exceed the cost of *some* plan, no cheapest plan uses j.
    Without a limit, or within one offer, nothing fills up, so j goes at once.
    """
    f = formulation
    ceiling = _some_cost(f)
    order = sorted(
        range(len(f.columns)),
        key=lambda k: (f.prices[k], [-c for c in f.capacities[k]], f.latencies[k], k),
    )
    kept: list[int] = []
    for j in order:
        if not _beaten(f, j, kept, ceiling):
            kept.append(j)
    return only(f, sorted(kept))


def only(formulation: Formulation, kept: Sequence[int]) -> Formulation:
    """The formulation restricted to some of its columns."""
    return replace(
        formulation,
        columns=tuple(formulation.columns[k] for k in kept),
        prices=tuple(formulation.prices[k] for k in kept),
        capacities=tuple(formulation.capacities[k] for k in kept),
        latencies=tuple(formulation.latencies[k] for k in kept),
    )


def build(formulation: Formulation, too_little: Iterable[Sequence[int]] = ()) -> Program:
    """The program. ``too_little`` are counts that the solver took for enough within its tolerance.

    Each of them is cut off by ``cut[i]``: capacity only grows with counts, so any plan that serves holds
    more than they do of at least one column.
    """
    f = formulation
    names = [_name(k) for k in range(len(f.columns))]
    variables = [Variable(name, integer=True) for name in names]
    rows = [_serve(f, w, names) for w in range(len(f.workloads))] + _limits(f, names)
    for i, counts in enumerate(too_little):
        more = [f"more[{i},{k}]" for k in range(len(names))]
        variables += [Variable(name, integer=True, upper=1) for name in more]
        rows.append(Row(f"cut[{i}]", tuple((name, 1.0) for name in more), 1, None))
        rows += [
            Row(f"more[{i},{k}]", ((names[k], 1.0), (more[k], -float(count + 1))), 0, None)
            for k, count in enumerate(counts)
        ]
    unit = price_unit(f)
    objective = tuple((name, price / unit) for name, price in zip(names, f.prices, strict=True))
    return Program(tuple(variables), objective, tuple(rows))


def price_unit(formulation: Formulation) -> int:
    """What one unit of the program's objective stands for, in the formulation's prices.

    1 where the prices are small integers: the solver then sees that costs differ by whole numbers.
    """
    return 1 if max(formulation.prices) <= 10**7 else max(1, max(formulation.prices) // 10**6)


def read(formulation: Formulation, values: dict[str, float]) -> tuple[int, ...]:
    """The counts in the solver's answer, rounded to the integers that they stand for."""
    return tuple(round(values[_name(k)]) for k in range(len(formulation.columns)))


def place(
    problem: Problem, formulation: Formulation, counts: Sequence[int]
) -> tuple[tuple[Placement, ...], Fraction]:
    """The placements, by id, with balanced flows, and the cost in USD per hour; checked from scratch.

    Raises PlannerError where they do not serve the demand or break the limit: an error in the planner.
    """
    used = [(column, count) for column, count in zip(formulation.columns, counts, strict=True) if count]
    candidate_of = {candidate.id: candidate for candidate in problem.candidates}
    total: dict[str, Fraction] = defaultdict(Fraction)
    for column, count in used:
        for workload, rate in _rates(column, candidate_of):
            total[workload] += rate * count
    rate_of = {demand.workload: Fraction(demand.rate_rps) for demand in problem.demands}
    for workload, rate in rate_of.items():
        if total[workload] < rate * (1 - SHORTFALL):
            raise PlannerError(
                f"the plan serves {float(total[workload]):g} rps of {workload}, not {float(rate):g}"
            )
    if min(counts, default=0) < 0 or not formulation.within_limit(counts):
        raise PlannerError(
            "the plan holds more instances of an offer than its limit allows, or fewer than none"
        )
    placements: list[Placement] = []
    period = problem.periods[0].name if problem.periods else ""
    for column, count in sorted(used, key=lambda pair: pair[0].id):
        flows = tuple(
            (candidate_id, float(rate * count * rate_of[workload] / total[workload]))
            for (candidate_id, _), (workload, rate) in zip(
                column.packing.replicas, _rates(column, candidate_of), strict=True
            )
        )
        price = Fraction(repr(column.offer.usd_per_hour)) * count
        placements.append(Placement(column.pattern, count, flows, float(price), period))
    cost = sum((Fraction(repr(column.offer.usd_per_hour)) * count for column, count in used), Fraction(0))
    return tuple(placements), cost


def _name(k: int) -> str:
    return f"n[{k}]"


def _serve(f: Formulation, w: int, names: Sequence[str]) -> Row:
    unit = max(capacity[w] for capacity in f.capacities) or 1
    terms = tuple(
        (name, capacity[w] / unit) for name, capacity in zip(names, f.capacities, strict=True) if capacity[w]
    )
    return Row(f"serve[{f.workloads[w]}]", terms, f.needs[w] / unit, None)


def _limits(f: Formulation, names: Sequence[str]) -> list[Row]:
    if f.limit is None:
        return []
    return [
        Row(f"limit[{offer_id}]", tuple((names[k], 1.0) for k in members), None, f.limit)
        for offer_id, members in _columns_of_offers(f).items()
    ]


def _columns_of_offers(f: Formulation) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for k, column in enumerate(f.columns):
        members[column.offer.id].append(k)
    return members


def _rates(column: Column, candidate_of: dict[str, Candidate]) -> list[tuple[str, Fraction]]:
    """Of each of the pattern's candidates: its workload, and the rate its replicas on one instance take."""
    pattern = column.pattern
    return [
        (candidate_of[i].workload, Fraction(replica_rate_rps(candidate_of[i], pattern)) * count)
        for i, count in pattern.replicas
    ]


def _beaten(f: Formulation, j: int, kept: Sequence[int], ceiling: int | None) -> bool:
    """Whether column j can be left out, given ``kept`` columns that cost no more."""
    offer_id, price, capacity = f.columns[j].offer.id, f.prices[j], f.capacities[j]
    if ceiling is not None and price > ceiling:
        return True
    full: dict[str, int] = {}
    for i in kept:
        if all(map(ge, f.capacities[i], capacity)):
            other = f.columns[i].offer.id
            if f.limit is None or other == offer_id:
                return True
            full[other] = f.limit * f.prices[i]
            if ceiling is not None and price + sum(full.values()) > ceiling:
                return True
    return False


def _some_cost(f: Formulation) -> int | None:
    """The cost of a plan found greedily, or None where greed finds none within the limit."""
    remaining = list(f.needs)
    free = {column.offer.id: f.limit for column in f.columns}
    cost = 0
    while any(rest > 0 for rest in remaining):
        best: tuple[float, int] | None = None
        for k, column in enumerate(f.columns):
            use = sum(
                min(capacity, rest) / need
                for capacity, rest, need in zip(f.capacities[k], remaining, f.needs, strict=True)
                if rest > 0
            )
            if use > 0 and free[column.offer.id] != 0 and (best is None or use / f.prices[k] > best[0]):
                best = (use / f.prices[k], k)
        if best is None:
            return None
        k = best[1]
        offer_id = f.columns[k].offer.id
        whole = [rest // c for c, rest in zip(f.capacities[k], remaining, strict=True) if c and rest > 0]
        count = max(1, min(whole))
        room = free[offer_id]
        if room is not None:
            count = min(count, room)
            free[offer_id] = room - count
        cost += count * f.prices[k]
        remaining = [rest - count * c for c, rest in zip(f.capacities[k], remaining, strict=True)]
    return cost
