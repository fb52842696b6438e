"""Why a plan is what it is, from its files: every figure is solved for, nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from planner.domain.problem import Candidate, Problem, Solution
from planner.domain.progress import Progress, Step, silent
from planner.domain.reasons import BY_DEVICE, BY_VARIANT, Alternative, Binding, Explanation
from planner.optimize import alternatives, best_or_why, binding, saved
from planner.pipeline.curves import Sweep, check_workload, curve
from planner.pipeline.made import Made
from planner.report import PlanReport

SECONDS = 10.0
_POINT = 0.01
"""By which the headroom is narrowed."""


def explain(
    made: Made,
    sweeps: Sequence[Sweep] = (),
    workload: str | None = None,
    profiles: Path | None = None,
    time_limit_s: float | None = None,
    progress: Progress = silent,
) -> Explanation:
    """Why ``made`` is what it is.

    ``workload``: the one that sweeps, devices and variants are of; None: every one. ``profiles``: the store
    that sweeps over the SLO read, where that is not plan.yaml's. ``time_limit_s`` is that of each plan that
    is solved for; None: what the plan itself took, and at least ``SECONDS``. Raises InputError where a sweep
    cannot be made, and why.
    """
    check_workload(made, workload)
    asked, present = replace(made.problem, keep=None), made.solution
    if time_limit_s is None:
        time_limit_s = max(present.solve_seconds, SECONDS)
    every = [c for c in (*asked.candidates, *made.unmeasured) if workload in (None, c.workload)]
    kinds = {(c.workload, c.device) for c in every}, {(c.workload, c.variant) for c in every}
    steps = len(sweeps) + 1 + sum(map(len, kinds))
    curves = []
    for done, sweep in enumerate(sweeps):
        progress(Step("explaining", sweep.over, done, steps))
        curves.append(curve(made, asked, sweep, workload, profiles, time_limit_s))
    progress(Step("explaining", "limits", len(sweeps), steps))
    # Of another plan than the best one, limits say nothing.
    best = best_or_why(asked, time_limit_s) if present.kept else present
    limits: list[Binding] = []
    if isinstance(best, Solution):
        limits += binding(asked, best, time_limit_s)
        limits += _headrooms(made, asked, best, time_limit_s)
    others: list[Alternative] = []
    progress(Step("explaining", "devices and variants", len(sweeps) + 1, steps))
    for done, other in enumerate(alternatives(asked, present, made.unmeasured, workload, time_limit_s)):
        others.append(other)
        progress(Step("explaining", "devices and variants", len(sweeps) + 2 + done, steps))
    return Explanation(
        objective=present.objective,
        usd_per_hour=present.usd_per_hour,
        amount=present.amount,
        bound_usd_per_hour=present.bound_usd_per_hour,
        proven=present.proven,
        kept=present.kept,
        runner_up=made.report.runner_up.reason,
        alternatives=(*others, *_never_candidates(made.report, others)),
        limits=tuple(limits),
        curves=tuple(curves),
        notes=tuple(_notes(made, present, best)),
    )


def _headrooms(made: Made, asked: Problem, best: Solution, time_limit_s: float) -> Iterator[Binding]:
    """The share of its capacity that each replica keeps free; it is in the capacities, not in the problem."""
    for part in made.report.workloads:
        headroom = part.slo.headroom
        if headroom <= 0:
            continue
        (whole, proven), (step, proven_too) = (
            saved(best, _faster(asked, part.name, (1 - headroom + less) / (1 - headroom)), time_limit_s)
            for less in (headroom, min(_POINT, headroom))
        )
        words = f"workload {part.name}: headroom {headroom:.3g}"
        yield Binding(words, whole, "1 point less", step, proven and proven_too)


def _faster(problem: Problem, workload: str, factor: float) -> Problem:
    def faster(c: Candidate) -> Candidate:
        return replace(
            c,
            capacity_rps=c.capacity_rps * factor,
            packed_capacity_rps=c.packed_capacity_rps * factor,
            classes=tuple((name, rate * factor) for name, rate in c.classes),
        )

    candidates = (faster(c) if c.workload == workload else c for c in problem.candidates)
    return replace(problem, candidates=tuple(candidates))


def _never_candidates(report: PlanReport, known: Sequence[Alternative]) -> Iterator[Alternative]:
    """Devices and variants that fell out before there was anything to solve, with the reason."""
    workload = report.workloads[0].name if len(report.workloads) == 1 else ""
    names = {(a.by, a.name) for a in known}
    for rejection in report.rejections:
        # A device's name has no slash; those of candidates and offers have.
        is_device = rejection.stage == "fleet" and "/" not in rejection.subject
        if not is_device and rejection.stage not in ("variant", "quality"):
            continue
        by = BY_DEVICE if is_device else BY_VARIANT
        if (by, rejection.subject) not in names:
            names.add((by, rejection.subject))
            reason = f"{rejection.stage}: {rejection.reason}"
            yield Alternative(workload, by, rejection.subject, False, None, None, False, reason)


def _notes(made: Made, present: Solution, best: Solution | str) -> Iterator[str]:
    if isinstance(best, str):
        yield f"Limits are not told: {best}"
    elif present.kept:
        yield (
            f"The present plan is kept: the best one costs {best.usd_per_hour:.4g} USD/h, and limits are "
            "told of that."
        )
    if made.unmeasured:
        yield (
            f"Candidates that were not measured in full: {len(made.unmeasured)}. What these would cost is "
            "told by the most that they could take, so at least (≥)."
        )
