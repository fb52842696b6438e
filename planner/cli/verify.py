"""planner verify"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.cli.errors import exit_codes
from planner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.domain.workload import Arrivals
    from planner.verifying import Observed

VIOLATED = 1
"""The exit code where an SLO does not hold."""


@exit_codes
def verify(
    plan: Path = typer.Argument(..., metavar="PLAN", help="A plan.json, or the folder that it is in."),
    requests: int = typer.Option(
        1_000_000, min=1_000, help="To judge by: of each workload, in each period and with each loss."
    ),
    arrivals: str | None = typer.Option(
        None,
        metavar="poisson|cv=2|trace=FILE",
        help="How irregularly requests come, in place of what the plan assumes.",
    ),
    profiles: Path | None = typer.Option(None, help="The profile store, where it is not plan.yaml's."),
    seed: int = typer.Option(0, min=0, help="Of the random numbers: the same seed, the same figures."),
    live: bool = typer.Option(
        False, "--live", help="Drive the plan's own engines that run here with MLPerf LoadGen, instead."
    ),
    endpoint: str | None = typer.Option(
        None, metavar="URL", help="Drive a deployed service that speaks the Open Inference Protocol, instead."
    ),
    workload: str | None = typer.Option(None, help="The one to drive, where the plan has several."),
    seconds: float = typer.Option(60.0, min=1.0, help="Of each run under load."),
    search: bool = typer.Option(
        False, "--search", help="Also find the highest rate that holds, the median of five searches."
    ),
    observed: Path | None = typer.Option(
        None, metavar="FILE", help="Judge what was seen in service before: JSON of --live."
    ),
    recalibrate: Path | None = typer.Option(
        None,
        metavar="PLAN.YAML",
        help="With what was seen in service: correct the store's service times by it, and plan again.",
    ),
    json: bool = typer.Option(False, "--json", help="Print the report, and nothing else, on stdout."),
) -> None:
    """Does a plan hold its SLO, by simulation (also with the worst loss) or live? Exit code 1: no."""
    lived = live or endpoint is not None
    if recalibrate is not None and observed is None and not lived:
        raise InputError("--recalibrate: a simulation tells nothing new of service times; give --live too")
    if observed is not None and lived:
        raise InputError("--observed: what was seen before; leave it out to look now")
    if lived:
        looked = _look(plan, workload, endpoint, profiles, seconds, search, seed)
        _judge(plan, looked, recalibrate, profiles, json)
        return
    if observed is not None:
        from planner.verifying import read_observed

        _judge(plan, read_observed(observed), recalibrate, profiles, json)
        return
    from planner import pipeline
    from planner.cli.progress import on_stderr
    from planner.cli.render_verification import verification
    from planner.verifying import FAILS, dump_verification
    from planner.verifying import verify as simulate

    other = _arrivals(arrivals) if arrivals else None
    made = pipeline.read_plan(plan)
    with on_stderr() as progress:
        found = simulate(made, requests, other, profiles, seed, progress)
    if json:
        sys.stdout.write(dump_verification(found))
    else:
        verification(found)
    if found.verdict == FAILS:
        raise typer.Exit(VIOLATED)


def _look(
    plan: Path,
    workload: str | None,
    endpoint: str | None,
    profiles: Path | None,
    seconds: float,
    search: bool,
    seed: int,
) -> list[Observed]:
    """Under load, now."""
    from planner.cli.progress import on_stderr
    from planner.verifying.live import Asked, live
    from planner.verifying.searching import SEARCHES

    asked = Asked(seconds, SEARCHES if search else 0, seed)
    with on_stderr() as progress:
        found = live(plan, asked, workload, endpoint, profiles, progress)
    for note in dict.fromkeys(note for lived in found for note in lived.notes):
        typer.echo(f"planner: {note}", err=True)
    return [lived.observed for lived in found]


def _judge(
    plan: Path, observed: Sequence[Observed], recalibrate: Path | None, profiles: Path | None, json: bool
) -> None:
    """Tell what was seen in service, and learn from it where that is asked for."""
    from planner.cli import render_verification as render
    from planner.verifying import FAILS, dump_observed, judged

    found = [judged(seen) for seen in observed]
    if json:
        sys.stdout.write(dump_observed(found))
    else:
        render.observations(found)
    if recalibrate is not None:
        _plan_again(plan, observed, recalibrate, profiles, json)
    elif any(seen.verdict == FAILS for seen in found):
        raise typer.Exit(VIOLATED)


def _plan_again(
    plan: Path, observed: Sequence[Observed], spec: Path, profiles: Path | None, json: bool
) -> None:
    """With the factors in the store, into the same folder; nothing is printed beside JSON."""
    from datetime import UTC, datetime

    from planner import pipeline
    from planner.cli import render, render_verification
    from planner.cli.progress import on_stderr
    from planner.verifying import recalibrate

    made = pipeline.read_plan(plan)
    loaded = pipeline.load_spec(spec, made.folder)
    if any(service.imported for service in loaded.services):
        raise InputError(
            f"{spec}: imported profiles are not the planner's to correct; measure, and plan again"
        )
    store = profiles or loaded.services[0].profiles
    factors = recalibrate(made, observed, store, datetime.now(UTC))
    if not json:
        render_verification.calibrated(factors)
    if not factors:
        return
    with on_stderr() as progress:
        again = pipeline.plan(loaded, progress=progress)
    report = pipeline.publish(again, loaded)
    if not json:
        render.plan(report, loaded.output)


def _arrivals(text: str) -> Arrivals:
    from planner.domain.workload import POISSON, Arrivals
    from planner.spec.trace import mean_gap_times

    kind, _, value = text.partition("=")
    try:
        if kind == "poisson" and not value:
            return POISSON
        if kind == "cv":
            return Arrivals(cv=float(value))
        if kind == "trace" and value:
            return Arrivals(trace=mean_gap_times(Path(value)))
    except ValueError as error:
        raise InputError(f"--arrivals {text}: {error}") from None
    raise InputError(f"--arrivals: expected poisson, cv=2 or trace=FILE, got {text!r}")
