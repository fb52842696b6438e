"""HiGHS through PuLP: a program in, an answer out. The only importer of pulp."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import pulp

from planner.optimize.program import FEASIBLE, INFEASIBLE, OPTIMAL, UNKNOWN, Answer, Program


def run_highs(program: Program, time_limit_s: float) -> Answer:
    """Minimise with HiGHS, on one thread and with its fixed seed: the same program gives the same answer.

    ``sol_status`` is what tells an optimum from an incumbent: ``status`` is Optimal for both. The bound is
    ``mip_dual_bound`` of HiGHS's info (https://ergo-code.github.io/HiGHS/stable/structures/structs/HighsInfo/),
    the tolerances are its options (https://ergo-code.github.io/HiGHS/stable/options/definitions/).
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
        if not row.terms:
            if (row.low or 0) > 0 or (row.high or 0) < 0:
                return Answer(INFEASIBLE, {}, float("inf"))
            continue
        total = pulp.LpAffineExpression([(variables[name], c) for name, c in row.terms])
        if row.low is not None:
            problem += total >= row.low, f"low{i}"
        if row.high is not None:
            problem += total <= row.high, f"high{i}"
    options: dict[str, Any] = {}
    if program.tolerance is not None:
        options = {
            "mip_feasibility_tolerance": program.tolerance,
            "primal_feasibility_tolerance": program.tolerance,
        }
    with _interrupts_kept():
        problem.solve(pulp.HiGHS(msg=False, timeLimit=time_limit_s, gapRel=0, threads=1, **options))
    status = {
        pulp.LpSolutionOptimal: OPTIMAL,
        pulp.LpSolutionIntegerFeasible: FEASIBLE,
        pulp.LpSolutionInfeasible: INFEASIBLE,
    }.get(problem.sol_status, UNKNOWN)
    bound = float(problem.solverModel.getInfo().mip_dual_bound)
    if status not in (OPTIMAL, FEASIBLE):
        return Answer(status, {}, bound)
    # What neither a row nor the objective counts has no value.
    return Answer(status, {name: variable.value() or 0.0 for name, variable in variables.items()}, bound)


def highs_version() -> str:
    return f"HiGHS {version('highspy')} through PuLP {version('pulp')}"


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
