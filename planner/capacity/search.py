"""The largest rate that one replica takes, by a scan for the first rate that fails and a root search there.

The share of late requests need not rise with the rate: batches that are padded, or slower per request than
smaller ones, make it jump, and it can fall again. A bisection over all rates could land beyond a gap. So
the scan walks up from rate 0, in steps that are long where the share of late requests is small.

How long, a property of Poisson arrivals says. Let an event be settled by the arrivals of a time L, and have
probability p_n if they are n. Its probability is P(rate) = sum of p_n (rate L)^n / n! times e^(-rate L). No
coefficient of the series is negative, so P e^(rate L) is convex in the rate, and its logarithm in that of
the rate: between two rates, P is below what their chord says (``_peak``). Whether a request is late is
settled by the arrivals until then, those of the service that it met and those of the one before, but for
what longer busy spells carry on. Steps of one standard deviation of the arrivals in a full batch, which no
change of batch size fits between, are taken without asking the chord.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.capacity.service import Array, ServiceLaws, service_laws
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

SCAN_STEPS = (STEPS // 8, STEPS // 2, STEPS)
"""The scan's lattice is coarser; its tails are mostly good to a few per cent near what is allowed. Where
that puts the crossing too far off, which shows as it is corrected, the scan is repeated on the next."""
UNCLEAR = 1.3
"""The chord certifies with a margin of this factor."""
MEMORY = 2.0
"""Mean services of the largest batch, beyond the budget, whose arrivals settle whether a request is late."""
CLOSEST_TO_LIMIT = 1e-6
"""How far below the limit of stability the highest rate tried is, as a share of it; farther where services
vary much: that far from it, its product with the tail's decay is still well above rounding."""
TOLERANCE = 1e-4
"""The tail at the capacity is at most allowed, and at least allowed * (1 - TOLERANCE)."""
ROUGHLY = 0.01
"""The crossing on the scan's lattice is found to this, in the log of the tail..."""
SLACK = 1.1
"""...and on the fine one it is looked for in the scan's interval, wider by this factor,
unless it is too far off even for that."""
SECANTS = 12
"""Steps until the interval is halved instead."""
LOOSE = 8.0
"""Mean services of the largest batch from which on a budget is worth an exponential bound."""
LEAST = 1e-10
"""Tails are computed to about this."""

Point = tuple[float, float]
"""A rate, and the log of (the late share there, over what is allowed)."""


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
    return capacity_of(service_laws(service_ns, max_batch_size), percentile, budget_ns)


def capacity_of(laws: ServiceLaws, percentile: float, budget_ns: int) -> Capacity:
    """``capacity`` of service times that have been read."""
    check_percentile(percentile)
    if budget_ns <= 0:
        raise ValueError(f"budget_ns must be above 0, got {budget_ns}")
    late = _Late(laws, 1 - percentile / 100, float(budget_ns))
    if late.certain_rps <= 0:
        return Capacity(0.0, alone_percentile_ns(laws, percentile), 0.0, 1.0, 0.0, 0.0)
    found = next(filter(None, (_root(late, *_first_crossing(late, steps), steps) for steps in SCAN_STEPS)))
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
        self.alone = laws.alone_tail(budget_ns)
        self.certain_rps = _certain_rps(laws, allowed, self.alone)
        if self.certain_rps > 0 and budget_ns > LOOSE * float(laws.mean_ns[-1]):
            self.certain_rps = max(self.certain_rps, _loose_rps(laws, allowed - self.alone, budget_ns))
        self.limit_rps = laws.limit_per_ns * NS_PER_S
        varied = 1 + laws.max_batch_size * laws.variance
        self.highest_rps = self.limit_rps * (1 - CLOSEST_TO_LIMIT * math.sqrt(varied))
        self._grids: dict[int, Grid] = {}

    def at(self, rate_rps: float, steps: int) -> tuple[float, Sojourn]:
        if steps not in self._grids:
            self._grids[steps] = grid(self.laws, self.budget_ns, steps)
        found = sojourn(self._grids[steps], rate_rps)
        tail = max(found.tail(self.budget_ns), found.truncated_mass, LEAST)
        return math.log(tail / self.allowed), found

    def scan(self, rate_rps: float, steps: int) -> Point:
        return rate_rps, self.at(rate_rps, steps)[0]

    def settled_by(self, rate_rps: float) -> float:
        """Mean number of arrivals in the time that settles whether a request is late."""
        return rate_rps / NS_PER_S * (self.budget_ns + MEMORY * float(self.laws.mean_ns[-1]))


def _certain_rps(laws: ServiceLaws, allowed: float, alone: float) -> float:
    """A rate that is held for certain; 0 or less where no rate is.

    P(T > x) <= (1 - U) P(S_1 > x) + U, since who finds the engine idle takes S_1; and the utilisation
    U = rate * E[S] / E[b] is at most rate * max over b of E[S_b] / b.
    """
    if allowed - alone <= 1e-12:
        return 0.0
    smallest = (1, *(last + 1 for last in laws.largest[:-1]))
    dearest_ns: float = max(mean / b for mean, b in zip(laws.mean_ns.tolist(), smallest, strict=True))
    return (allowed - alone) / (1 - alone) / dearest_ns * NS_PER_S


def _loose_rps(laws: ServiceLaws, allowed: float, budget_ns: float) -> float:
    """Another such rate, by Chernoff's and Kingman's bounds; 0 if they give none. For loose budgets.

    Let S be as long as any law in every quantile. What a batch of B leaves over is then at most a random walk
    with steps Poisson(rate S) - B, reflected at 0, and above r with probability e^(-y r) at most, where
    E e^(s S) = e^(B y) and rate = s / (e^y - 1). Who comes to a service finds its rest, full batches and
    their own ahead, so that with z = rate * (e^theta - 1) for any theta < y

        P(T > x) <= P(S_1 > x) + rate E[S e^(z S)] E[e^(z S)] y / (y - theta) e^(-z x),

    all of which rises with the rate: it holds for every lower one too.
    """
    slowest = _slowest(laws)
    decay = np.geomspace(2.0, 60.0, 24) / budget_ns
    decay = decay[decay * slowest[-1] < 300]
    y = np.log(np.exp(decay[:, None] * slowest).mean(axis=1)) / laws.max_batch_size
    rate = decay / np.expm1(y)
    share = 1 - 1 / (decay * budget_ns)
    tilt = rate * np.expm1(share * y)
    tilted = np.exp(tilt[:, None] * slowest)
    late = rate * (tilted * slowest).mean(axis=1) * tilted.mean(axis=1) / (1 - share)
    held = rate[late * np.exp(-tilt * budget_ns) <= allowed]
    return float(held.max(initial=0.0)) * NS_PER_S


def _slowest(laws: ServiceLaws) -> Array:
    """Equally likely service times that are at least those of any law, quantile by quantile."""
    ranks = np.arange(1, max(len(samples) for samples in laws.samples_ns) + 1)
    quantiles = [
        samples[np.ceil(ranks * (len(samples) / len(ranks)) - 1e-9).astype(int) - 1]
        for samples in laws.samples_ns
    ]
    return np.asarray(np.max(quantiles, axis=0))


def _first_crossing(late: _Late, steps: int) -> tuple[Point, Point]:
    """Two rates with the first crossing between them; the highest rate there is, twice, if all are held."""
    low: Point = (0.0, math.log(max(late.alone, LEAST) / late.allowed))
    above: list[Point] = []  # evaluated and not yet reached, the next one last
    while low[0] < late.highest_rps:
        if not above:
            above.append(late.scan(_stride(late, low), steps))
        high = above[-1]
        short = _short_step(late, low[0])
        narrow = high[0] <= short * (1 + 1e-9)
        if _peak(late, low, high) <= -math.log(UNCLEAR) or (narrow and high[1] <= 0):
            low = above.pop()
        elif narrow:
            return low, high
        else:
            above.append(late.scan(max(_between(low[0], high[0]), short), steps))
    return low, low


def _short_step(late: _Late, rate_rps: float) -> float:
    """The next rate, one step of one standard deviation on: 1/2 in the root of the arrivals in a full batch.

    The queue at completions spreads at least like that around any mean up to B. Where the mean is small, the
    share of late requests is nearly linear in it, and steps are by a factor of 4.
    """
    per_root = late.limit_rps / late.laws.max_batch_size
    root = math.sqrt(rate_rps / per_root)
    return max(min(root + 0.5, 2 * root) ** 2 * per_root, late.certain_rps)


def _stride(late: _Late, low: Point) -> float:
    """The next rate to try: about as far as ``_peak`` could certify if it were no later there than here."""
    per_count = 1 / late.settled_by(1.0)
    count = math.sqrt(low[0] / per_count) + math.sqrt(max(-low[1], 0.0))
    return min(max(count**2 * per_count, _short_step(late, low[0])), late.highest_rps)


def _peak(late: _Late, low: Point, high: Point) -> float:
    """What the log of the late share, over allowed, is at most between two rates."""
    if late.laws.max_batch_size == 1:  # M/G/1: waits rise with the rate
        return max(low[1], high[1])
    least, most = late.settled_by(low[0]), late.settled_by(high[0])
    if least == 0:
        first, last = math.exp(low[1]), math.exp(min(high[1] + most, 700.0))
        turn = min(max(1 / most - first / (last - first), 0.0), 1.0) if last > first else 0.0
        return math.log(first + (last - first) * turn) - most * turn
    slope = (high[1] - low[1] + most - least) / math.log(most / least)
    turn = min(max(slope, least), most)
    return low[1] + slope * math.log(turn / least) - (turn - least)


def _between(low_rps: float, high_rps: float) -> float:
    return ((math.sqrt(low_rps) + math.sqrt(high_rps)) / 2) ** 2


def _root(late: _Late, low: Point, high: Point, steps: int) -> Sojourn | None:
    """The sojourn at the crossing, on the held side: found on the scan's lattice, corrected on the fine one.

    Aims at the middle of the tolerated values. None where the scan's lattice turns out too coarse.
    """
    aim = -TOLERANCE / 2
    rate, slope = _solve(lambda at: late.scan(at, steps), low, high) if high[1] > 0 else (high[0], 0.0)
    rate = min(rate, late.highest_rps)
    held_rps, failed_rps = low[0] / SLACK, min(high[0] * SLACK, late.highest_rps)
    last: Point | None = None
    for turn in range(60):
        excess, found = late.at(rate, STEPS)
        value = excess - aim
        if abs(value) <= -aim or (value < 0 and rate >= late.highest_rps):
            return found
        if last is not None:
            slope = (value - last[1]) / (rate - last[0])
        last = (rate, value)
        if value > 0:
            failed_rps = rate
        else:
            held_rps = rate
        if failed_rps - held_rps <= 1e-9 * failed_rps:
            break
        rate = rate - value / slope if slope > 0 and turn < SECANTS else math.nan
        if not held_rps < rate < failed_rps:
            if turn == 0 and steps < STEPS:
                return None
            rate = (held_rps + failed_rps) / 2
    return late.at(held_rps, STEPS)[1]


def _solve(at: Callable[[float], Point], low: Point, high: Point) -> tuple[float, float]:
    """Where a value below 0 at ``low`` and above at ``high`` is 0, to ``ROUGHLY``, and the slope there.

    Inverse interpolation through the two ends and the end before them, as long as it converges.
    """
    spare: Point | None = None
    before = math.inf
    for turn in range(60):
        rate = _inverse(low, high, spare)
        if turn % 3 == 2:  # three steps that do not halve the interval are followed by one that does
            if high[0] - low[0] > before / 2:
                rate = (low[0] + high[0]) / 2
            before = high[0] - low[0]
        now = at(rate)
        spare = low if now[1] <= 0 else high
        slope = (now[1] - spare[1]) / (rate - spare[0]) if rate != spare[0] else 0.0
        if abs(now[1]) <= ROUGHLY or high[0] - low[0] <= 1e-9 * high[0]:
            return rate - (now[1] / slope if slope > 0 else 0.0), slope
        low, high = (now, high) if now[1] <= 0 else (low, now)
    return low[0], 0.0


def _inverse(low: Point, high: Point, spare: Point | None) -> float:
    """The rate at value 0 of the inverse parabola through three points, or of the chord if outside."""
    chord = low[0] - low[1] * (high[0] - low[0]) / (high[1] - low[1])
    if spare is None or spare[1] in (low[1], high[1]):
        return chord
    curvature = ((spare[0] - low[0]) / (spare[1] - low[1]) - (high[0] - low[0]) / (high[1] - low[1])) / (
        spare[1] - high[1]
    )
    rate = chord + curvature * low[1] * high[1]
    return rate if low[0] < rate < high[0] else chord
