"""planner solve"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from planner.cli.errors import exit_codes


@exit_codes
def solve(
    problem: Path = typer.Argument(..., metavar="PROBLEM.JSON", help="See `planner schema problem`."),
    json: bool = typer.Option(False, "--json", help="Print the solution, and nothing else, on stdout."),
    time_limit: float = typer.Option(60.0, min=0.1, help="Seconds the solver may take."),
) -> None:
    """Find the best fleet for a problem of candidates, offers and limits, whatever tool they come from."""
    from planner import optimize

    posed = optimize.read_problem(problem)
    solution = optimize.solve(posed, time_limit)
    if json:
        sys.stdout.write(optimize.dump_solution(solution))
        return
    from planner.cli import render_solution

    render_solution.solution(posed, solution)
