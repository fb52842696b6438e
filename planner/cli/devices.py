"""planner devices"""

from __future__ import annotations

from pathlib import Path

import typer

from planner.cli.errors import exit_codes


@exit_codes
def devices(
    extra: Path | None = typer.Option(
        None, "--catalog", help="A folder that extends or replaces the shipped catalog."
    ),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what is here: CPU, GPUs and their slices, and which backends can run on them."""
    from planner.cli import render_devices
    from planner.profiling.devices import here

    found = here(extra)
    (render_devices.devices_json if json else render_devices.devices)(found)
