"""A plan that was made before, read back from its folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from planner.domain.problem import Candidate, Keep, Pattern, Placement, Problem, Solution
from planner.errors import StoreError
from planner.optimize import read_measured
from planner.report import PLAN_JSON, PlanReport, read_report
from planner.report.plan_json import PlacementPart


@dataclass(frozen=True, slots=True)
class Made:
    """A plan with the problem that it solves; ``folder`` is where its files are.

    ``unmeasured``: candidates that were not measured in full, with the most that they could take.
    """

    folder: Path
    report: PlanReport
    problem: Problem
    unmeasured: tuple[Candidate, ...]

    @property
    def solution(self) -> Solution:
        report = self.report
        return Solution(
            placements=tuple(map(_placement, report.fleet.placements)),
            usd_per_hour=report.fleet.cost.usd_per_hour,
            bound_usd_per_hour=report.proof.bound_usd_per_hour,
            gap=report.proof.gap,
            proven=report.proof.proven,
            solve_seconds=report.proof.solve_seconds,
            solver=report.proof.solver,
            objective=report.objective,
            amount=report.proof.amount,
            amount_bound=report.proof.amount_bound,
            kept=report.kept,
        )


def read_plan(path: Path) -> Made:
    """``path``: a plan.json, or the folder that it is in. Raises StoreError where that or its problem is
    missing, or the two do not belong together."""
    file = _plan_json(path)
    report = read_report(file)
    folder = file.resolve().parent
    source = folder / report.files.problem
    try:
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
    except OSError as error:
        raise StoreError(f"{source}: cannot be read ({error.strerror}); make the plan again") from None
    if digest != report.files.problem_sha256:
        raise StoreError(f"{source}: not the problem that {file} solves; make the plan again")
    return Made(folder, report, *read_measured(source))


def present_plan(path: Path, least_saving: float) -> Keep:
    """The plan that a new one is weighed against. ``path`` and errors as for ``read_plan``.

    Its placements name candidates and offers by their ids; whether these still exist is the solver's to say.
    """
    report = read_report(_plan_json(path))
    return Keep(tuple(map(_placement, report.fleet.placements)), least_saving)


def candidates_of(present: Keep) -> frozenset[str]:
    """The ids of the candidates that it runs."""
    return frozenset(i for p in present.placements for i, _ in p.pattern.replicas)


def _plan_json(path: Path) -> Path:
    return path / PLAN_JSON if path.is_dir() else path


def _placement(part: PlacementPart) -> Placement:
    replicas = tuple(sorted((t.candidate_id, t.replicas_per_instance) for t in part.traffic))
    return Placement(
        pattern=Pattern(part.offer_id, replicas, part.extrapolated),
        instances=part.instances,
        flow_rps=tuple((t.candidate_id, t.rate_rps) for t in part.traffic),
        usd_per_hour=part.usd_per_hour,
        period=part.period,
        zone=part.zone,
        class_flow_rps=tuple(
            (t.candidate_id, name, rate) for t in part.traffic for name, rate in t.classes.items()
        ),
    )
