"""planner gate"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from planner.cli.errors import exit_codes
from planner.errors import StoreError

VIOLATED = 1
"""The exit code where a rule is violated."""


@exit_codes
def gate(
    spec: Path = typer.Argument(..., metavar="PLAN.YAML", help="What the new plan is made of."),
    baseline: Path = typer.Option(
        ..., metavar="PLAN", help="The present plan: plan.json, with its engines beside it, or its folder."
    ),
    policy: Path | None = typer.Option(None, help="policy.yaml: what is allowed; see docs/gate.md."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Folder of the new plan; by default gate in plan.yaml's output folder."
    ),
    junit: Path | None = typer.Option(None, help="Write JUnit XML to this file."),
    markdown: Path | None = typer.Option(None, help="Write a summary in Markdown to this file."),
    json: bool = typer.Option(
        False, "--json", help="Print the outcome as JSON, and nothing else, on stdout."
    ),
    time_limit: float = typer.Option(60.0, min=0.1, help="Seconds the solver may take."),
) -> None:
    """Make a plan and compare it with the present one. Exit code 1: rules are violated, and which."""
    from planner import gate as gates
    from planner import pipeline
    from planner.cli import render_gate
    from planner.cli.progress import on_stderr

    rules = gates.read_policy(policy)
    loaded = pipeline.load_spec(spec)
    with on_stderr() as progress:
        found = gates.gate(loaded, baseline, rules, output, progress, time_limit)
    if junit is not None:
        _write(junit, gates.junit(found))
    if markdown is not None:
        _write(markdown, gates.markdown(found))
    _tell_github(gates.markdown(found), gates.github_annotations(found))
    if json:
        sys.stdout.write(gates.dump_gate(found))
    else:
        render_gate.gated(found)
    if found.violated:
        raise typer.Exit(VIOLATED)


def _tell_github(summary: str, annotations: str) -> None:
    """In GitHub Actions: the job's summary, and annotations, which are read from stderr as well as stdout."""
    if not os.environ.get("GITHUB_ACTIONS"):
        return
    sys.stderr.write(annotations)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        _write(Path(path), summary, mode="a")


def _write(path: Path, text: str, mode: str = "w") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
