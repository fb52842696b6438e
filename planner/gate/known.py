"""A plan as far as its files are there: plan.json alone is enough to compare, its problem tells more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from planner.domain.problem import Problem
from planner.errors import StoreError
from planner.pipeline import read_plan
from planner.report import PlanReport, plan_file, read_report

Part = TypeVar("Part", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Known:
    """``problem``: what the solver saw, None where it does not lie beside the plan: ``missing`` says so."""

    folder: Path
    report: PlanReport
    problem: Problem | None
    missing: str = ""

    @property
    def used(self) -> frozenset[str]:
        """The ids of the candidates that serve."""
        return frozenset(t.candidate_id for p in self.report.fleet.placements for t in p.traffic)

    @property
    def usd_per_hour(self) -> float:
        return self.report.fleet.cost.usd_per_hour


def called(known: Known, name: str) -> Known:
    """The plan with its only workload called ``name``; of several each keeps its name.

    A workload is called after its model's file, unless told otherwise, and a new model often is a new file.
    """
    report = known.report
    if len(report.workloads) != 1 or report.workloads[0].name == name:
        return known

    def named(parts: list[Part]) -> list[Part]:
        return [part.model_copy(update={"workload": name}) for part in parts]

    changes = {
        "workloads": [report.workloads[0].model_copy(update={"name": name})],
        "variants": named(report.variants),
        "candidates": named(report.candidates),
        "engines": named(report.engines),
    }
    problem = known.problem
    if problem is not None:
        problem = replace(
            problem,
            demands=tuple(replace(demand, workload=name) for demand in problem.demands),
            candidates=tuple(replace(candidate, workload=name) for candidate in problem.candidates),
        )
    return replace(known, report=report.model_copy(update=changes), problem=problem)


def known_plan(path: Path) -> Known:
    """``path``: a plan.json, or the folder that it is in. Raises StoreError where there is no plan."""
    file = plan_file(path)
    try:
        made = read_plan(file)
    except StoreError as error:
        return Known(file.resolve().parent, read_report(file), None, str(error))
    return Known(made.folder, made.report, made.problem)
