"""The cheapest fleet that serves every workload, as an integer program.

Read in this order: ``patterns`` (what one instance can run), ``formulation`` (the integer program),
``solve`` (the solver, and the only importer of pulp), ``ties`` (the one plan among equally cheap ones),
``explain`` (why another plan lost). ``docs/formulation.md`` has the mathematics in one piece.
"""

from planner.optimize.explain import Choice, RunnerUp, baseline, runner_up
from planner.optimize.patterns import rejections
from planner.optimize.solve import solve

__all__ = ["Choice", "RunnerUp", "baseline", "rejections", "runner_up", "solve"]
