"""A request trace to the mean rate of each hour of the day, and to what remains beside these."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from planner.errors import SpecError

HOUR_S = 3600.0
COARSE_RPS = 0.1
"""Above this rate, requests at whole seconds do not tell how irregular they are."""
LEAST_S = 60.0
"""An hour of which the trace covers less says too little about its rate, and is left out."""


def hourly_rates(path: Path) -> dict[str, float]:
    """Requests per second by hour of the day (``18:00``), in their order.

    The trace has a column ``timestamp`` (any case), ISO 8601 or Unix seconds, a row for each request. An
    hour's rate is its requests over the seconds of it that lie between the first and the last request, over
    all days. Raises SpecError that names the line.
    """
    return {f"{hour:02}:00": rate for hour, rate in _rates(path, _times(path)).items()}


def mean_gap_times(path: Path) -> tuple[float, ...]:
    """When each request came, from 0, in a time that runs as fast as the mean rate of the hour of the day.

    In it one request comes in each unit on average, whatever the hour: what the periods plan for is gone,
    what remains is how irregular requests are within an hour, and between the days. Hours that are left out
    are no time at all. Raises SpecError where the times are too coarse to tell.
    """
    times = _times(path)
    rates = _rates(path, times)
    if all(time.microsecond == 0 for time in times) and max(rates.values()) > COARSE_RPS:
        raise SpecError(
            f"{path}: its times are whole seconds, too coarse to tell how irregularly requests come; "
            "give fractions of seconds, or arrivals: {cv: 2}"
        )
    at, passed, last = [], 0.0, times[0]
    for time in times:
        passed += sum(rates.get(hour, 0.0) * seconds for hour, seconds in _hours(last, time))
        last = time
        if time.hour in rates:
            at.append(passed)
    return tuple(at)


def _rates(path: Path, times: list[datetime]) -> dict[int, float]:
    if len(times) < 2 or times[0] == times[-1]:
        raise SpecError(f"{path}: a trace needs requests at two different times at least")
    seconds: dict[int, float] = defaultdict(float)
    for hour, covered in _hours(times[0], times[-1]):
        seconds[hour] += covered
    counts: dict[int, int] = defaultdict(int)
    for time in times:
        counts[time.hour] += 1
    hours = [hour for hour in range(24) if seconds[hour] >= min(LEAST_S, max(seconds.values()))]
    return {hour: counts[hour] / seconds[hour] for hour in hours}


def _hours(start: datetime, end: datetime) -> Iterator[tuple[int, float]]:
    """Each hour of the day between two times, one after another, with the seconds of it."""
    while start < end:
        until = start.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        yield start.hour, (min(until, end) - start).total_seconds()
        start = until


def _times(path: Path) -> list[datetime]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip().lower() for name in next(reader, [])]
            if "timestamp" not in header:
                raise SpecError(f"{path}:1: expected a column `timestamp`, got {', '.join(header) or 'none'}")
            column = header.index("timestamp")
            return sorted(_time(path, number, row[column]) for number, row in enumerate(reader, 2) if row)
    except (OSError, UnicodeDecodeError, IndexError, csv.Error) as error:
        raise SpecError(f"{path}: not a trace that can be read: {error}") from None


def _time(path: Path, line: int, text: str) -> datetime:
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise SpecError(
            f"{path}:{line}: expected a time such as 2026-01-31T18:00:00 or Unix seconds, got {text!r}"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
