"""planner explain"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.cli.errors import exit_codes
from planner.errors import InputError
from planner.units import NS_PER_MS, parse_duration_ns, parse_share

if TYPE_CHECKING:
    from planner.pipeline import Sweep


@exit_codes
def explain(
    plan: Path = typer.Argument(..., metavar="PLAN", help="A plan.json, or the folder that it is in."),
    sweep: list[str] = typer.Option(
        [],
        "--sweep",
        metavar="KEY=FROM:TO[:STEPS]",
        help="The cost over the SLO's latency (slo=5ms:50ms), the rate (rate=100:1000) or the accuracy floor "
        "(floor=0%:2%); may be given several times.",
    ),
    workload: str | None = typer.Option(None, help="The one to sweep and to tell devices and variants of."),
    profiles: Path | None = typer.Option(None, help="The profile store, where it is not plan.yaml's."),
    json: bool = typer.Option(False, "--json", help="Print the explanation, and nothing else, on stdout."),
    time_limit: float | None = typer.Option(
        None, min=0.1, help="Seconds the solver may take for each plan; by default what the plan took."
    ),
) -> None:
    """Tell why a plan is what it is: what other devices, variants and limits would cost."""
    from planner import pipeline
    from planner.cli.progress import on_stderr
    from planner.cli.render_explanation import explanation
    from planner.report import dump_explanation

    sweeps = [_sweep(text) for text in sweep]
    made = pipeline.read_plan(plan)
    with on_stderr() as progress:
        found = pipeline.explain(made, sweeps, workload, profiles, time_limit, progress)
    if json:
        sys.stdout.write(dump_explanation(found))
    else:
        explanation(found)


def _sweep(text: str) -> Sweep:
    from planner.pipeline.curves import STEPS, Sweep

    parse: dict[str, Callable[[str], float]] = {
        "slo": lambda value: parse_duration_ns(value) / NS_PER_MS,
        "rate": float,
        "floor": parse_share,
    }
    over, _, span = text.partition("=")
    ends = span.split(":")
    if over not in parse or len(ends) not in (2, 3):
        raise InputError(f"--sweep: expected slo=5ms:50ms, rate=100:1000 or floor=0%:2%, got {text!r}")
    try:
        low, high = (parse[over](end) for end in ends[:2])
        steps = int(ends[2]) if len(ends) == 3 else STEPS
    except ValueError as error:
        raise InputError(f"--sweep {text}: {error}") from None
    if not 0 <= low < high or (low == 0 and over != "floor") or not 2 <= steps <= 100:
        raise InputError(
            f"--sweep {text}: expected a value above 0 and a larger one (a floor may start at 0), and 2 to "
            "100 steps"
        )
    return Sweep(over, low, high, steps)
