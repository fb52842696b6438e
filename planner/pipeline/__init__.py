"""Composes the floors: plan.yaml in, a plan and its files out. Knows neither typer nor rich.

Each step takes the values of the one before, so that a command can stop after any of them: ``load_spec``,
``prepare``, ``judge`` (variants and their accuracy), ``profile`` or ``profile_cluster``, ``plan``,
``publish``.
"""

from planner.pipeline.dry_run import DryRun, dry_run
from planner.pipeline.inputs import Prepared, load_spec, prepare
from planner.pipeline.machines import profile_cluster
from planner.pipeline.planning import plan, publish
from planner.pipeline.steps import Judged, judge, profile

__all__ = [
    "DryRun",
    "Judged",
    "Prepared",
    "dry_run",
    "judge",
    "load_spec",
    "plan",
    "prepare",
    "profile",
    "profile_cluster",
    "publish",
]
