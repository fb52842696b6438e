"""What `planner serve` prints."""

from __future__ import annotations

import sys

from planner.cli.output import console
from planner.serving.local import LocalPart
from planner.units import format_usd


def part(here: LocalPart) -> None:
    out = console()
    for model in here.models:
        candidate = model.candidate
        out.print(
            f"{model.spec.name}: {model.replicas} of the plan's {model.planned} replicas of "
            f"{candidate.variant} ({candidate.backend}, {candidate.device}), batch ≤ "
            f"{candidate.max_batch_size}; one is planned to get {model.replica_rps:.4g} requests/s and costs "
            f"{format_usd(model.usd_per_hour)}/h on {here.offer.instance_type}"
        )
    for note in here.notes:
        out.print(note)
    sys.stdout.flush()


def started(url: str) -> None:
    console().print(f"ready at {url} (Open Inference Protocol, /v2; metrics at /metrics); Ctrl-C drains")
    sys.stdout.flush()


def drained() -> None:
    console().print("drained")
