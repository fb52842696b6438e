"""What each limit of a problem costs: the best plan without it, and with one unit more of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from planner.domain.problem import ACCURACY, Problem, Solution
from planner.domain.reasons import Binding
from planner.optimize.limits import in_words, limits_of, one_wider, without
from planner.optimize.program import Solver
from planner.optimize.solve import best_or_why, run_highs

_NOTHING = 1e-6
"""A saving no larger than this share is the solver's tolerance."""


def binding(
    problem: Problem, best: Solution, time_limit_s: float = 60.0, *, solver: Solver = run_highs
) -> Iterator[Binding]:
    """Of every limit; ``best`` is the problem's own solution. ``time_limit_s`` is that of each of the plans.

    One unit is solved for only where the limit costs anything at all.
    """
    asked = replace(problem, keep=None)
    for limit in limits_of(asked):
        words = in_words(asked, limit)
        whole, proven = saved(best, without(asked, limit), time_limit_s, solver=solver)
        step = one_wider(asked, limit)
        if whole <= 0 or step is None:
            yield Binding(words, whole, "", None, proven)
            continue
        by_step, proven_too = saved(best, step[1], time_limit_s, solver=solver)
        yield Binding(words, whole, step[0], by_step, proven and proven_too)


def saved(
    best: Solution, eased: Problem, time_limit_s: float, *, solver: Solver = run_highs
) -> tuple[float, bool]:
    """What is saved where more is allowed than in the problem of ``best``, and whether that is proven.

    There is a plan then, that of before: where no better one is found in time, nothing is.
    """
    found = best_or_why(eased, time_limit_s, solver=solver)
    return (0.0, False) if isinstance(found, str) else (saving(best, found), found.proven)


def saving(before: Solution, after: Solution) -> float:
    """By how much it is better, in the objective's unit; 0 where that is rounding."""
    a, b = amount(before), amount(after)
    better = b - a if before.objective == ACCURACY else a - b
    return better if better > _NOTHING * abs(a) else 0.0


def amount(solution: Solution) -> float:
    """What a solution is chosen by, in the objective's unit."""
    return solution.usd_per_hour if solution.amount is None else solution.amount
