"""A plan's files: plan.json and the engines with their manifest; and what is told of it."""

from planner.report.engines import ENGINES_FOLDER, Deployed, Engine, engine_of, read_engines, write_engines
from planner.report.explanation_json import dump_explanation, explanation_schema
from planner.report.from_plan import to_report
from planner.report.plan_json import (
    PLAN_JSON,
    EnginePart,
    FilesPart,
    PlanReport,
    dump,
    json_schema,
    plan_file,
    read_report,
)

__all__ = [
    "ENGINES_FOLDER",
    "PLAN_JSON",
    "Deployed",
    "Engine",
    "EnginePart",
    "FilesPart",
    "PlanReport",
    "dump",
    "dump_explanation",
    "engine_of",
    "explanation_schema",
    "json_schema",
    "plan_file",
    "read_engines",
    "read_report",
    "to_report",
    "write_engines",
]
