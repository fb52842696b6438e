"""Large fleets: many workloads, on many offers, at once, where patterns of instances are too many to list.

Read in this order: ``market`` (what is taken and offered), ``covers`` and ``fillings`` (the two knapsacks),
``master`` and ``bound`` (the relaxation), ``dive``, ``fit``, ``purchase`` (whole instances), ``place``,
``solve``. ``docs/formulation-large.md`` has the mathematics in one piece.
"""

from planner.optimize.large.solve import solve_large, unsupported

__all__ = ["solve_large", "unsupported"]
