"""planner profile"""

from __future__ import annotations

from pathlib import Path

import typer

from planner.cli.errors import exit_codes


@exit_codes
def profile(
    spec: Path = typer.Argument(..., metavar="PLAN.YAML", help="What to serve, how fast and how well."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Output folder; overrides the file's."),
    ray: str | None = typer.Option(
        None,
        metavar="ADDRESS",
        help="Measure on every kind of device of this Ray cluster; `local` starts one here.",
    ),
    workload: str | None = typer.Option(None, "--workload", help="Which one, where there are several."),
    json: bool = typer.Option(False, "--json", help="Print the profiles as JSON on stdout."),
) -> None:
    """Make the variants and measure their latency, here or on a cluster; nothing is planned."""
    from planner import pipeline
    from planner.cli import render
    from planner.cli.progress import on_stderr

    loaded = pipeline.service_of(pipeline.load_spec(spec, output), workload)
    with on_stderr() as progress:
        prepared = pipeline.prepare(loaded, elsewhere=ray is not None)
        judged = pipeline.judge(prepared, progress)
        if ray is None:
            campaign = pipeline.profile(prepared, judged, progress)
        else:
            campaign = pipeline.profile_cluster(prepared, judged, ray, progress)
    percentile = loaded.workload.slo.percentile
    (render.profiles_json if json else render.profiles)(campaign, percentile, loaded.profiles)
