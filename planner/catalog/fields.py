"""One row or mapping of a catalog file, read key by key; each complaint names file, line, key and value."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

from planner.catalog.catalog import nearest


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a catalog file; its text is one line."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class FieldError(Exception):
    """Carries a Problem out of the row it is in; never leaves this package."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Fields:
    """Values of one row (text, from CSV) or one mapping (text, numbers, lists, from YAML).

    ``lines`` holds the line of each key where they differ from ``line``.
    """

    file: str
    line: int
    values: Mapping[str, object]
    lines: Mapping[str, int]

    def fail(self, key: str, expected: str) -> FieldError:
        value = self.values.get(key)
        stated = "blank" if value is None or value == "" else repr(value)
        line = self.lines.get(key, self.line)
        return FieldError(Problem(self.file, line, f"{key} is {stated}, expected {expected}"))

    def allow(self, keys: Collection[str]) -> None:
        """Raises for the first key that is none of ``keys``."""
        for key in self.values:
            if key not in keys:
                line = self.lines.get(key, self.line)
                raise FieldError(Problem(self.file, line, f"unknown key {key!r}{nearest(str(key), keys)}"))

    def has(self, key: str) -> bool:
        return self.values.get(key) not in (None, "")

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.fail(key, "text")
        return value.strip()

    def optional_text(self, key: str) -> str:
        return self.text(key) if self.has(key) else ""

    def choice(self, key: str, known: Collection[str]) -> str:
        value = self.text(key)
        if value not in known:
            raise self.fail(key, "a known one" + nearest(value, known))
        return value

    def number(self, key: str, *, zero: bool = False) -> float:
        """A finite number above 0, or from 0 where ``zero``."""
        expected = "a number of 0 or more" if zero else "a number above 0"
        value = _number(self.values.get(key))
        if value is None or value < 0 or (value == 0 and not zero):
            raise self.fail(key, expected)
        return value

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if self.has(key) else None

    def whole(self, key: str) -> int:
        value = _number(self.values.get(key))
        if value is None or value <= 0 or value != int(value):
            raise self.fail(key, "a whole number above 0")
        return int(value)

    def numbers(self, key: str) -> dict[str, float]:
        """A mapping of names to numbers above 0; empty where the key is absent."""
        value = self.values.get(key, {})
        if not isinstance(value, Mapping):
            raise self.fail(key, "a mapping of names to numbers")
        parsed = {str(name): _number(item) for name, item in value.items()}
        if any(item is None or item <= 0 for item in parsed.values()):
            raise self.fail(key, "numbers above 0")
        return {name: item for name, item in parsed.items() if item is not None}

    def whole_numbers(self, key: str) -> tuple[int, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
            raise self.fail(key, "a list of whole numbers")
        return tuple(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.fail(key, "a list of names")
        return tuple(value)

    def iso_date(self, key: str) -> str:
        value = self.text(key)
        try:
            valid = date.fromisoformat(value).isoformat() == value
        except ValueError:
            valid = False
        if not valid:
            raise self.fail(key, "a date such as 2026-07-30")
        return value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        parsed = float(value)
    except ValueError:
        return None
    return parsed if math.isfinite(parsed) else None
