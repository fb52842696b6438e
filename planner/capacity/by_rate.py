"""How long requests take at one replica as the rate rises: percentiles of the sojourn, to be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.capacity.analysis import is_exact
from planner.capacity.arrivals import stream_of
from planner.capacity.service import ServiceLaws
from planner.capacity.simulated import sojourns_ns, unloaded_percentile_ns
from planner.capacity.simulation import Replica
from planner.capacity.sojourn import grid, settled_ns, sojourn
from planner.domain.workload import Workload
from planner.units import NS_PER_S

ROWS, REQUESTS = 32, 1_500
"""Runs at each rate, and requests of each: enough for a curve, too few to promise by."""
FORGOTTEN = 1 / 3
"""The share of a run that is left out at its beginning."""
IN_SIGHT = 2.0
"""What is above so many times the SLO's budget is infinite here: nobody asks how long it is."""


@dataclass(frozen=True, slots=True)
class SojournByRate:
    """``sojourn_ns``: of each rate, each percentile; infinite where it is far above the SLO's budget."""

    percentiles: tuple[float, ...]
    rates_rps: tuple[float, ...]
    sojourn_ns: tuple[tuple[float, ...], ...]
    simulated: bool


def sojourn_by_rate(
    replica: Replica, workload: Workload, rates_rps: Sequence[float], percentiles: Sequence[float]
) -> SojournByRate:
    """Exact where ``analysis.is_exact``, else by short simulations. Queues count even where the workload
    asks for a capacity that ignores them."""
    exact = is_exact(replica, workload)
    limit_rps = replica.limit_per_ns * NS_PER_S
    stable = [rate for rate in rates_rps if 0 < rate < limit_rps]
    if exact:
        times = _exact(replica.laws, workload.slo.budget_ns, stable, percentiles)
    else:
        times = _simulated(replica, workload, stable, percentiles)
    at = dict(zip(stable, times, strict=True))
    in_sight = IN_SIGHT * workload.slo.budget_ns
    found = []
    for rate in rates_rps:
        alone = rate < limit_rps and rate not in at
        seen = [unloaded_percentile_ns(replica, p) for p in percentiles] if alone else at.get(rate)
        found.append(
            tuple(ns if ns <= in_sight else math.inf for ns in seen or [math.inf] * len(percentiles))
        )
    return SojournByRate(tuple(percentiles), tuple(rates_rps), tuple(found), not exact)


def _exact(
    laws: ServiceLaws, budget_ns: float, rates_rps: Sequence[float], percentiles: Sequence[float]
) -> list[tuple[float, ...]]:
    # Between the horizon and where the tail is exponential nothing is known, and nothing is in sight.
    on = grid(laws, min(IN_SIGHT * budget_ns, settled_ns(laws) * (1 - 1e-9)))
    seen = (sojourn(on, rate) for rate in rates_rps)
    return [tuple(of_rate.percentile_ns(percentile) for percentile in percentiles) for of_rate in seen]


def _simulated(
    replica: Replica, workload: Workload, rates_rps: Sequence[float], percentiles: Sequence[float]
) -> list[tuple[float, ...]]:
    """All rates side by side, by the same random numbers."""
    if not rates_rps:
        return []
    sojourns = sojourns_ns(replica, stream_of(workload), rates_rps, (ROWS, REQUESTS))
    return [
        tuple(float(ns) for ns in np.percentile(of_rate, percentiles, method="inverted_cdf"))
        for of_rate in sojourns[:, :, round(REQUESTS * FORGOTTEN) :]
    ]
