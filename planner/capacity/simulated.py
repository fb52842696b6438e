"""The capacity of one replica where no exact analysis applies: by simulation, with an interval.

**What is estimated.** Independent runs, each empty at first, of which the beginning is left out; the share of
late requests of a rate is the mean over the runs, its interval that of Student's t over them. The capacity is
the largest rate at which, and at every lower one that was tried, the percentile is within the budget.

**Search.** Short runs over the whole range of rates bracket the first that fails, denser ones narrow it down.
Then the lower end is solved for: the rate at which the *upper* end of the interval of late requests is what
is allowed, by runs of a million requests or more. They share their random numbers, so that it is nearly a
smooth function of the rate, which a line through the logarithms of two points follows well.

**How long is the beginning?** In heavy traffic the work that waits is a Brownian motion, reflected at 0, that
drifts down by theta per service and has a variance of s^2 = cv_a^2 / B + cv_s^2: its tail falls like
e^(-2 theta x / s^2), and it forgets where it started in 2 s^2 / theta^2 services. Where a tail of about a per
cent is reached after the n services that fit into the budget, theta is 2.3 s^2 / n. Twice the time is left
out. So that runs do not grow without end, nothing above 98 % of the limit of stability is promised (less
where service times vary much in large batches).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from planner.capacity.arrivals import Stream, arrival_times
from planner.capacity.service import Array, ranked_ns
from planner.capacity.simulation import Replica, simulate
from planner.capacity.sojourn import check_percentile
from planner.units import NS_PER_S

REQUESTS = 1_000_000
"""At least so many are judged for what is promised; those left out at the beginning come on top."""
SEED = 20_260_722
CONFIDENCE = 0.95
"""One-sided, of each end."""
SLACK = 0.02
"""How far below the limit of stability rates stay, as a share of it."""
FORGOTTEN = 200_000
"""Requests that a run may leave out, at most; where that is not enough, the slack is more."""
ROWS = (16, 400)
"""Runs, the fewest and the most."""
SCAN_RATES, SCAN_ROWS, SCAN_REQUESTS = 16, 16, 1_500
"""Of the first look, and of the second, which has half the rates and twice the requests."""
SCAN_FORGOTTEN = 4_000
CLEARLY = 2.0
"""Standard errors by which a rate of the scan has to fail."""
CLOSE = 0.04
"""The search ends where the late share's upper end is this share below what is allowed, or less..."""
NEAR = 0.004
"""...or where no more than this share of the rate is to be gained."""
TURNS, LEAST_STEP = 10, 0.002
APART = 0.01
"""Rates this share apart tell how steep it is there, within a factor of 2 of the scan's line."""
STEEPEST, FLATTEST = 60.0, 0.5
"""The late share grows like the rate to a power between these, for the search's steps."""


@dataclass(frozen=True, slots=True)
class SimulatedCapacity:
    """``low_rps`` holds at 95 % confidence; the other two are where the estimate of the late share, and its
    lower end, are what is allowed. What follows was seen at ``low_rps``, or of a request alone where that is
    0."""

    low_rps: float
    rate_rps: float
    high_rps: float
    sojourn_percentile_ns: float
    utilisation: float
    mean_batch_size: float
    requests: int
    """That were judged at ``low_rps``."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Runs at one rate. ``late``: the share of late requests of each run."""

    rate_rps: float
    late: Array
    sojourn_percentile_ns: float
    utilisation: float
    mean_batch_size: float
    requests: int

    @property
    def share(self) -> float:
        return float(self.late.mean())

    @property
    def half_width(self) -> float:
        """Of the interval: from the share to each of its ends."""
        runs = len(self.late)
        return float(special.stdtrit(runs - 1, CONFIDENCE)) * float(self.late.std(ddof=1)) / math.sqrt(runs)


@dataclass(frozen=True, slots=True)
class _Asked:
    replica: Replica
    stream: Stream
    percentile: float
    budget_ns: float

    @property
    def allowed(self) -> float:
        return 1 - self.percentile / 100

    @property
    def limit_rps(self) -> float:
        """Of stability."""
        return self.replica.limit_per_ns * NS_PER_S

    @property
    def most_rps(self) -> float:
        slack = math.sqrt(4 * self._variance * self.replica.laws.max_batch_size / FORGOTTEN)
        return self.limit_rps * (1 - min(max(SLACK, slack), 0.5))

    @property
    def forgotten(self) -> int:
        """Requests of a run until it has forgotten that it was empty."""
        services = self.replica.instances * self.budget_ns / float(self.replica.laws.mean_ns[-1])
        drift = max(2.3 * self._variance / services, 1 - self.most_rps / self.limit_rps)
        batches = 4 * self._variance / drift**2
        return math.ceil(self.replica.laws.max_batch_size * (batches + 10)) + 50

    @property
    def _variance(self) -> float:
        """Of the work that comes in a service less what is done, in services."""
        laws = self.replica.laws
        return self.stream.variance / laws.max_batch_size + laws.variance


def simulated_capacity(
    replica: Replica, stream: Stream, percentile: float, budget_ns: int, requests: int = REQUESTS
) -> SimulatedCapacity:
    """The rate that ``replica`` takes of ``stream`` within the SLO, by ``requests`` or more at the end.

    Kept: what a plan is guided by is also what it reports. ValueError names a wrong argument.
    """
    check_percentile(percentile)
    if budget_ns <= 0:
        raise ValueError(f"budget_ns must be above 0, got {budget_ns}")
    return _capacity(replica, stream, percentile, budget_ns, requests)


@lru_cache(maxsize=4096)
def _capacity(
    replica: Replica, stream: Stream, percentile: float, budget_ns: int, requests: int
) -> SimulatedCapacity:
    asked = _Asked(replica, stream, percentile, float(budget_ns))
    alone_ns = unloaded_percentile_ns(replica, percentile)
    if alone_ns > budget_ns:
        return SimulatedCapacity(0.0, 0.0, 0.0, alone_ns, 0.0, 1.0, 0)
    return _lower_end(asked, _bracket(asked), requests)


def rough_capacity_rps(replica: Replica, stream: Stream, percentile: float, budget_ns: int) -> float:
    """About the capacity, by short runs: to tell what is worth a closer look."""
    if unloaded_percentile_ns(replica, percentile) > budget_ns:
        return 0.0
    return _bracket(_Asked(replica, stream, percentile, float(budget_ns))).rate_rps


def simulated_percentile_ns(
    replica: Replica, stream: Stream, share: float, rate_rps: float, percentile: float, budget_ns: int
) -> float:
    """The sojourn's percentile at ``rate_rps`` and a share of the stream, estimated by a million requests.

    Infinite where the queue is unstable; ``budget_ns`` only says for how long a queue is remembered.
    """
    asked = _Asked(replica, stream, percentile, float(budget_ns))
    if rate_rps <= 0:
        return unloaded_percentile_ns(replica, percentile)
    if rate_rps >= asked.limit_rps:
        return math.inf
    return _judge(asked, rate_rps, REQUESTS, share).sojourn_percentile_ns


def judged_at(
    replica: Replica, stream: Stream, share: float, rate_rps: float, percentile: float, budget_ns: int
) -> Judged:
    """A million requests at a rate above 0 at which the queue is stable."""
    return _judge(_Asked(replica, stream, percentile, float(budget_ns)), rate_rps, REQUESTS, share)


def unloaded_percentile_ns(replica: Replica, percentile: float) -> float:
    """Of a request that nobody is with: it waits the whole delay, unless batches are of one."""
    delay = replica.queue_delay_ns if replica.laws.max_batch_size > 1 else 0
    return ranked_ns(replica.laws.samples_ns[0], percentile) + delay


@dataclass(frozen=True, slots=True)
class _Bracket:
    """About where the late share is what is allowed, and the power of the rate that it grows with there."""

    rate_rps: float
    power: float


@lru_cache(maxsize=256)
def _bracket(asked: _Asked) -> _Bracket:
    """Two looks, the second between the last rate that holds and the first that clearly fails."""
    most = asked.most_rps
    rates = most * np.linspace(0, 1, SCAN_RATES + 1)[1:] ** 1.5
    teeth = [rate for rate in asked.stream.rates_rps if rate < most]
    held, failed = _crossing(asked, sorted({*rates.tolist(), *teeth}), SCAN_REQUESTS)[:2]
    if held == failed:
        return _Bracket(most, FLATTEST * 4)
    denser = np.linspace(held, failed, SCAN_RATES // 2 + 1)[1:] if held else failed * _GROWING
    held, failed, seen = _crossing(asked, denser.tolist(), SCAN_REQUESTS * 2)
    return _fit(asked, seen, held, failed)


_GROWING = np.geomspace(0.02, 1.0, SCAN_RATES // 2)


def _crossing(
    asked: _Asked, rates: Sequence[float], requests: int
) -> tuple[float, float, list[tuple[float, float]]]:
    """The last rate that holds before the first that clearly fails, that one, and the share at each.

    Both are the highest rate where that holds and none fails."""
    looked = _look(asked, rates, requests)
    failing = (k for k, (mean, error) in enumerate(looked) if mean - CLEARLY * error > asked.allowed)
    fails = next(failing, len(rates))
    holding = [k for k in range(fails) if looked[k][0] <= asked.allowed]
    held = rates[holding[-1]] if holding else 0.0
    return (
        held,
        rates[min(fails, len(rates) - 1)],
        [(rate, mean) for rate, (mean, _) in zip(rates, looked, strict=True)],
    )


def _look(asked: _Asked, rates: Sequence[float], requests: int) -> list[tuple[float, float]]:
    """The late share and its standard error at each rate, all simulated side by side."""
    left_out = min(asked.forgotten, SCAN_FORGOTTEN)
    shape = (SCAN_ROWS, left_out + max(requests, left_out))
    sojourns = sojourns_ns(asked.replica, asked.stream, rates, shape)[:, :, left_out:]
    late = (sojourns > asked.budget_ns).mean(axis=2)
    return [(float(of_rate.mean()), float(of_rate.std(ddof=1)) / math.sqrt(SCAN_ROWS)) for of_rate in late]


def sojourns_ns(
    replica: Replica, stream: Stream, rates_rps: Sequence[float], shape: tuple[int, int]
) -> Array:
    """(rates, rows, requests): at each rate, by the same random numbers, all simulated side by side."""
    arrived = [
        arrival_times(stream.arrivals, stream.share(rate), rate / NS_PER_S, shape, _random())
        for rate in rates_rps
    ]
    return simulate(replica, np.concatenate(arrived), _random(1)).sojourn_ns.reshape(-1, *shape)


def _fit(asked: _Asked, seen: list[tuple[float, float]], held: float, failed: float) -> _Bracket:
    """A line through the logarithms of what was seen about the crossing."""
    near = [(r, p) for r, p in seen if held * 0.9 <= r <= failed and p > asked.allowed / 20]
    if len(near) < 2:
        return _Bracket(held or failed, 4.0)
    x, y = np.log([r for r, _ in near]), np.log([p / asked.allowed for _, p in near])
    power, _ = np.polyfit(x, y, 1)
    power = min(max(float(power), FLATTEST), STEEPEST)
    at = math.exp(float(x.mean()) - float(y.mean()) / power)
    return _Bracket(min(max(at, held * 0.9, near[0][0] * 0.5), failed), power)


def _lower_end(asked: _Asked, bracket: _Bracket, requests: int) -> SimulatedCapacity:
    """The rate whose interval of late requests ends at what is allowed, from below; by regula falsi."""
    rate, power = min(bracket.rate_rps, asked.most_rps), bracket.power
    best: Judged | None = None
    last: tuple[float, float] | None = None
    least_failed = math.inf
    for turn in range(TURNS):
        judged = _judge(asked, rate, requests, asked.stream.share(rate))
        excess = math.log(max(judged.share + judged.half_width, asked.allowed / 100) / asked.allowed)
        if excess <= 0 and (best is None or judged.rate_rps > best.rate_rps):
            best = judged
        elif excess > 0:
            least_failed = min(least_failed, rate)
        if -CLOSE <= excess <= 0 or (excess <= 0 and rate >= asked.most_rps):
            break
        if best is not None and min(least_failed, asked.most_rps) <= best.rate_rps * (1 + NEAR):
            break
        if last is not None and abs(math.log(rate / last[0])) > APART:
            slope = (excess - last[1]) / math.log(rate / last[0])
            power = min(max(slope, bracket.power / 2), bracket.power * 2)
        last = (rate, excess)
        step = min(max(-(excess + CLOSE / 2) / power, -1.0), 0.5)
        if best is None:  # the line may mislead: what has not been found soon is looked for further down
            step = min(step, -LEAST_STEP * 2**turn)
        rate *= math.exp(step)
        if best is not None and not best.rate_rps < rate < least_failed:
            rate = math.sqrt(best.rate_rps * min(least_failed, asked.most_rps))
        rate = min(rate, asked.most_rps)
        if best is not None and rate <= best.rate_rps * (1 + NEAR):
            break
    return _ends(asked, best, power)


def _ends(asked: _Asked, best: Judged | None, power: float) -> SimulatedCapacity:
    if best is None:
        alone_ns = unloaded_percentile_ns(asked.replica, asked.percentile)
        return SimulatedCapacity(0.0, 0.0, 0.0, alone_ns, 0.0, 1.0, 0)

    def where_it_is_allowed(share: float) -> float:
        excess = math.log(max(share, asked.allowed / 100) / asked.allowed)
        rate = best.rate_rps * math.exp(min(max(-excess / power, 0.0), 1.0))
        return min(rate, asked.most_rps)

    return SimulatedCapacity(
        low_rps=best.rate_rps,
        rate_rps=where_it_is_allowed(best.share),
        high_rps=where_it_is_allowed(best.share - best.half_width),
        sojourn_percentile_ns=best.sojourn_percentile_ns,
        utilisation=best.utilisation,
        mean_batch_size=best.mean_batch_size,
        requests=best.requests,
    )


def _judge(asked: _Asked, rate_rps: float, requests: int, share: float) -> Judged:
    left_out = asked.forgotten
    rows = min(max(requests // max(4 * left_out, 2_000), ROWS[0]), ROWS[1])
    kept = max(math.ceil(requests / rows), left_out)
    times = arrival_times(
        asked.stream.arrivals, share, rate_rps / NS_PER_S, (rows, left_out + kept), _random()
    )
    served = simulate(asked.replica, times, _random(1))
    sojourns = served.sojourn_ns[:, left_out:]
    ended = served.done_ns.max(axis=1)
    rank = math.ceil(asked.percentile / 100 * sojourns.size) - 1
    return Judged(
        rate_rps=rate_rps,
        late=(sojourns > asked.budget_ns).mean(axis=1),
        sojourn_percentile_ns=float(np.partition(sojourns.ravel(), rank)[rank]),
        utilisation=float(served.busy_ns.sum() / ended.sum()) / asked.replica.instances,
        mean_batch_size=times.size / int(served.batches.sum()),
        requests=sojourns.size,
    )


def _random(number: int = 0) -> np.random.Generator:
    """The same numbers at every rate, others for arrivals than for services."""
    return np.random.default_rng((SEED, number))
