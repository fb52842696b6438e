"""planner engines"""

from __future__ import annotations

from pathlib import Path

import typer

from planner.cli.errors import exit_codes


@exit_codes
def engines(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="A plan's output folder, or its engines/."),
) -> None:
    """List a plan's engines and check each against the sha256 in its manifest."""
    from planner.cli import render
    from planner.report import read_engines

    render.engines(read_engines(folder if folder.name == "engines" else folder / "engines"))
