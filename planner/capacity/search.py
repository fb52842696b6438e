"""The largest rate that one replica takes, by a scan for the first rate that fails and a root search there.

The share of late requests need not rise with the rate: batches that are padded, or slower per request than
smaller ones, make it jump, and it can fall again. A bisection over all rates could land beyond a gap. So
the scan walks up from a rate that is certainly held, in steps that no change of batch size fits between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.capacity.service import ServiceLaws, service_laws
from planner.capacity.sojourn import (
    STEPS,
    Grid,
    Sojourn,
    alone_percentile_ns,
    check_percentile,
    grid,
    sojourn,
)
from planner.units import NS_PER_S

SCAN_STEPS = STEPS // 4
"""The scan's lattice is coarser..."""
UNCLEAR = 1.3
"""...and asks the fine one where its tail is within this factor of what is allowed."""
CLOSEST_TO_LIMIT = 1 - 1e-6
"""The highest rate tried, as a share of the limit of stability."""
TOLERANCE = 1e-4
"""The tail at the capacity is at most allowed, and at least allowed * (1 - TOLERANCE)."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica takes at a max batch size, for one SLO."""

    rate_rps: float
    """0 where nothing holds."""
    sojourn_percentile_ns: float
    """The SLO's percentile of the sojourn time at ``rate_rps``; of a request alone where that is 0."""
    utilisation: float
    """P(engine busy) at ``rate_rps``."""
    mean_batch_size: float
    truncated_mass: float
    """Probability that the computation may have lost or misplaced, lattice aside."""
    lattice_step_ns: float
    """Resolution of the service times; 0 where only the raw samples were needed."""


def capacity(
    service_ns: Mapping[int, Sequence[int]], max_batch_size: int, percentile: float, budget_ns: int
) -> Capacity:
    """The largest Poisson rate at which, and below which, the sojourn's percentile is within ``budget_ns``.

    ``service_ns`` maps each measured batch size to its raw samples; batches between two measured sizes are
    padded. Whether there are samples enough for the percentile is the caller's to judge. ValueError names a
    wrong argument.
    """
    laws = service_laws(service_ns, max_batch_size)
    check_percentile(percentile)
    if budget_ns <= 0:
        raise ValueError(f"budget_ns must be above 0, got {budget_ns}")
    late = _Late(laws, 1 - percentile / 100, float(budget_ns))
    certain = _certain_rps(laws, late.allowed, budget_ns)
    if certain <= 0:
        return Capacity(0.0, alone_percentile_ns(laws, percentile), 0.0, 1.0, 0.0, 0.0)
    found = _first_crossing(late, certain)
    return Capacity(
        rate_rps=found.rate_rps,
        sojourn_percentile_ns=found.percentile_ns(percentile),
        utilisation=found.utilisation,
        mean_batch_size=found.mean_batch_size,
        truncated_mass=found.truncated_mass,
        lattice_step_ns=found.step_ns,
    )


class _Late:
    """log(P(T > budget) / allowed) as a function of the rate: above 0 where the SLO fails."""

    def __init__(self, laws: ServiceLaws, allowed: float, budget_ns: float) -> None:
        self.laws, self.allowed, self.budget_ns = laws, allowed, budget_ns
        self.coarse: Grid = grid(laws, budget_ns, SCAN_STEPS)
        self.fine: Grid = grid(laws, budget_ns)

    def excess(self, at: Sojourn) -> float:
        return math.log(max(at.tail(self.budget_ns), 1e-12) / self.allowed)

    def scan(self, rate_rps: float) -> float:
        rough = self.excess(sojourn(self.coarse, rate_rps))
        return rough if abs(rough) > math.log(UNCLEAR) else self.excess(sojourn(self.fine, rate_rps))


def _certain_rps(laws: ServiceLaws, allowed: float, budget_ns: float) -> float:
    """A rate that is held for certain; 0 or less where no rate is.

    P(T > x) <= (1 - U) P(S_1 > x) + U, since who finds the engine idle takes S_1; and the utilisation
    U = rate * E[S] / E[b] is at most rate * max over b of E[S_b] / b.
    """
    alone = laws.alone_tail(budget_ns)
    if allowed - alone <= 1e-12:
        return 0.0
    smallest = (1, *(last + 1 for last in laws.largest[:-1]))
    dearest_ns: float = max(mean / b for mean, b in zip(laws.mean_ns.tolist(), smallest, strict=True))
    return (allowed - alone) / (1 - alone) / dearest_ns * NS_PER_S


def _scan_rates(laws: ServiceLaws, start_rps: float) -> Iterator[float]:
    """Rates from ``start_rps`` to just below the limit of stability.

    With a = rate * E[S_B], the queue at completions spreads at least like Poisson(b) around any b up to a:
    a step of one standard deviation, 1/2 in sqrt(a), cannot hide the queue's passing a batch size. Where
    a is small, the share of late requests is nearly linear in it, and steps are by a factor of 4.
    """
    limit_rps = laws.limit_per_ns * NS_PER_S
    rate = start_rps
    while rate < limit_rps * CLOSEST_TO_LIMIT:
        yield rate
        root = math.sqrt(rate / limit_rps * laws.max_batch_size)
        rate = limit_rps / laws.max_batch_size * min(root + 0.5, 2 * root) ** 2
    yield limit_rps * CLOSEST_TO_LIMIT


def _first_crossing(late: _Late, start_rps: float) -> Sojourn:
    held_rps, held = 0.0, -math.inf
    for rate_rps in _scan_rates(late.laws, start_rps):
        excess = late.scan(rate_rps)
        if excess > 0:
            if held_rps == 0:
                break
            return _root(late, (held_rps, held), (rate_rps, excess))
        held_rps, held = rate_rps, excess
    return sojourn(late.fine, held_rps or start_rps)


def _root(late: _Late, held: tuple[float, float], failed: tuple[float, float]) -> Sojourn:
    """Illinois: a secant step, halving the value of an end that stays twice. Returns the side that holds.

    Aims at the middle of the tolerated values, so as to end on the held side.
    """
    aim = -TOLERANCE / 2
    (low, low_value), (high, high_value) = (held[0], held[1] - aim), (failed[0], failed[1] - aim)
    best = None
    for _ in range(60):
        rate = high - high_value * (high - low) / (high_value - low_value)
        now = sojourn(late.fine, rate)
        value = late.excess(now) - aim
        if value > 0:
            high, high_value, low_value = rate, value, low_value / 2
        else:
            best = now
            low, low_value, high_value = rate, value, high_value / 2
        if abs(value) <= -aim or high - low <= 1e-9 * high:
            break
    if best is None or late.excess(best) > 0:
        return sojourn(late.fine, low)
    return best
