"""planner plan"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from planner.cli.errors import exit_codes
from planner.cli.values import share


@exit_codes
def plan(
    spec: Path = typer.Argument(..., metavar="PLAN.YAML", help="What to serve, how fast and how well."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Output folder; overrides the file's."),
    json: bool = typer.Option(False, "--json", help="Print the report, and nothing else, on stdout."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Tell what would be made and measured, and how long it takes; do nothing."
    ),
    exhaustive: bool = typer.Option(
        False, "--exhaustive", help="Measure everything that can serve, not only what can change the plan."
    ),
    keep: Path | None = typer.Option(
        None,
        "--keep",
        metavar="PLAN",
        help="The present plan: plan.json or its folder; left only for savings.",
    ),
    least_saving: str = typer.Option(
        "5%",
        "--least-saving",
        help="With --keep: what a new plan has to save, as a share of the present one.",
    ),
    dump_problem: Path | None = typer.Option(
        None, "--dump-problem", metavar="FILE", help="Write what the solver saw, for `planner solve`."
    ),
    time_limit: float = typer.Option(60.0, min=0.1, help="Seconds the solver may take."),
    page: bool = typer.Option(True, "--report/--no-report", help="Draw report.html beside plan.json."),
) -> None:
    """Find the cheapest fleet that meets the SLO and the accuracy floor, with its engines."""
    from planner import pipeline
    from planner.cli import render
    from planner.cli.progress import on_stderr
    from planner.report import dump

    present = pipeline.present_plan(keep, share(least_saving, "--least-saving")) if keep else None
    loaded = pipeline.load_spec(spec, output)
    if dry_run:
        work = pipeline.dry_run(loaded)
        if json:
            sys.stdout.write(render.dry_run_json(work))
        else:
            render.dry_run(work)
        return
    with on_stderr() as progress:
        made = pipeline.plan(
            loaded, progress=progress, time_limit_s=time_limit, exhaustive=exhaustive, keep=present
        )
    if dump_problem is not None:
        pipeline.write_problem(made, dump_problem)
    report = pipeline.publish(made, loaded)
    drawn = pipeline.draw(loaded.output, page, lambda why: print(f"planner: {why}", file=sys.stderr))
    if json:
        sys.stdout.write(dump(report))
    else:
        render.plan(report, loaded.output)
        if drawn is not None:
            render.wrote(drawn)
