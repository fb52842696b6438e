"""planner export"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from planner.cli.errors import exit_codes


class To(StrEnum):
    TRITON = "triton"
    KUBERNETES = "kubernetes"
    KSERVE = "kserve"
    SKYPILOT = "skypilot"


@exit_codes
def export(
    plan: Path = typer.Argument(..., metavar="PLAN", help="plan.json, or the folder that holds it."),
    to: To = typer.Option(..., "--to", help="What is to run the plan."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder to write; new, or empty."),
    image: str | None = typer.Option(None, "--image", help="Triton's container image."),
    claim: str | None = typer.Option(
        None, "--claim", help="PersistentVolumeClaim that holds the Triton export (kubernetes, kserve)."
    ),
    dimension: list[str] = typer.Option(
        [],
        "--dimension",
        metavar="NAME=SIZE",
        help="Size of a dynamic dimension, to warm up with.",
    ),
    force: bool = typer.Option(False, "--force", help="Replace an earlier export."),
    json: bool = typer.Option(False, "--json", help="Print the files written, and nothing else."),
) -> None:
    """Write what runs a plan: Triton's repositories, Kubernetes, KServe or SkyPilot files."""
    from planner.cli import render_export
    from planner.export import DEFAULT_CLAIM, DEFAULT_IMAGE, Settings
    from planner.export import export as written

    settings = Settings(image or DEFAULT_IMAGE, claim or DEFAULT_CLAIM, dict(map(_sized, dimension)))
    done = written(plan, to.value, output, settings, force)
    if json:
        render_export.as_json(done)
    else:
        render_export.terminal(done, output)


def _sized(text: str) -> tuple[str, int]:
    from planner.errors import InputError

    name, equals, size = text.partition("=")
    if not (name and equals and size.isascii() and size.isdigit() and int(size) > 0):
        raise InputError(f"--dimension {text}: expected NAME=SIZE, such as sequence=128")
    return name, int(size)
