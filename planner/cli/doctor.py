"""planner doctor"""

from __future__ import annotations

import typer

from planner.cli.errors import exit_codes

DISAGREES = 1


@exit_codes
def doctor(
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Run a tiny model through every backend found and compare the outputs with ONNX's definition.

    Exit code 1 where one fails or disagrees, 4 where none can run.
    """
    from planner.cli import render_devices
    from planner.errors import MissingDependencyError
    from planner.profiling.doctor import examine

    findings = examine()
    (render_devices.doctor_json if json else render_devices.doctor)(findings)
    if any(finding.wrong for finding in findings):
        raise typer.Exit(DISAGREES)
    if not any(finding.agrees for finding in findings):
        raise MissingDependencyError("no backend can run here; install one with: pip install onnxruntime-gpu")
