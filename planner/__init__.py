"""Hardware-aware deployment planner for ML inference.

``from planner import plan`` gives the pipeline as a call: ``plan("plan.yaml")`` returns the report that the
terminal program writes as plan.json. Nothing heavy is imported before that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.domain.progress import Progress
    from planner.report import PlanReport

__all__ = ["plan"]


def plan(
    spec: str | Path,
    output: str | Path | None = None,
    progress: Progress | None = None,
    exhaustive: bool = False,
    page: bool = True,
) -> PlanReport:
    """Plan for the plan.yaml at ``spec`` and write plan.json, report.html and the engines, as ``planner
    plan`` does.

    ``output`` overrides the file's output folder; ``exhaustive`` measures everything that can serve;
    ``page``: whether report.html is drawn (where that fails, there is a warning). Raises the errors of
    ``planner.errors``.
    """
    import warnings

    from planner import pipeline
    from planner.domain.progress import silent

    loaded = pipeline.load_spec(Path(spec), Path(output) if output is not None else None)
    made = pipeline.plan(loaded, progress=progress or silent, exhaustive=exhaustive)
    report = pipeline.publish(made, loaded)
    pipeline.draw(loaded.output, page, warnings.warn)
    return report
