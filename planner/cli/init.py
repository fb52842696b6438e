"""planner init"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

import typer

from planner.cli.errors import exit_codes

T = TypeVar("T", float, str)


@exit_codes
def init(
    model: Path = typer.Argument(..., metavar="MODEL.ONNX", help="The model to serve."),
    output: Path = typer.Option(Path("plan.yaml"), "--output", "-o", help="The file to write."),
    rate: float | None = typer.Option(None, "--rate", help="Requests per second."),
    latency: str | None = typer.Option(None, "--latency", help="What the percentile may be, such as 50ms."),
    percentile: float = typer.Option(99.0, "--percentile", help="Percentile of the latency."),
    force: bool = typer.Option(False, "--force", help="Overwrite the file if it exists."),
) -> None:
    """Inspect a model and write a commented plan.yaml that runs as it is."""
    from planner.errors import SpecError
    from planner.starter import starter_spec
    from planner.store import replace_text, writable_folder
    from planner.units import parse_duration_ns
    from planner.variants import read_model

    if output.exists() and not force:
        raise SpecError(f"{output}: exists already; give another --output, or --force to overwrite it")
    inspected = read_model(model)
    if rate is None:
        rate = _ask("Requests per second", "--rate", float)
    if latency is None:
        latency = _ask(f"p{percentile:g} latency, with its unit (such as 50ms)", "--latency", str)
    try:
        parse_duration_ns(latency)
    except ValueError as error:
        raise SpecError(f"--latency: {error}") from None
    if rate <= 0:
        raise SpecError(f"--rate: requests per second must be above 0, got {rate:g}")
    if not 0 < percentile < 100:
        raise SpecError(f"--percentile: expected a number between 0 and 100, got {percentile:g}")
    text = starter_spec(inspected, rate, latency, percentile, output)
    writable_folder(output.parent)
    replace_text(output, text)
    typer.echo(f"Wrote {output}. Read it, then run: planner plan {output}")


def _ask(question: str, option: str, kind: type[T]) -> T:
    from planner.errors import SpecError

    if not sys.stdin.isatty():
        raise SpecError(f"{option}: missing, and there is no terminal to ask at; give {option}")
    answer: T = typer.prompt(question, type=kind)
    return answer
