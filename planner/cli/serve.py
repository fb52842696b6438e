"""planner serve"""

from __future__ import annotations

from pathlib import Path

import typer

from planner.cli.errors import exit_codes

_MAX_BODY = 16 << 20
_MAX_WAITING = 1024
_NEEDS = ("uvicorn", "starlette", "prometheus_client")


@exit_codes
def serve(
    plan: Path = typer.Argument(..., metavar="PLAN", help="plan.json, or the folder that holds it."),
    workload: str | None = typer.Option(None, "--workload", help="Serve this one only."),
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on; 0.0.0.0: all."),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="0: any that is free."),
    max_body: int = typer.Option(_MAX_BODY, "--max-body", min=1, help="Bytes that a request may have."),
    max_waiting: int = typer.Option(
        _MAX_WAITING, "--max-waiting", min=1, help="Requests that may wait for a replica; more are refused."
    ),
) -> None:
    """Serve the replicas of a plan that this machine holds, by the Open Inference Protocol."""
    _check_installed()
    from planner.cli import render_serving
    from planner.profiling.environment import usable_cores
    from planner.serving.local import local_part
    from planner.serving.run import serve as run

    part = local_part(plan, usable_cores(), workload)
    render_serving.part(part)
    run(part, host, port, max_body, max_waiting, render_serving.started)
    render_serving.drained()


def _check_installed() -> None:
    """Raises MissingDependencyError."""
    from importlib import import_module

    from planner.errors import MissingDependencyError

    for name in _NEEDS:
        try:
            import_module(name)
        except ModuleNotFoundError:
            package = name.replace("_", "-")
            raise MissingDependencyError(
                f"planner serve needs {package}; install it with: pip install 'planner[serve]'"
            ) from None
