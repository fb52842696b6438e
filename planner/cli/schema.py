"""planner schema"""

from __future__ import annotations

import json
from enum import StrEnum

import typer

from planner.cli.errors import exit_codes


class Format(StrEnum):
    plan = "plan"
    report = "report"
    problem = "problem"


@exit_codes
def schema(
    format: Format = typer.Argument(
        ..., help="plan: plan.yaml; report: plan.json; problem: for `planner solve`."
    ),
) -> None:
    """Print the JSON Schema of a file format."""
    if format is Format.plan:
        from planner.spec import json_schema
    elif format is Format.report:
        from planner.report import json_schema
    else:
        from planner.optimize import json_schema
    typer.echo(json.dumps(json_schema(), indent=2))
