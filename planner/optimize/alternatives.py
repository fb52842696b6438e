"""What a plan would cost that serves a workload by one kind of device, or one variant: by some of it, and by
it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from planner.domain.problem import ACCURACY, Candidate, Problem, Solution
from planner.domain.reasons import BY_DEVICE, BY_VARIANT, Alternative, Cost
from planner.optimize.binding import amount
from planner.optimize.patterns import TooManyWaysError
from planner.optimize.program import Solver
from planner.optimize.solve import best_or_why, best_with, run_highs

_OF: dict[str, Callable[[Candidate], str]] = {BY_DEVICE: lambda c: c.device, BY_VARIANT: lambda c: c.variant}


def alternatives(
    problem: Problem,
    best: Solution,
    unmeasured: Sequence[Candidate] = (),
    workload: str | None = None,
    time_limit_s: float = 60.0,
    *,
    solver: Solver = run_highs,
) -> Iterator[Alternative]:
    """Of every workload, or one, by every kind of device and every variant that there is a candidate of.

    The other workloads are served as is best with that. ``best`` is the plan that costs are weighed against.
    ``unmeasured``: candidates with the most that they could take; where one of these makes plans better,
    costs are the least that they can be. ``time_limit_s`` is that of each plan.
    """
    asked = replace(problem, keep=None)
    wider = replace(asked, candidates=(*asked.candidates, *unmeasured))
    by_id = {c.id: c for c in wider.candidates}
    serving = [by_id[i] for p in best.placements for i, _ in p.pattern.replicas]
    search = _Search(best, time_limit_s, solver)
    for w in sorted(d.workload for d in asked.demands if workload in (None, d.workload)):
        for by, of in _OF.items():
            for name in sorted({of(c) for c in wider.candidates if c.workload == w}):
                mine = [c for c in wider.candidates if c.workload == w and of(c) == name]
                used = any(c in mine for c in serving)
                measured = [c for c in mine if c in asked.candidates]
                found = search.found(asked, measured, used)
                at_least = False
                if len(measured) < len(mine):
                    perhaps = search.found(wider, mine, used)
                    at_least = perhaps.better(found)
                    found = perhaps if at_least else found
                reason = "" if used else search.ruled_out(found, at_least)
                yield Alternative(w, by, name, used, _cost(found.some), _cost(found.alone), at_least, reason)


@dataclass(frozen=True, slots=True)
class _Found:
    """``alone``: or why there is no such plan."""

    some: Solution | None
    alone: Solution | str

    def better(self, other: _Found) -> bool:
        alone = None if isinstance(self.alone, str) else self.alone
        others = None if isinstance(other.alone, str) else other.alone
        return _better(self.some, other.some) or _better(alone, others)


@dataclass(frozen=True, slots=True)
class _Search:
    best: Solution
    time_limit_s: float
    solver: Solver

    def found(self, problem: Problem, mine: Sequence[Candidate], used: bool) -> _Found:
        if not mine:
            return _Found(None, "")
        w = mine[0].workload
        kept = tuple(c for c in problem.candidates if c.workload != w or c in mine)
        alone = best_or_why(replace(problem, candidates=kept), self.time_limit_s, solver=self.solver)
        if used:
            return _Found(self.best, alone)
        try:
            some = best_with(problem, mine, self.time_limit_s, solver=self.solver)
        except TooManyWaysError:
            some = None
        # All by it is some by it, and where time was short the better one of what was found.
        if not isinstance(alone, str) and _better(alone, some):
            some = alone
        return _Found(some, alone)

    def ruled_out(self, found: _Found, at_least: bool) -> str:
        if found.some is None:
            return found.alone if isinstance(found.alone, str) else ""
        if self.best.amount is not None and found.some.amount != self.best.amount:
            what = f"{found.some.objective} {found.some.amount:.4g} instead of {self.best.amount:.4g}"
        else:
            extra = found.some.usd_per_hour / self.best.usd_per_hour - 1
            what = f"costs {extra:.1%} more" if extra >= 0.0005 else "costs no less"
        return f"{what}, by the most that it could take; not measured in full" if at_least else what


def _better(one: Solution | None, other: Solution | None) -> bool:
    if one is None or other is None:
        return one is not None
    sign = -1 if one.objective == ACCURACY else 1
    return sign * amount(one) < sign * amount(other)


def _cost(found: Solution | str | None) -> Cost | None:
    if found is None or isinstance(found, str):
        return None
    return Cost(found.usd_per_hour, found.amount, found.proven)
