"""Queueing: from the service times of one replica to the rate it can take within an SLO.

``service`` reads the samples, ``chain`` finds the queue that batches leave behind, ``sojourn`` the time a
request spends, ``search`` the highest rate at which that stays within the budget. Where these do not apply,
``arrivals`` come to a replica of ``simulation``, and ``simulated`` searches; ``saturated`` ignores queues.
``analysis`` chooses, ``servings`` makes candidates of it. docs/capacity.md has the mathematics, its errors
and how it was checked.
"""

from planner.capacity.analysis import (
    Analysis,
    analyse,
    at_most_rps,
    best_delay,
    sojourn_percentile_at,
)
from planner.capacity.arrivals import Stream, arrival_times, stream_of
from planner.capacity.by_rate import SojournByRate, sojourn_by_rate
from planner.capacity.classes import (
    Taken,
    best_of_classes,
    classes_at_most,
    classes_certainty,
    classes_replica,
    packed_classes,
    parts_of,
    subsets,
)
from planner.capacity.intervals import CapacityInterval, capacity_interval, certainty
from planner.capacity.mixed import mixed_laws
from planner.capacity.saturated import saturated_rps
from planner.capacity.search import Capacity, capacity, capacity_of
from planner.capacity.service import ServiceLaws, service_laws
from planner.capacity.servings import (
    candidate_id,
    cannot_serve,
    instances_of,
    no_instances,
    replica_by_class,
    replica_of,
    service_times,
    serving,
    servings,
)
from planner.capacity.simulated import SimulatedCapacity, simulated_capacity
from planner.capacity.simulation import Replica, Served, simulate
from planner.capacity.sojourn import sojourn_percentile_ns, sojourn_tail

__all__ = [
    "Analysis",
    "Capacity",
    "CapacityInterval",
    "Replica",
    "Served",
    "ServiceLaws",
    "SimulatedCapacity",
    "SojournByRate",
    "Stream",
    "Taken",
    "analyse",
    "arrival_times",
    "at_most_rps",
    "best_delay",
    "best_of_classes",
    "candidate_id",
    "cannot_serve",
    "capacity",
    "capacity_interval",
    "capacity_of",
    "certainty",
    "classes_at_most",
    "classes_certainty",
    "classes_replica",
    "instances_of",
    "mixed_laws",
    "no_instances",
    "packed_classes",
    "parts_of",
    "replica_by_class",
    "replica_of",
    "saturated_rps",
    "service_laws",
    "service_times",
    "serving",
    "servings",
    "simulate",
    "simulated_capacity",
    "sojourn_by_rate",
    "sojourn_percentile_at",
    "sojourn_percentile_ns",
    "sojourn_tail",
    "stream_of",
    "subsets",
]
