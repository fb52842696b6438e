"""A plan's files: plan.json and the engines with their manifest."""

from planner.report.engines import ENGINES_FOLDER, Deployed, Engine, read_engines, write_engines
from planner.report.from_plan import to_report
from planner.report.plan_json import EnginePart, PlanReport, dump, json_schema, read_report

__all__ = [
    "ENGINES_FOLDER",
    "Deployed",
    "Engine",
    "EnginePart",
    "PlanReport",
    "dump",
    "json_schema",
    "read_engines",
    "read_report",
    "to_report",
    "write_engines",
]
