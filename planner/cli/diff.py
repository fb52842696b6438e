"""planner diff"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from planner.cli.errors import exit_codes


@exit_codes
def diff(
    before: Path = typer.Argument(..., metavar="A", help="A plan.json, or the folder that it is in."),
    after: Path = typer.Argument(..., metavar="B", help="Another one."),
    json: bool = typer.Option(False, "--json", help="Print the differences as JSON, and nothing else."),
    time_limit: float = typer.Option(10.0, min=0.1, help="Seconds for each problem that is solved again."),
) -> None:
    """Compare two plans: what changed, and what each change costs or saves."""
    from planner import gate
    from planner.cli import render_gate
    from planner.gate.known import known_plan

    found = gate.diff(known_plan(before), known_plan(after), time_limit)
    if json:
        sys.stdout.write(gate.dump_diff(found))
    else:
        render_gate.differences(found)
