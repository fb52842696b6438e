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
    explanation = "explanation"
    verification = "verification"
    observed = "observed"
    policy = "policy"


@exit_codes
def schema(
    format: Format = typer.Argument(
        ...,
        help="plan: plan.yaml; report: plan.json; problem: for `planner solve`; explanation: of "
        "`planner explain --json`; verification, observed: of `planner verify --json`, "
        "and of it --live; policy: policy.yaml of `planner gate`.",
    ),
) -> None:
    """Print the JSON Schema of a file format."""
    if format is Format.plan:
        from planner.spec import json_schema
    elif format is Format.report:
        from planner.report import json_schema
    elif format is Format.explanation:
        from planner.report import explanation_schema as json_schema
    elif format is Format.verification:
        from planner.verifying import verification_schema as json_schema
    elif format is Format.observed:
        from planner.verifying import observed_schema as json_schema
    elif format is Format.policy:
        from planner.gate import policy_schema as json_schema
    else:
        from planner.optimize import json_schema
    typer.echo(json.dumps(json_schema(), indent=2))
