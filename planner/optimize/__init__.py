"""The best fleet that serves every workload, as an integer program.

Read in this order: ``patterns`` (what one instance can run; ``packing`` and ``slices`` fill it, ``supply``
says what counts), then the short way of plain problems, ``formulation`` and ``ties`` (the one plan among
equally cheap ones), or the full one, ``fleet`` (the numbers), ``rows`` (the integer program), ``stages``
(solved, with ties broken) and ``flows`` (who serves what). ``solve`` chooses between them, ``highs`` is the
only importer of pulp. ``keep`` weighs the present plan, ``explain`` says why another one lost, ``diagnosis``
why there is none, ``problem_json`` reads and writes problems. ``docs/formulation.md`` has the mathematics in
one piece.
"""

from planner.optimize.explain import Choice, RunnerUp, baseline, runner_up
from planner.optimize.patterns import rejections
from planner.optimize.problem_json import dump_problem, dump_solution, json_schema, load_problem, read_problem
from planner.optimize.solve import solve

__all__ = [
    "Choice",
    "RunnerUp",
    "baseline",
    "dump_problem",
    "dump_solution",
    "json_schema",
    "load_problem",
    "read_problem",
    "rejections",
    "runner_up",
    "solve",
]
