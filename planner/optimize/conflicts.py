"""Which limits keep a problem from having a plan.

Rates and limits are the elements; a set of them *conflicts* where no fleet meets them all, with the others
left out. Leaving something out never takes a fleet away, so with a set every larger one conflicts. Elements
are first left out one by one, as long as what is left conflicts: that is a conflict none of which can be
spared. Then smaller ones are looked for. Every conflict has an element of every *correction*, a set without
which there is a plan; so if the smallest set that meets all corrections found so far conflicts, no conflict
is smaller, and otherwise it is grown as far as there is a plan, and what remains is one more correction.
Source: Ignatiev, Previti, Liffiton and Marques-Silva, Smallest MUS Extraction with Minimal Hitting Set
Dualization, CP 2015.

Only what is in the smallest conflict can help by itself: ``relaxing`` finds how much of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TypeVar

from planner.domain.problem import Problem
from planner.domain.reasons import Conflict, Relaxation
from planner.errors import InfeasibleError
from planner.optimize.limits import RATE, Limit, in_words, limits_of, rates_of, without
from planner.optimize.patterns import MayServe
from planner.optimize.program import Solver
from planner.optimize.relaxing import OutOfTimeError, Relaxing
from planner.units import format_usd

E = TypeVar("E")
_MOST_SHOWN = 8


class NoFleetError(InfeasibleError):
    """Every workload can be served by something, but no fleet meets all limits."""

    def __init__(self, message: str = "no fleet meets all limits together") -> None:
        super().__init__(message)


class LimitsConflictError(NoFleetError):
    """``conflict`` says which limits are in each other's way."""

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(described(conflict))
        self.conflict = conflict


def described(conflict: Conflict) -> str:
    """In one line, the cheapest change first."""
    shown = conflict.limits
    if len(shown) > _MOST_SHOWN:
        # Those that come last are the limits, which say most.
        shown = (f"{len(shown) - _MOST_SHOWN + 1} rates or limits", *shown[1 - _MOST_SHOWN :])
    together = f"no fleet meets these together: {'; '.join(shown)}"
    if conflict.relaxations is None:
        return together
    if not conflict.relaxations:
        return f"{together}; no single change of them was found that does: relax more than one"
    cheapest, *others = (f"{r.becomes} ({format_usd(r.usd_per_hour)}/h)" for r in conflict.relaxations)
    return f"{together}; {cheapest} would do" + (f"; so would {', or '.join(others)}" if others else "")


def conflict(
    problem: Problem, deadline: float, solver: Solver, may_serve: MayServe, *, relax: bool = True
) -> Conflict:
    """Of a problem without a plan, each of whose workloads can be served by something.

    ``deadline`` by ``perf_counter``: what was found by then, half of the time being for the changes. Without
    ``relax`` these are not looked for.
    """
    relaxing = Relaxing(problem, deadline, solver, may_serve)
    # Limits are left out before rates: of two that are too tight, one is enough to tell.
    elements = (*limits_of(problem), *rates_of(problem))
    until_half = replace(relaxing, deadline=(deadline + perf_counter()) / 2)

    def conflicts(kept: frozenset[Limit]) -> bool:
        if not any(limit.kind == RATE for limit in kept):
            return False
        eased = problem
        # Rates last: what belongs to a workload goes before it does.
        for limit in elements:
            if limit not in kept:
                eased = without(eased, limit)
        return not until_half.has_plan(eased)

    core, smallest = smallest_conflict(elements, conflicts)
    rates_first = sorted(core, key=lambda limit: limit.kind != RATE)
    words = tuple(in_words(problem, limit) for limit in rates_first)
    if not relax:
        return Conflict(words, smallest, None)
    found = list(_relaxations(relaxing, core))
    # To serve less is always cheaper, and rarely what is wanted.
    found.sort(key=lambda pair: (pair[0].kind == RATE, pair[1].usd_per_hour))
    return Conflict(words, smallest, tuple(relaxation for _, relaxation in found))


def smallest_conflict(
    elements: Sequence[E], conflicts: Callable[[frozenset[E]], bool]
) -> tuple[tuple[E, ...], bool]:
    """A conflict of the fewest elements, in their order, and whether it is certain that none has fewer.

    All of them together conflict, and so does every set that is larger than one that does. Where
    ``conflicts`` raises OutOfTimeError, the best found by then.
    """
    every = core = frozenset(elements)
    try:
        for element in elements:
            if conflicts(core - {element}):
                core -= {element}
        corrections: list[frozenset[E]] = []
        while True:
            chosen = _meeting(elements, corrections, len(core) - 1)
            if chosen is None or conflicts(chosen):
                return _ordered(elements, core if chosen is None else chosen), True
            for element in elements:
                if element not in chosen and not conflicts(chosen | {element}):
                    chosen |= {element}
            corrections.append(every - chosen)
    except OutOfTimeError:
        return _ordered(elements, core), False


def _meeting(elements: Sequence[E], corrections: Sequence[frozenset[E]], most: int) -> frozenset[E] | None:
    """The smallest set with an element of each correction; None where that takes more than ``most``."""
    sizes = range(most + 1)
    found = (_meeting_by(elements, corrections, size, frozenset()) for size in sizes)
    return next((chosen for chosen in found if chosen is not None), None)


def _meeting_by(
    elements: Sequence[E], corrections: Sequence[frozenset[E]], size: int, chosen: frozenset[E]
) -> frozenset[E] | None:
    """``chosen`` and up to ``size`` more elements, with one of each correction."""
    missed = sorted((c for c in corrections if c.isdisjoint(chosen)), key=len)
    apart: list[frozenset[E]] = []
    for correction in missed:
        if all(correction.isdisjoint(other) for other in apart):
            apart.append(correction)
    if not missed:
        return chosen
    # Each of those that are apart takes an element of its own.
    if len(apart) > size:
        return None
    tried = (e for e in elements if e in missed[0])
    found = (_meeting_by(elements, missed, size - 1, chosen | {e}) for e in tried)
    return next((more for more in found if more is not None), None)


def _ordered(elements: Sequence[E], kept: frozenset[E]) -> tuple[E, ...]:
    return tuple(element for element in elements if element in kept)


def _relaxations(relaxing: Relaxing, core: Sequence[Limit]) -> Iterator[tuple[Limit, Relaxation]]:
    for limit in core:
        try:
            change = relaxing.least(limit)
            cost = None if change is None else relaxing.cost(change[1])
        except OutOfTimeError:
            continue
        if change is not None and cost is not None:
            yield limit, Relaxation(in_words(relaxing.problem, limit), change[0], float(cost))
