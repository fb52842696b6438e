"""A problem in, a solution out: proven optimal, or the best found in time, or why there is none.

Plain problems take the short way (``formulation``, ``ties``), all others that of ``fleet``, ``rows`` and
``stages``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from time import perf_counter

from planner.domain.problem import ACCURACY, USD, Candidate, Problem, Solution
from planner.errors import InfeasibleError, PlannerError
from planner.optimize.conflicts import LimitsConflictError, NoFleetError, conflict, described
from planner.optimize.diagnosis import check_serveable
from planner.optimize.fleet import Fleet, fleet, fleet_columns
from planner.optimize.formulation import (
    Formulation,
    build,
    formulate,
    place,
    price_unit,
    read,
    reduced,
)
from planner.optimize.highs import highs_version, run_highs
from planner.optimize.keep import NoLongerError, present, saving
from planner.optimize.patterns import MayServe, TooManyWaysError, anywhere, columns
from planner.optimize.program import FEASIBLE, INFEASIBLE, OPTIMAL, UNKNOWN, Answer, Row, Solver
from planner.optimize.rows import n
from planner.optimize.stages import Reached, commitments, placements, solve_in_stages
from planner.optimize.supply import is_plain
from planner.optimize.ties import preferred

__all__ = ["FEASIBLE", "OPTIMAL", "UNKNOWN", "Answer", "Solver", "best_or_why", "run_highs", "solve"]

# A gap no wider than the solver's own tolerances counts as closed.
_CLOSED = Fraction(1, 10**6)
# How often the solver may answer with a plan that serves too little by less than its own tolerance.
_MOST_CUTS = 50
# What limits are in each other's way may be looked for at least so long.
_DIAGNOSIS_S = 10.0


def solve(
    problem: Problem,
    time_limit_s: float = 60.0,
    *,
    may_serve: MayServe = anywhere,
    solver: Solver = run_highs,
    break_ties: bool = True,
    diagnose: bool = True,
) -> Solution:
    """The best fleet, or the best found within the time limit (``proven`` tells).

    ``may_serve`` keeps candidates from offers. Among equally good fleets the choice is that of ``ties`` or
    ``stages``, or, without ``break_ties``, the solver's. The present plan (``Problem.keep``) stays unless
    that saves more than asked for.
    Raises InfeasibleError naming what blocks every plan, or where the time is over before any was found:
    LimitsConflictError where limits do, with the least changes that would give a plan (NoFleetError without,
    where there is nothing to ``diagnose``); CatalogError for a price that is none; InputError where workloads
    share instances in too many ways for these limits (see ``large``, which takes the plain ones, at a gap
    that it tells).
    """
    start = perf_counter()
    way = _plain if is_plain(problem) else _in_full
    try:
        best = way(problem, start + time_limit_s, may_serve, solver, break_ties)
        if not best.proven:
            best = replace(best, notes=(*best.notes, _out_of_time(time_limit_s)))
    except TooManyWaysError:
        # Imported here: it is built on the other modules of this package.
        from planner.optimize.large import solve_large, unsupported

        if problem.keep is not None or unsupported(problem) is not None:
            raise
        best = solve_large(problem, time_limit_s, may_serve=may_serve)
    except NoFleetError:
        if not diagnose:
            raise
        deadline = max(start + time_limit_s, perf_counter() + _DIAGNOSIS_S)
        raise LimitsConflictError(conflict(problem, deadline, solver, may_serve)) from None
    if problem.keep is not None:
        best = _kept(problem, best, time_limit_s, solver)
    return replace(best, solve_seconds=perf_counter() - start)


def best_or_why(problem: Problem, time_limit_s: float, *, solver: Solver = run_highs) -> Solution | str:
    """The best plan, whichever of equally good ones, or what blocks it, without what would help."""
    try:
        return solve(problem, time_limit_s, solver=solver, break_ties=False, diagnose=False)
    except NoFleetError:
        deadline = perf_counter() + min(_DIAGNOSIS_S, time_limit_s)
        return described(conflict(problem, deadline, solver, anywhere, relax=False))
    except InfeasibleError as error:
        return str(error)


def best_with(
    problem: Problem,
    candidates: Collection[Candidate],
    time_limit_s: float,
    *,
    solver: Solver = run_highs,
) -> Solution | None:
    """The best plan in which some instance runs one of these ``candidates``, which are of one workload.

    Such an instance serves the workload by nothing else, unless it would anyhow. Ties are not broken. None
    where there is no such plan, or none was found in time.
    """
    start = perf_counter()
    posed = replace(problem, keep=None)
    workload = next(iter(candidates)).workload
    kept = tuple(c for c in posed.candidates if c.workload != workload or c in candidates)
    # What others beat is dropped from the columns of all, but not from its own.
    listed = (*fleet_columns(posed), *fleet_columns(replace(posed, candidates=kept)))
    f = fleet(posed, tuple({(c.id, c.zone): c for c in listed}.values()))
    ids = {c.id for c in candidates}
    mine = [k for k, c in enumerate(f.columns) if any(i in ids for i, _ in c.packing.replicas)]
    used = Row("used", tuple((n(t, k), 1.0) for t in f.periods for k in mine), 1.0, None)
    try:
        best = _of_fleet(f, start + time_limit_s, solver, False, [used])
    except InfeasibleError:
        return None
    return replace(best, solve_seconds=perf_counter() - start)


def _plain(
    problem: Problem,
    deadline: float,
    may_serve: MayServe,
    solver: Solver,
    break_ties: bool,
) -> Solution:
    listed = columns(problem, may_serve)
    check_serveable(problem, listed)
    formulation = reduced(formulate(problem, listed))
    counts, answer = _solve_exactly(formulation, deadline, solver)
    notes: list[str] = []
    if answer.status == OPTIMAL and break_ties:
        counts, note = _untied(formulation, counts)
        notes += note
    found, cost = place(problem, formulation, counts)
    bound = _bound(formulation, answer, cost)
    proven = answer.status == OPTIMAL and bound == cost
    return Solution(
        placements=found,
        usd_per_hour=float(cost),
        bound_usd_per_hour=float(bound),
        gap=float((cost - bound) / cost),
        proven=proven,
        solve_seconds=0.0,
        solver=highs_version(),
        notes=tuple(notes),
        commitments=commitments(problem, found),
    )


def _in_full(
    problem: Problem,
    deadline: float,
    may_serve: MayServe,
    solver: Solver,
    break_ties: bool,
) -> Solution:
    listed = fleet_columns(problem, may_serve)
    check_serveable(problem, listed)
    return _of_fleet(fleet(problem, listed), deadline, solver, break_ties)


def _of_some_ways(f: Fleet) -> Iterator[str]:
    offers = {column.offer.id for column in f.columns if column.packing.of_some}
    if offers:
        yield (
            f"{len(offers)} offers have room for too many replicas to weigh every way to share an instance "
            "among classes of requests: some ways were, and the proof is about these."
        )


def _of_fleet(
    f: Fleet, deadline: float, solver: Solver, break_ties: bool, extra: Sequence[Row] = ()
) -> Solution:
    problem = f.problem
    reached = solve_in_stages(f, deadline, solver, break_ties, extra)
    if reached is None:
        raise NoFleetError
    amount, bound, cost = reached.amount, reached.bound, reached.cost
    bound = max(bound, amount) if problem.objective == ACCURACY else min(max(bound, Fraction(0)), amount)
    closed = abs(amount - bound) <= _CLOSED * abs(amount)
    cost_bound = min(max(reached.cost_bound, Fraction(0)), cost)
    if cost - cost_bound <= _CLOSED * cost:
        cost_bound = cost
    proven = reached.proven and closed
    other = problem.objective != USD
    placed = placements(f, reached.counts, reached.flows)
    bound = amount if closed else bound
    return Solution(
        placements=placed,
        usd_per_hour=float(cost),
        bound_usd_per_hour=float(cost_bound),
        gap=float(abs(amount - bound) / abs(amount)) if amount else 0.0,
        proven=proven,
        solve_seconds=0.0,
        solver=highs_version(),
        notes=(*reached.notes, *_of_some_ways(f)),
        commitments=commitments(problem, placed),
        objective=problem.objective,
        amount=float(amount) if other else None,
        amount_bound=float(bound) if other else None,
    )


def _kept(problem: Problem, best: Solution, time_limit_s: float, solver: Solver) -> Solution:
    """The present plan, if it still holds and the best one is not better by more than asked for."""
    assert problem.keep is not None
    now_problem = replace(problem, keep=None)
    try:
        f, now = present(now_problem, problem.keep.placements, time_limit_s, solver)
    except NoLongerError as error:
        return replace(best, notes=(*best.notes, f"the present plan does not hold any more: {error}"))
    amount = Fraction(best.usd_per_hour if best.amount is None else best.amount)
    better = saving(problem, now.amount, amount)
    # Rounding is no saving.
    if better > Fraction(repr(problem.keep.least_saving)) + _CLOSED:
        return best
    return _as_kept(best, f, now, better)


def _as_kept(best: Solution, f: Fleet, now: Reached, better: Fraction) -> Solution:
    bound = best.bound_usd_per_hour if best.amount_bound is None else best.amount_bound
    gap = abs(now.amount - Fraction(bound)) / abs(now.amount) if now.amount else Fraction(0)
    placed = placements(f, now.counts, now.flows)
    note = f"the present plan is kept: the best one found is better by {max(float(better), 0.0):.2%}"
    return replace(
        best,
        placements=placed,
        usd_per_hour=float(now.cost),
        bound_usd_per_hour=min(best.bound_usd_per_hour, float(now.cost)),
        gap=float(gap) if gap > _CLOSED else 0.0,
        notes=(*best.notes, note),
        commitments=commitments(f.problem, placed),
        amount=None if best.amount is None else float(now.amount),
        kept=True,
    )


def _out_of_time(time_limit_s: float) -> str:
    return f"the time limit of {time_limit_s:g} s was over before the gap was closed; allow more time"


def _solve_exactly(
    formulation: Formulation, deadline: float, solver: Solver
) -> tuple[tuple[int, ...], Answer]:
    """Counts that serve the demand in integers, not merely within the solver's tolerance."""
    too_little: list[tuple[int, ...]] = []
    while len(too_little) <= _MOST_CUTS:
        answer = solver(build(formulation, too_little), max(deadline - perf_counter(), 0.01))
        if answer.status == INFEASIBLE:
            raise NoFleetError
        if not answer.values:
            raise InfeasibleError("no plan was found within the time limit; allow more time")
        counts = read(formulation, answer.values)
        if formulation.serves(counts):
            return counts, answer
        too_little.append(counts)
    raise PlannerError(
        f"the solver answered {_MOST_CUTS} times with slightly too little capacity; "
        "leave out offers whose capacity is a tiny fraction of the demand"
    )


def _untied(formulation: Formulation, counts: Sequence[int]) -> tuple[tuple[int, ...], list[str]]:
    best = preferred(formulation, counts)
    if best is None:
        return tuple(counts), ["too many fleets to tell which of the equally cheap ones has the fewest kinds"]
    return best, []


def _bound(formulation: Formulation, answer: Answer, cost: Fraction) -> Fraction:
    """The solver's bound in USD per hour, from 0 to the cost; the cost where only rounding parts them."""
    # Before the root relaxation is solved the bound is minus infinity.
    known = max(answer.bound, 0.0) if math.isfinite(answer.bound) else 0.0
    bound = min(Fraction(known) * price_unit(formulation) * formulation.usd, cost)
    return cost if cost - bound <= _CLOSED * cost else bound
