"""Progress on stderr, with the time that remains; quiet where stderr is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from planner.domain.progress import Progress, Step, silent
from planner.units import format_seconds

# Drawing must not disturb what is being timed.
REFRESH_PER_SECOND = 2


@contextmanager
def on_stderr(quiet: bool = False) -> Iterator[Progress]:
    """A listener that draws one line a stage."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield silent
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]:>12}"),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    with Bar(*columns, console=console, refresh_per_second=REFRESH_PER_SECOND) as bar:
        tasks: dict[str, TaskID] = {}

        def show(step: Step) -> None:
            left = "" if step.seconds_left is None else f"{format_seconds(step.seconds_left)} left"
            if step.done == step.total:
                left = "done"
            if step.stage not in tasks:
                tasks[step.stage] = bar.add_task(step.stage, total=step.total, left="", detail="")
            bar.update(
                tasks[step.stage], completed=step.done, total=step.total, left=left, detail=step.detail
            )

        yield show
