"""What was seen of a replica that really served, beside what the plan predicts of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observed:
    """One candidate's replica under load. Times in ms; None: could not be seen from where it was driven.

    ``percentile``: the SLO's; ``measured_ms`` is it of the sojourn, with its interval. ``predicted_ms`` holds
    the batcher's own ``overhead_ms`` of a request, which the profile's service times do not.
    ``service_ratio``: mean service time over the profile's, batch size by batch size. ``arrival_cv``: of the
    times between requests. ``valid``: the load generator's own rules for a valid run were kept.
    """

    candidate_id: str
    workload: str
    rate_rps: float
    """At which requests really came; and at which they should have."""
    asked_rps: float
    percentile: float
    budget_ms: float
    measured_ms: float
    measured_low_ms: float
    measured_high_ms: float
    predicted_ms: float
    overhead_ms: float
    requests: int
    valid: bool
    predicted_batch_size: float | None = None
    mean_batch_size: float | None = None
    service_ratio: float | None = None
    arrival_cv: float | None = None
    planned_cv: float = 1.0
    highest_rps: float | None = None
    """The highest rate that really held, where that was searched for."""
    planned_capacity_rps: float | None = None
