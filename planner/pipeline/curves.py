"""The cost of a plan as a curve over its SLO, its rate or its accuracy floor: every point is solved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from planner.domain.problem import Problem, Solution
from planner.domain.reasons import Curve, Point
from planner.errors import InfeasibleError, InputError
from planner.optimize import best_or_why, scaled
from planner.pipeline.made import Made
from planner.pipeline.recomputed import IMPORTED, MEASURED, Recomputed, recomputed
from planner.units import NS_PER_MS

SLO, RATE, FLOOR = "slo", "rate", "floor"
STEPS = 7
_NEAR = 0.05
"""A point no further from the plan's own value, as a share of it, makes way for that."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Over ``slo`` (ms), ``rate`` (requests/s) or ``floor`` (as plan.yaml has it), ``low`` to ``high``.

    Of the ``steps`` each is the same factor more, or the same amount where ``low`` is not above 0.
    """

    over: str
    low: float
    high: float
    steps: int = STEPS

    def values(self, asked: float) -> list[float]:
        """To four digits, with the plan's own value among them where it lies between."""
        last = max(self.steps - 1, 1)
        shares = [i / last for i in range(self.steps)]
        if self.low > 0:
            found = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            found = [self.low + (self.high - self.low) * share for share in shares]
        found = [float(f"{value:.4g}") for value in found]
        if not self.low < asked < self.high:
            return found
        return sorted([asked, *(v for v in found if abs(v - asked) > _NEAR * asked)])


@dataclass(frozen=True, slots=True)
class _Axis:
    """What a curve is over, with the problem ``at`` each value of it; as in ``Curve``."""

    unit: str
    asked: float
    at: Callable[[float], Problem]
    note: str


def curve(
    made: Made,
    problem: Problem,
    sweep: Sweep,
    workload: str | None,
    profiles: Path | None,
    time_limit_s: float,
    more: Callable[[], bool] = lambda: True,
) -> Curve:
    """Of the plan ``made``, which solves ``problem``; ``workload`` is None for the only one, or for all.

    The rates of all workloads change together, by the same factor; then the value is their sum. Points are
    found from the plan's own value outwards, as long as there is time for ``more``. Raises InputError where
    the curve cannot be told.
    """
    name = _workload(made, sweep, workload)
    if sweep.over == RATE:
        axis = _rates(made, problem, name)
    else:
        again = recomputed(made, name, profiles)
        axis = _latencies(again) if sweep.over == SLO else _floors(again)
    values = sorted(sweep.values(axis.asked), key=lambda value: abs(value - axis.asked))
    points = [_point(value, axis, time_limit_s) for value in values if more()]
    points.sort(key=lambda point: point.value)
    return Curve(sweep.over, axis.unit, name, axis.asked, tuple(points), axis.note)


def _rates(made: Made, problem: Problem, workload: str) -> _Axis:
    asked = sum(d.rate_rps for d in problem.demands if workload in ("", d.workload))
    note = IMPORTED if all(part.imported for part in made.report.workloads) else MEASURED
    return _Axis("requests/s", asked, lambda rate: scaled(problem, workload, rate / asked), note)


def _latencies(again: Recomputed) -> _Axis:
    workload = again.spec.workload
    slo = workload.slo

    def at(ms: float) -> Problem:
        return again.problem(replace(workload, slo=replace(slo, latency_ns=round(ms * NS_PER_MS))))

    return _Axis("ms", slo.latency_ns / NS_PER_MS, at, again.note)


def _floors(again: Recomputed) -> _Axis:
    workload = again.spec.workload
    floor = workload.floor
    if floor.minimum is None:
        assert floor.max_drop is not None

        def drop_at(value: float) -> Problem:
            return again.problem(replace(workload, floor=replace(floor, max_drop=value)))

        return _Axis(f"max_drop of {floor.metric}", floor.max_drop, drop_at, again.note)

    def minimum_at(value: float) -> Problem:
        return again.problem(replace(workload, floor=replace(floor, minimum=value)))

    return _Axis(f"minimum {floor.metric}", floor.minimum, minimum_at, again.note)


def check_workload(made: Made, workload: str | None) -> None:
    """Raises InputError where the plan has none of that name."""
    names = [part.name for part in made.report.workloads]
    if workload is not None and workload not in names:
        raise InputError(f"--workload: expected one of {', '.join(names)}, got {workload}")


def _workload(made: Made, sweep: Sweep, workload: str | None) -> str:
    """Empty for all of them."""
    check_workload(made, workload)
    names = [part.name for part in made.report.workloads]
    if workload is None and len(names) > 1 and sweep.over != RATE:
        raise InputError(f"--sweep {sweep.over}: say of which --workload: {', '.join(names)}")
    if workload is not None:
        return workload
    return names[0] if len(names) == 1 else ""


def _point(value: float, axis: _Axis, time_limit_s: float) -> Point:
    try:
        posed = axis.at(value)
        found = best_or_why(posed, time_limit_s)
    except InfeasibleError as error:
        found = str(error)
    if isinstance(found, str):
        return Point(value, None, None, True, "", found)
    return Point(value, found.usd_per_hour, found.amount, found.proven, in_short(posed, found), "")


def in_short(problem: Problem, solution: Solution) -> str:
    """``2 × g6.xlarge int8 + 1 × c7a.large fp32``: of the period that has most of it."""
    type_of = {offer.id: offer.instance_type for offer in problem.offers}
    variant_of = {candidate.id: candidate.variant for candidate in problem.candidates}
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for p in solution.placements:
        variants = ", ".join(dict.fromkeys(variant_of[i] for i, _ in p.pattern.replicas))
        counts[p.period][f"{type_of[p.pattern.offer_id]} {variants}"] += p.instances
    busiest = max(counts.values(), key=lambda held: sum(held.values()), default={})
    return " + ".join(f"{n} × {what}" for what, n in busiest.items())
