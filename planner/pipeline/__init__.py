"""Composes the floors: plan.yaml in, a plan and its files out. Knows neither typer nor rich.

Each step takes the values of the one before, so that a command can stop after any of them: ``load_spec``,
``prepare``, ``judge`` (variants and their accuracy), ``profile`` or ``profile_cluster``, ``plan``,
``publish``.
"""

from planner.pipeline.curves import Sweep
from planner.pipeline.dry_run import DryRun, dry_run
from planner.pipeline.engines import take_engines
from planner.pipeline.explaining import explain
from planner.pipeline.inputs import Prepared, prepare, service_of
from planner.pipeline.machines import profile_cluster
from planner.pipeline.made import present_plan, read_plan
from planner.pipeline.planning import plan, publish, write_problem
from planner.pipeline.showing import draw, write_page
from planner.pipeline.steps import Judged, judge, profile
from planner.spec import read_spec as load_spec

__all__ = [
    "DryRun",
    "Judged",
    "Prepared",
    "Sweep",
    "draw",
    "dry_run",
    "explain",
    "judge",
    "load_spec",
    "plan",
    "prepare",
    "present_plan",
    "profile",
    "profile_cluster",
    "publish",
    "read_plan",
    "service_of",
    "take_engines",
    "write_page",
    "write_problem",
]
