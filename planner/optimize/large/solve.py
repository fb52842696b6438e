"""A large problem in, a solution out, with a bound that holds for every fleet."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from importlib.metadata import version
from time import perf_counter

from planner.domain.offer import SPOT
from planner.domain.problem import NO_LOSS, USD, Problem, Solution
from planner.errors import InfeasibleError
from planner.optimize.diagnosis import check_serveable
from planner.optimize.large.bound import relax
from planner.optimize.large.dive import dive, enrich
from planner.optimize.large.improve import Improver
from planner.optimize.large.market import Market, market
from planner.optimize.large.place import place
from planner.optimize.large.purchase import Buyer, Purchase
from planner.optimize.patterns import MayServe, anywhere

# The master program is solved until it is so close to its bound.
_RELAXED = 3e-5
# No better fleet is looked for once the gap is that small.
_ENOUGH = 8e-4
_CLOSED = Fraction(1, 10**6)


def unsupported(problem: Problem) -> str | None:
    """What of the problem this method does not do, or None: rates, prices, quotas, availability and limits
    only."""
    spot = any(offer.purchase == SPOT for offer in problem.offers)
    asked = {
        "several periods": len(problem.periods) > 1,
        "a budget": problem.budget_usd_per_hour is not None,
        "max_kinds": problem.max_kinds is not None,
        "min_zones": problem.min_zones > 0,
        f"objective {problem.objective}": problem.objective != USD,
        "classes of requests": any(d.classes for d in problem.demands)
        or any(c.classes for c in problem.candidates),
        "min_mean_quality": any(d.min_mean_quality is not None for d in problem.demands),
        "max_spot_share": spot and any(d.max_spot_share < 1 for d in problem.demands),
        "redundancy": any(d.redundancy != NO_LOSS for d in problem.demands),
        "GPUs divided by MIG": any(c.slices is not None for c in problem.candidates),
    }
    return next((what for what, is_asked in asked.items() if is_asked), None)


def solve_large(problem: Problem, time_limit_s: float = 60.0, *, may_serve: MayServe = anywhere) -> Solution:
    """A fleet close to the cheapest, and how close: ``proven`` only where the bound is reached.

    The program is decomposed by workloads and by instances (``master``), its relaxation solved by column
    generation (``bound``), one cover for each workload found by diving (``dive``), what these need is bought
    and packed (``purchase``), and all of it bettered (``improve``), where workloads are few in one program
    (``direct``) that may close the gap. The same problem gives the same fleet, unless time runs out.
    Raises InfeasibleError where quotas and limits leave no fleet, where none was found, or where a workload
    cannot be served at all; InfeasibleError too for what is not supported (``unsupported`` tells before).
    """
    start = perf_counter()
    deadline = start + time_limit_s
    refused = unsupported(problem)
    if refused is not None:
        raise InfeasibleError(f"{refused}: not possible with so many workloads; plan fewer of them at once")
    m = market(problem, may_serve)
    for w, workload in enumerate(m.workloads):
        if not m.rates[w].any():
            demand = next(d for d in problem.demands if d.workload == workload)
            check_serveable(replace(problem, demands=(demand,)), ())
    found, bound = _fleet(m, start, deadline)
    placements, commitments, cost = place(m, found)
    known = min(Fraction(max(bound, 0.0)), cost)
    if cost - known <= _CLOSED * cost:
        known = cost
    gap = float((cost - known) / cost)
    notes = (
        ()
        if known == cost
        else (f"the cheapest fleet may cost up to {gap:.2%} less; no fleet costs less than that",)
    )
    return Solution(
        placements=placements,
        usd_per_hour=float(cost),
        bound_usd_per_hour=float(known),
        gap=gap,
        proven=known == cost,
        solve_seconds=perf_counter() - start,
        solver=f"HiGHS {version('highspy')}, column generation",
        notes=notes,
        commitments=commitments,
    )


def _fleet(m: Market, start: float, deadline: float) -> tuple[Purchase, float]:
    relaxed = relax(m, _RELAXED, start + 0.5 * (deadline - start))
    master = relaxed.master
    _, duals = master.solve()
    enrich(m, master, duals)
    covers = dive(m, master, duals.goods, start + 0.8 * (deadline - start))
    buyer = Buyer(m, master.columns)
    bought = buyer.buy(covers, deadline)
    if bought is None:
        raise InfeasibleError(
            "no fleet of whole instances was found within the quotas and limits; raise them or the time limit"
        )
    improver = Improver(m, relaxed, buyer)
    (bought, _), bound = improver.improve((bought, covers), relaxed.bound / (1 - _ENOUGH), deadline)
    return bought, bound
