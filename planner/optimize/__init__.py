"""The best fleet that serves every workload, as an integer program.

Read in this order: ``patterns`` (what one instance can run; ``packing`` and ``slices`` fill it, ``supply``
says what counts), then the short way of plain problems, ``formulation`` and ``ties`` (the one plan among
equally cheap ones), or the full one, ``fleet`` (the numbers), ``rows`` (the integer program), ``stages``
(solved, with ties broken) and ``flows`` (who serves what). ``solve`` chooses between them, ``highs`` is the
only importer of pulp. ``keep`` weighs the present plan. Why this plan: ``explain`` (what comes next),
``alternatives`` (one device or variant alone), ``binding`` (what limits cost). Why none: ``diagnosis`` (what
serves nothing), ``conflicts`` (``limits`` in each other's way) and ``relaxing`` (the least that would help).
``problem_json`` reads and writes problems. ``docs/formulation.md`` has the mathematics in one piece.
"""

from planner.optimize.alternatives import alternatives
from planner.optimize.binding import binding, saved, saving
from planner.optimize.conflicts import LimitsConflictError, NoFleetError
from planner.optimize.explain import Choice, RunnerUp, baseline, runner_up
from planner.optimize.full import Full, cheapest_when_full
from planner.optimize.limits import scaled, with_demand
from planner.optimize.patterns import rejections
from planner.optimize.problem_json import (
    dump_problem,
    dump_solution,
    json_schema,
    load_problem,
    read_measured,
    read_problem,
)
from planner.optimize.solve import best_or_why, solve

__all__ = [
    "Choice",
    "Full",
    "LimitsConflictError",
    "NoFleetError",
    "RunnerUp",
    "alternatives",
    "baseline",
    "best_or_why",
    "binding",
    "cheapest_when_full",
    "dump_problem",
    "dump_solution",
    "json_schema",
    "load_problem",
    "read_measured",
    "read_problem",
    "rejections",
    "runner_up",
    "saved",
    "saving",
    "scaled",
    "solve",
    "with_demand",
]
