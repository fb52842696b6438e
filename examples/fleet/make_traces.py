"""Writes the two traces of this example: made up, a day's shape as services see it, drawn at random.

    python examples/fleet/make_traces.py

Arrivals of a Poisson process whose rate follows a day: low at night, a plateau at work, a peak of its own.
There is one request for some hundred thousand (``workload.scale`` in plan.yaml multiplies the rates back up).
The traces lie in the repository; running this again writes the same ones.
"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from math import exp
from pathlib import Path
from random import Random

DAY = datetime(2026, 9, 15)
FOLDER = Path(__file__).resolve().parent / "traces"


def share_of_peak(hour: float, peak: float, night: float) -> float:
    """The rate at an hour of the day, 1 at the evening's peak."""
    evening = exp(-(((hour - peak) / 2.5) ** 2))
    work = 0.7 / (1 + exp(-2.0 * (hour - 8.0))) / (1 + exp(1.2 * (hour - 19.0)))
    return night + (1 - night) * min(1.0, max(evening, work))


def arrivals(seed: str, at_peak_rps: float, peak: float, night: float) -> list[datetime]:
    """By thinning: those of the peak's rate, each kept with the share that its time has of it."""
    rng, second, found = Random(seed), 0.0, []
    while (second := second + rng.expovariate(at_peak_rps)) < 24 * 3600:
        if rng.random() < share_of_peak(second / 3600, peak, night):
            found.append(DAY + timedelta(seconds=round(second, 1)))
    return found


def write(name: str, times: list[datetime]) -> None:
    with (FOLDER / name).open("w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["timestamp"])
        rows.writerows([time.isoformat(timespec="milliseconds")[:-2]] for time in times)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write("search.csv", arrivals("search", 0.10, peak=20.5, night=0.12))
    write("answers.csv", arrivals("answers", 0.06, peak=14.0, night=0.05))
