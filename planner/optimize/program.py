"""A program as a solver gets it, and what it answers. Names serve people, and reading back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    integer: bool
    upper: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """``low <= sum of coefficient x variable <= high``; None: no bound on that side."""

    name: str
    terms: tuple[tuple[str, float], ...]
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Program:
    """Minimise ``objective`` over variables that are 0 or more, subject to ``rows``.

    ``tolerance``: how far a row or an integer may be off, None: the solver's default.
    """

    variables: tuple[Variable, ...]
    objective: tuple[tuple[str, float], ...]
    rows: tuple[Row, ...]
    tolerance: float | None = None


OPTIMAL, FEASIBLE, INFEASIBLE, UNKNOWN = "optimal", "feasible", "infeasible", "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a solver says: ``values`` by variable (none without a plan), ``bound`` on the objective."""

    status: str
    values: dict[str, float]
    bound: float


Solver = Callable[[Program, float], Answer]
"""A program and a time limit in seconds to an answer."""


def scaled_row(
    name: str,
    terms: Iterable[tuple[str, Fraction | int]],
    low: Fraction | int | None,
    high: Fraction | int | None,
) -> Row:
    """The row of exact numbers, divided by its largest coefficient."""
    kept = [(variable, Fraction(coefficient)) for variable, coefficient in terms if coefficient]
    unit = max((abs(coefficient) for _, coefficient in kept), default=Fraction(1))
    return Row(
        name,
        tuple((variable, float(coefficient / unit)) for variable, coefficient in kept),
        None if low is None else float(low / unit),
        None if high is None else float(high / unit),
    )
