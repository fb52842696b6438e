"""A request trace to the mean rate of each hour of the day."""

from __future__ import annotations

import csv
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from planner.errors import SpecError

HOUR_S = 3600.0
LEAST_S = 60.0
"""An hour of which the trace covers less says too little about its rate, and is left out."""


def hourly_rates(path: Path) -> dict[str, float]:
    """Requests per second by hour of the day (``18:00``), in their order.

    The trace has a column ``timestamp`` (any case), ISO 8601 or Unix seconds, a row for each request. An
    hour's rate is its requests over the seconds of it that lie between the first and the last request, over
    all days. Raises SpecError that names the line.
    """
    times = _times(path)
    if len(times) < 2 or times[0] == times[-1]:
        raise SpecError(f"{path}: a trace needs requests at two different times at least")
    seconds: dict[int, float] = defaultdict(float)
    start = times[0].replace(minute=0, second=0, microsecond=0)
    while start < times[-1]:
        end = start + timedelta(hours=1)
        covered = (min(end, times[-1]) - max(start, times[0])).total_seconds()
        seconds[start.hour] += max(covered, 0.0)
        start = end
    counts: dict[int, int] = defaultdict(int)
    for time in times:
        counts[time.hour] += 1
    hours = [hour for hour in range(24) if seconds[hour] >= min(LEAST_S, max(seconds.values()))]
    return {f"{hour:02}:00": counts[hour] / seconds[hour] for hour in hours}


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
