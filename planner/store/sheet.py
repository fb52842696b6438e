"""Profiles measured elsewhere, or published, as CSV. docs/profiles.md describes the columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

from planner.domain.profile import Configuration, Profile, imported_environment
from planner.domain.published import Published
from planner.errors import StoreError
from planner.store.names import NAME
from planner.units import NS_PER_MS

REQUIRED = ("model", "variant", "device", "backend", "batch_size", "source")
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p95_ms": 95.0, "p99_ms": 99.0}
OPTIONAL = (
    "backend_version",
    "instances",
    "threads",
    "mean_ms",
    *PERCENTILES,
    "samples_ms",
    "throughput_rps",
    "memory_mib",
    "taken_at",
)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a sheet; its text is one line. ``column`` is empty where the whole line is meant."""

    file: str
    line: int
    column: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {f'{self.column}: ' if self.column else ''}{self.message}"


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a CSV file holds: a profile for each good row, a problem for each bad one."""

    profiles: tuple[Profile, ...]
    problems: tuple[Problem, ...]


def read_sheet(path: Path) -> Sheet:
    """Read and check every row. Raises StoreError where the file cannot be read as text at all."""
    profiles: list[Profile] = []
    problems: list[Problem] = []
    lines: dict[Configuration, dict[str, int]] = {}
    for row in _rows(path, problems):
        try:
            profile = _profile(row)
            sources = lines.setdefault(profile.configuration, {})
            if profile.environment.id in sources:
                raise row.fail(
                    "", f"the same configuration and source as line {sources[profile.environment.id]}"
                )
            sources[profile.environment.id] = row.line
            profiles.append(profile)
        except _RowError as error:
            problems.append(error.problem)
    if not profiles and not problems:
        problems.append(
            Problem(str(path), 1, "", "expected a row for each profile below the header, found none")
        )
    return Sheet(tuple(profiles), tuple(problems))


def profiles_of(path: Path) -> tuple[Profile, ...]:
    """The profiles of a sheet that must be in order. Raises StoreError with its first problem."""
    sheet = read_sheet(path)
    if sheet.problems:
        more = len(sheet.problems) - 1
        rest = f" (and {more} more; planner profiles list {path} names them all)" if more else ""
        raise StoreError(f"{sheet.problems[0]}{rest}")
    return sheet.profiles


class _RowError(Exception):
    """Carries a Problem out of the row it is in; never leaves this module."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class _Row:
    file: str
    line: int
    cells: dict[str, str]

    def fail(self, column: str, message: str) -> _RowError:
        return _RowError(Problem(self.file, self.line, column, message))

    def expected(self, column: str, what: str) -> _RowError:
        value = self.cells.get(column, "")
        return self.fail(
            column, f"expected {what}, got {value!r}" if value else f"expected {what}, got nothing"
        )

    def text(self, column: str) -> str:
        value = self.cells.get(column, "")
        if not value:
            raise self.expected(column, "text")
        return value

    def name(self, column: str) -> str:
        value = self.cells.get(column, "")
        if not NAME.fullmatch(value):
            raise self.expected(column, "a name of letters, digits, '.', '_', '+' and '-'")
        return value

    def whole(self, column: str, default: int | None = None) -> int:
        value = self.cells.get(column, "")
        if not value and default is not None:
            return default
        if not (value.isascii() and value.isdigit() and 0 < int(value) < 10**6):
            raise self.expected(column, "a whole number above 0")
        return int(value)

    def number(self, column: str) -> float | None:
        """None where the cell is empty or the column absent."""
        value = self.cells.get(column, "")
        if not value:
            return None
        parsed = _positive(value)
        if parsed is None:
            raise self.expected(column, "a number above 0")
        return parsed

    def ns(self, column: str) -> int | None:
        """Of a column in ms."""
        ms = self.number(column)
        return None if ms is None else max(round(ms * NS_PER_MS), 1)

    def day(self, column: str) -> str:
        value = self.cells.get(column, "")
        try:
            return date.fromisoformat(value).isoformat() if value else ""
        except ValueError:
            raise self.expected(column, "a date such as 2026-07-30") from None


def _profile(row: _Row) -> Profile:
    backend, version = row.name("backend"), row.cells.get("backend_version", "")
    source = row.text("source")
    memory_mib = row.number("memory_mib")
    samples = _samples(row)
    published = None if samples else _published(row)
    return Profile(
        configuration=Configuration(
            model_sha256="",
            variant=row.name("variant"),
            variant_sha256="",
            device=row.name("device"),
            backend=backend,
            batch_size=row.whole("batch_size"),
            threads=row.whole("threads", 1),
            replicas=row.whole("instances", 1),
            shapes=(),
            model=row.name("model"),
        ),
        environment=imported_environment(source, ((backend, version),) if version else ()),
        samples_ns=samples,
        memory_bytes=0 if memory_mib is None else round(memory_mib * _MIB),
        taken_at=row.day("taken_at"),
        source=source,
        published=published,
    )


def _samples(row: _Row) -> tuple[int, ...]:
    """Of ``samples_ms``, where it is given: latencies separated by spaces."""
    text = row.cells.get("samples_ms", "")
    if not text:
        return ()
    for column in ("mean_ms", *PERCENTILES):
        if row.cells.get(column):
            raise row.fail(column, "expected nothing beside samples_ms: statistics are derived from samples")
    parsed = [_positive(part) for part in text.split()]
    if None in parsed:
        wrong = text.split()[parsed.index(None)]
        raise row.fail("samples_ms", f"expected numbers above 0 separated by spaces, got {wrong!r}")
    return tuple(max(round(ms * NS_PER_MS), 1) for ms in parsed if ms is not None)


def _published(row: _Row) -> Published:
    percentiles = [(level, ns) for column, level in PERCENTILES.items() if (ns := row.ns(column)) is not None]
    mean_ns = row.ns("mean_ms")
    if not percentiles:
        raise row.fail(
            "p99_ms",
            f"expected one of {', '.join((*PERCENTILES, 'samples_ms'))}: a mean alone bounds no percentile",
        )
    for (_, before), (level, ns) in pairwise(percentiles):
        if ns < before:
            raise row.expected(f"p{level:g}_ms", f"{before / NS_PER_MS:g} or more, as the percentile before")
    bare = Published(tuple(percentiles), None, row.number("throughput_rps"))
    if mean_ns is None:
        return bare
    try:
        return Published(bare.percentiles_ns, mean_ns, bare.throughput_rps)
    except ValueError:
        least = f"{bare.least_mean_ns / NS_PER_MS:.4g} or more, which the percentiles imply"
        raise row.expected("mean_ms", least) from None


def _rows(path: Path, problems: list[Problem]) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            # Samples of one row may be many.
            csv.field_size_limit(1 << 27)
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            wrong = _header_problem(header)
            if wrong:
                problems.append(Problem(str(path), 1, *wrong))
                return
            for cells in reader:
                if len(cells) == len(header):
                    values = dict(zip(header, (cell.strip() for cell in cells), strict=True))
                    yield _Row(str(path), reader.line_num, values)
                elif cells:
                    wrong = "", f"expected {len(header)} cells as in the header, got {len(cells)}"
                    problems.append(Problem(str(path), reader.line_num, *wrong))
    except csv.Error as error:
        problems.append(Problem(str(path), reader.line_num, "", f"expected CSV: {error}"))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read as UTF-8 text: {error}; give a CSV file") from None


def _header_problem(header: list[str]) -> tuple[str, str] | None:
    known = (*REQUIRED, *OPTIONAL)
    for column in REQUIRED:
        if column not in header:
            return column, f"expected this column in the header; columns are {', '.join(known)}"
    for column in header:
        if column not in known:
            return column, f"expected a known column, one of {', '.join(known)}"
        if header.count(column) > 1:
            return column, "expected each column once"
    return None


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
