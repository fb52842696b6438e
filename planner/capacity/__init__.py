"""Queueing: from the service times of one replica to the rate it can take within an SLO.

``service`` reads the samples, ``chain`` finds the queue that batches leave behind, ``sojourn`` the time a
request spends, ``search`` the highest rate at which that stays within the budget. docs/capacity.md has the
mathematics, its errors and how it was checked.
"""

from planner.capacity.intervals import CapacityInterval, capacity_interval
from planner.capacity.search import Capacity, capacity
from planner.capacity.servings import candidate_id, cannot_serve, service_times, serving, servings
from planner.capacity.sojourn import sojourn_percentile_ns, sojourn_tail

__all__ = [
    "Capacity",
    "CapacityInterval",
    "candidate_id",
    "cannot_serve",
    "capacity",
    "capacity_interval",
    "service_times",
    "serving",
    "servings",
    "sojourn_percentile_ns",
    "sojourn_tail",
]
