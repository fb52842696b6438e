"""Large fleets: many workloads, on many offers, where patterns of instances are too many to list.

Read in this order: ``market`` (what is taken and offered) and ``quotas``, ``covers`` and ``fillings`` (the
two knapsacks), ``master`` and ``bound`` (the relaxation), ``dive`` (one cover for each workload),
``purchase`` and ``packing`` (whole instances), ``direct`` and ``improve`` (better ones), ``place`` and
``solve``.
``docs/formulation-large.md`` has the mathematics in one piece.
"""

from planner.optimize.large.solve import solve_large, unsupported

__all__ = ["solve_large", "unsupported"]
