"""How long requests take at one replica as the rate rises: percentiles of the sojourn, to be drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.capacity.analysis import is_exact
from planner.capacity.arrivals import arrival_times, stream_of
from planner.capacity.service import ServiceLaws
from planner.capacity.simulated import SEED, unloaded_percentile_ns
from planner.capacity.simulation import Replica, simulate
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
        times = [tuple(_exact(replica.laws, rate, workload.slo.budget_ns, percentiles)) for rate in stable]
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
    laws: ServiceLaws, rate_rps: float, budget_ns: float, percentiles: Sequence[float]
) -> Iterator[float]:
    settled = settled_ns(laws)
    seen = sojourn(grid(laws, min(IN_SIGHT * budget_ns, settled * (1 - 1e-9))), rate_rps)
    for percentile in percentiles:
        # Between the horizon and where the tail is exponential nothing is known, and nothing is in sight.
        yield seen.percentile_ns(percentile)


def _simulated(
    replica: Replica, workload: Workload, rates_rps: Sequence[float], percentiles: Sequence[float]
) -> list[tuple[float, ...]]:
    """All rates side by side, by the same random numbers."""
    if not rates_rps:
        return []
    stream, shape = stream_of(workload), (ROWS, REQUESTS)
    arrived = [
        arrival_times(
            stream.arrivals,
            # A replica gets the whole stream at most.
            min(stream.share(rate), 1.0),
            rate / NS_PER_S,
            shape,
            np.random.default_rng((SEED, 0)),
        )
        for rate in rates_rps
    ]
    served = simulate(replica, np.concatenate(arrived), np.random.default_rng((SEED, 1)))
    times = served.sojourn_ns[:, round(REQUESTS * FORGOTTEN) :].reshape(len(rates_rps), -1)
    return [
        tuple(float(ns) for ns in np.percentile(of_rate, percentiles, method="inverted_cdf"))
        for of_rate in times
    ]
