"""Solves a problem to proven optimality with HiGHS. The only importer of pulp."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from time import perf_counter

import pulp

from planner.domain.problem import Problem, Solution
from planner.errors import InfeasibleError, PlannerError
from planner.optimize.diagnosis import beyond_limit_together, check_limit, check_serveable
from planner.optimize.formulation import (
    Formulation,
    Program,
    build,
    build_least_limit,
    formulate,
    place,
    price_unit,
    read,
    reduced,
)
from planner.optimize.patterns import MayServe, anywhere, columns
from planner.optimize.ties import preferred

OPTIMAL, FEASIBLE, INFEASIBLE, UNKNOWN = "optimal", "feasible", "infeasible", "unknown"

# A gap no wider than the solver's own tolerances counts as closed.
_CLOSED = Fraction(1, 10**6)
# How often the solver may answer with a plan that serves too little by less than its own tolerance.
_MOST_CUTS = 50


@dataclass(frozen=True, slots=True)
class Answer:
    """What a solver says: ``values`` by variable (none without a plan), ``bound`` on the objective."""

    status: str
    values: dict[str, float]
    bound: float


Solver = Callable[[Program, float], Answer]


def run_highs(program: Program, time_limit_s: float) -> Answer:
    """Minimise with HiGHS, on one thread and with its fixed seed: the same program gives the same answer.

    ``sol_status`` is what tells an optimum from an incumbent: ``status`` is Optimal for both. The bound is
    ``mip_dual_bound`` of HiGHS's info (https://ergo-code.github.io/HiGHS/stable/structures/structs/HighsInfo/).
    """
    # PuLP folds punctuation in names to "_", so that two of ours could collide: it gets numbers.
    problem = pulp.LpProblem("fleet", pulp.LpMinimize)
    variables = {
        variable.name: problem.add_variable(
            f"x{i}", 0, variable.upper, pulp.LpInteger if variable.integer else pulp.LpContinuous
        )
        for i, variable in enumerate(program.variables)
    }
    problem += pulp.LpAffineExpression([(variables[name], c) for name, c in program.objective])
    for i, row in enumerate(program.rows):
        total = pulp.LpAffineExpression([(variables[name], c) for name, c in row.terms])
        if row.low is not None:
            problem += total >= row.low, f"low{i}"
        if row.high is not None:
            problem += total <= row.high, f"high{i}"
    with _interrupts_kept():
        problem.solve(pulp.HiGHS(msg=False, timeLimit=time_limit_s, gapRel=0, threads=1))
    status = {
        pulp.LpSolutionOptimal: OPTIMAL,
        pulp.LpSolutionIntegerFeasible: FEASIBLE,
        pulp.LpSolutionInfeasible: INFEASIBLE,
    }.get(problem.sol_status, UNKNOWN)
    bound = float(problem.solverModel.getInfo().mip_dual_bound)
    if status not in (OPTIMAL, FEASIBLE):
        return Answer(status, {}, bound)
    return Answer(status, {name: variable.value() for name, variable in variables.items()}, bound)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """An interrupt while the solver runs is raised after it: inside its callbacks it would be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def solve(
    problem: Problem,
    time_limit_s: float = 60.0,
    *,
    may_serve: MayServe = anywhere,
    solver: Solver = run_highs,
    break_ties: bool = True,
) -> Solution:
    """The cheapest fleet, or the best found within the time limit (``proven`` tells).

    ``may_serve`` keeps candidates from offers. Among equally cheap fleets the choice is that of ``ties``, or,
    without ``break_ties``, the solver's.
    Raises InfeasibleError naming what blocks every plan, or where the time is over before any was found;
    CatalogError for a price that is none; InputError where workloads share instances in too many ways.
    """
    start = perf_counter()
    listed = columns(problem, may_serve)
    check_serveable(problem, listed)
    whole = formulate(problem, listed)
    check_limit(problem, whole)
    formulation = reduced(whole)
    counts, answer = _solve_exactly(formulation, start + time_limit_s, solver)
    notes: list[str] = []
    if answer.status == OPTIMAL and break_ties:
        counts, note = _untied(formulation, counts)
        notes += note
    placements, cost = place(problem, formulation, counts)
    bound = _bound(formulation, answer, cost)
    proven = answer.status == OPTIMAL and bound == cost
    if not proven:
        notes.append(
            f"the time limit of {time_limit_s:g} s was over before the gap was closed; allow more time"
        )
    return Solution(
        placements=placements,
        usd_per_hour=float(cost),
        bound_usd_per_hour=float(bound),
        gap=float((cost - bound) / cost),
        proven=proven,
        solve_seconds=perf_counter() - start,
        solver=f"HiGHS {version('highspy')} through PuLP {version('pulp')}",
        notes=tuple(notes),
    )


def _solve_exactly(
    formulation: Formulation, deadline: float, solver: Solver
) -> tuple[tuple[int, ...], Answer]:
    """Counts that serve the demand in integers, not merely within the solver's tolerance."""
    too_little: list[tuple[int, ...]] = []
    while len(too_little) <= _MOST_CUTS:
        answer = solver(build(formulation, too_little), max(deadline - perf_counter(), 0.01))
        if answer.status == INFEASIBLE:
            raise beyond_limit_together(formulation, _least_limit(formulation, deadline, solver))
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


def _least_limit(formulation: Formulation, deadline: float, solver: Solver) -> int | None:
    answer = solver(build_least_limit(formulation), max(deadline - perf_counter(), 1.0))
    return round(answer.values["limit"]) if answer.status == OPTIMAL else None


def _bound(formulation: Formulation, answer: Answer, cost: Fraction) -> Fraction:
    """The solver's bound in USD per hour, from 0 to the cost; the cost where only rounding parts them."""
    # Before the root relaxation is solved the bound is minus infinity.
    known = max(answer.bound, 0.0) if math.isfinite(answer.bound) else 0.0
    bound = min(Fraction(known) * price_unit(formulation) * formulation.usd, cost)
    return cost if cost - bound <= _CLOSED * cost else bound
