"""planner variants"""

from __future__ import annotations

from pathlib import Path

import typer

from planner.cli.errors import exit_codes


@exit_codes
def variants(
    spec: Path = typer.Argument(..., metavar="PLAN.YAML", help="What to serve, how fast and how well."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Output folder; overrides the file's."),
    workload: str | None = typer.Option(None, "--workload", help="Which one, where there are several."),
    json: bool = typer.Option(False, "--json", help="Print the variants as JSON on stdout."),
) -> None:
    """Make the variants and measure their accuracy; nothing is profiled or planned."""
    from planner import pipeline
    from planner.cli import render
    from planner.cli.progress import on_stderr

    loaded = pipeline.service_of(pipeline.load_spec(spec, output), workload)
    with on_stderr() as progress:
        prepared = pipeline.prepare(loaded)
        judged = pipeline.judge(prepared, progress)
    (render.variants_json if json else render.variants)(judged, loaded.workload.floor)
