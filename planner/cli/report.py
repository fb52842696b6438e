"""planner report"""

from __future__ import annotations

from pathlib import Path

import typer

from planner.cli.errors import exit_codes

SECONDS = 10.0
"""More than the page beside a new plan is given: who asks for it can wait."""


@exit_codes
def report(
    plan: Path = typer.Argument(..., metavar="PLAN", help="A plan.json, or the folder that it is in."),
    output: Path | None = typer.Option(
        None, "--output", "-o", metavar="FILE", help="The page to write; report.html beside plan.json."
    ),
    profiles: Path | None = typer.Option(None, help="The profile store, where it is not plan.yaml's."),
    seconds: float = typer.Option(
        SECONDS, min=0.0, help="For what is solved again: other devices and variants, and sweeps."
    ),
) -> None:
    """Draw a plan: one HTML page that needs nothing else, to look at and to pass on."""
    from planner import pipeline
    from planner.cli import render

    render.wrote(pipeline.write_page(plan, output, profiles, seconds))
