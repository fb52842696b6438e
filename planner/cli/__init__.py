"""The terminal program. A command parses, calls the pipeline once, renders; rich lives only here.

Nothing heavy is imported before a command runs: ``planner --help`` answers at once.
"""

from __future__ import annotations

import typer

from planner.cli import (
    catalog,
    devices,
    diff,
    doctor,
    engines,
    explain,
    export,
    gate,
    init,
    plan,
    profile,
    profiles,
    report,
    schema,
    serve,
    solve,
    variants,
    verify,
)

app = typer.Typer(
    name="planner",
    help="Plan the cheapest hardware that serves an ONNX model within its SLO and accuracy floor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("plan")(plan.plan)
app.command("explain")(explain.explain)
app.command("report")(report.report)
app.command("verify")(verify.verify)
app.command("gate")(gate.gate)
app.command("diff")(diff.diff)
app.command("solve")(solve.solve)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("init")(init.init)
app.command("variants")(variants.variants)
app.command("profile")(profile.profile)
app.command("engines")(engines.engines)
app.command("devices")(devices.devices)
app.command("doctor")(doctor.doctor)
app.command("schema")(schema.schema)
app.add_typer(catalog.app, name="catalog")
app.add_typer(profiles.app, name="profiles")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"planner {installed('planner')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def main() -> None:
    """Entry point of the ``planner`` script."""
    app()
