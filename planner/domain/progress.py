"""How long work tells what it is doing, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """``done`` of ``total`` pieces of ``stage`` are finished; ``detail`` is being worked on now.

    ``seconds_left`` is an estimate for the stage, None where there is no ground for one.
    """

    stage: str
    detail: str
    done: int
    total: int
    seconds_left: float | None = None


Progress = Callable[[Step], None]


def silent(step: Step) -> None:
    """The listener that does not."""
