"""Which inputs of two plans differ."""

from __future__ import annotations

from planner.report import PlanReport
from planner.report.plan_json import DataPart, WorkloadPart

PLAN_YAML, CATALOG = "plan.yaml", "catalog"


def changed_inputs(before: PlanReport, after: PlanReport) -> tuple[str, ...]:
    """What a plan is made of and is not the same: plan.yaml, the catalog, models, data, profiles that were
    imported, the machine or its libraries, the planner itself. Empty: the plans should be equal but for
    noise."""
    found = []
    if before.inputs.plan_yaml_sha256 != after.inputs.plan_yaml_sha256:
        found.append(PLAN_YAML)
    if before.inputs.catalog_sha256 != after.inputs.catalog_sha256:
        found.append(CATALOG)
    of_before = {workload.name: _made_of(workload) for workload in before.workloads}
    for workload in after.workloads:
        earlier = of_before.get(workload.name, {})
        several = f" of {workload.name}" if len(after.workloads) > 1 else ""
        found += [
            f"{what}{several}" for what, sha256 in _made_of(workload).items() if earlier.get(what) != sha256
        ]
    if _machine(before) != _machine(after):
        found.append("machine or libraries")
    if before.planner_version != after.planner_version:
        found.append("planner")
    return tuple(found)


def _made_of(workload: WorkloadPart) -> dict[str, str | None]:
    return {
        "model": workload.model.sha256 if workload.model else None,
        "calibration data": _digest(workload.calibration),
        "evaluation data": _digest(workload.evaluation),
        "imported profiles": workload.imported.sha256 if workload.imported else None,
    }


def _digest(data: DataPart | None) -> str | None:
    return data.sha256 if data else None


def _machine(report: PlanReport) -> tuple[str | None, ...]:
    here = report.environment.id if report.environment else None
    return (here, *sorted(taken.environment.id for taken in report.taken_in))
