"""The time a random request spends waiting and being served, from the queue that batches leave behind.

A request that finds the engine idle takes S_1. Another arrives at age t of a service s that left r waiting
as it started: n = r + Poisson(lambda t) requests are ahead of it, so m = n div B full batches go first, and
it sits at j = n mod B of its own. Its wait

    W = (s - t) + m services S_B

does not depend on who arrives later, but the size of its own batch does: Y ~ Poisson(lambda W) more come
while it waits, and

    T = W + S_min(j + 1 + Y, B).

Arrivals per batch that meet a rest u = s - t with n ahead are counted on the lattice. All services that
started with nobody left waiting act as one mixture, those of B with r left as another: with the generating
function psi(v) of r, the count at rest u obeys a recursion in u, one step of Poisson arrivals at a time

    Z(u) = mixture(u) + psi(v) S_B(u) + e^(-lambda (1 - v) h) Z(u + h)

at every v of a circle inside the unit disc; an FFT over v gives it for every n (Abate and Whitt's lattice
Poisson algorithm, Oper. Res. Lett. 12 (1992)). Arrivals are counted exactly over each step; the one
approximation besides the lattice is that Y takes W at the middle of its step.

For times far longer than a service none of this is needed. Where the queue has the tail K e^(-y n), those
who come while a request waits tell the tail of its wait (distributional Little's law), and E e^(sigma S_B) is
e^(B y), so that

    P(T > x) ~ K (e^(B y) - 1) e^((B + 1) y) / ((e^y - 1)^2 E[b]) e^(-sigma x),    sigma = lambda (e^y - 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, special

from planner.capacity.chain import Queue, queue
from planner.capacity.service import (
    Array,
    ComplexArray,
    Lattice,
    ServiceLaws,
    lattice,
    ranked_ns,
    service_laws,
)
from planner.units import NS_PER_S

STEPS = 256
STEPS_PER_SERVICE = 24
"""At least as many lattice steps as this in a mean service of the largest batch..."""
STEP_PER_SPREAD = 0.09
"""...unless a step is this share of its standard deviation or less: binning adds at most a quarter of a
squared step to the variance, here 0.2 %. Rare outliers then set the scale, and a fine grid buys nothing."""
MAX_CELLS = 400_000
"""Steps are fewer also where steps times places in the queue would exceed this."""
BODY = 8.0
"""Where only the chain is needed, steps are wider from this many mean services on."""
ALIAS = 1e-10
"""What the generating function's circle lets through of the requests that are too far back to matter."""
NEGLIGIBLE_LOAD = 1e-12
"""Below this share of the limit of stability, a rate is as good as 0."""
ROW = 512
"""Numbers at a time in a recursion, that its cost be arithmetic and not calls."""
WRAPPED = 1e-12
"""How much of what a convolution carries past the horizon returns at the start."""
DROPPED = 1e-11
"""A number of full batches ahead is left out where it is less likely than this, or to end in time."""


@dataclass(frozen=True, slots=True)
class Sojourn:
    """The distribution of the sojourn time at one rate."""

    laws: ServiceLaws
    rate_rps: float
    idle_share: float
    """Share of the requests that find the engine idle."""
    waited: Array
    """P(found it busy, T <= i * step), i = 0.. to the horizon; only i = 0 where the tail is exponential."""
    step_ns: float
    log_scale: float
    decay_per_ns: float
    """P(T > x) tends to exp(log_scale - decay_per_ns * x)."""
    utilisation: float
    mean_batch_size: float
    truncated_mass: float

    @property
    def horizon_ns(self) -> float:
        return self.step_ns * (len(self.waited) - 1)

    def tail(self, at_ns: float) -> float:
        """P(T > at), for times up to the horizon or so long that the tail is exponential."""
        if at_ns > self.horizon_ns * (1 + 1e-9):
            return math.exp(min(self.log_scale - self.decay_per_ns * at_ns, 0.0))
        waited = float(np.interp(at_ns, np.arange(len(self.waited)) * self.step_ns, self.waited))
        busy_share = 1 - self.idle_share
        return self.idle_share * self.laws.alone_tail(at_ns) + max(busy_share - waited, 0.0)

    def percentile_ns(self, percentile: float) -> float:
        """The smallest t with P(T <= t) at or above ``percentile``."""
        share = percentile / 100
        alone = self.laws.samples_ns[0]
        grid = np.arange(len(self.waited)) * self.step_ns
        times = np.union1d(grid, alone[alone <= self.horizon_ns])
        waited = np.interp(times, grid, self.waited)
        found_idle = self.idle_share * np.searchsorted(alone, times, side="right") / len(alone)
        reached = np.flatnonzero(waited + found_idle >= share - 1e-12)
        if reached.size == 0:
            return max(self.horizon_ns, (self.log_scale - math.log(1 - share)) / self.decay_per_ns)
        at = int(reached[0])
        rise = waited[at] - waited[at - 1] if at else 0.0
        if rise <= 0:
            return float(times[at])
        needed = (share - waited[at - 1] - found_idle[at - 1]) / rise
        return float(times[at - 1] + (times[at] - times[at - 1]) * min(max(needed, 0.0), 1.0))


@dataclass(frozen=True, slots=True)
class Grid:
    """A lattice up to a horizon, and how many full batches can end by then."""

    lattice: Lattice
    all_done: Array
    """P(m services of the largest batch end by the horizon), m = 0, 1, ... while not negligible.

    Empty where the tail is exponential and no time needs to be resolved."""


def grid(laws: ServiceLaws, at_ns: float, steps: int = STEPS) -> Grid:
    """For P(T > at_ns), with ``steps`` or more as services need; only the chain from ``settled_ns`` on."""
    exponential = at_ns >= settled_ns(laws)
    mean_ns = float(laws.mean_ns[-1])
    horizon_ns = min(laws.longest_ns, BODY * mean_ns) if exponential else at_ns
    affordable = MAX_CELLS / (laws.max_batch_size * (3 * horizon_ns / mean_ns + 4))
    finest_ns = max(mean_ns / STEPS_PER_SERVICE, STEP_PER_SPREAD * float(np.std(laws.samples_ns[-1])))
    wanted = horizon_ns / finest_ns * steps / STEPS
    on_lattice = lattice(laws, horizon_ns, max(steps, math.ceil(min(wanted, affordable))))
    return Grid(on_lattice, np.empty(0) if exponential else _all_done(on_lattice))


def settled_ns(laws: ServiceLaws) -> float:
    """From here on the tail is exponential to 1e-4 of itself or better where it is above 1e-4."""
    return laws.longest_ns * (2 + 10 / math.sqrt(laws.max_batch_size))


def _all_done(on: Lattice) -> Array:
    law = on.weights[-1][: on.steps + 1]
    length = fft.next_fast_len(2 * len(law), real=True)
    spectrum = fft.rfft(law, length)
    done, power = [1.0], law
    while done[-1] > DROPPED:
        done.append(float(power.sum()))
        power = fft.irfft(fft.rfft(power, length) * spectrum, length)[: len(law)]
    return np.array(done)


def sojourn(on: Grid, rate_rps: float) -> Sojourn:
    """The sojourn time at a rate above 0 and below the limit of stability."""
    laws = on.lattice.laws
    rate_per_ns = rate_rps / NS_PER_S
    left = queue(on.lattice, rate_per_ns)
    waited, dropped = np.zeros(1), 0.0
    if on.all_done.size:
        weight = on.all_done * left.full_batches_left(len(on.all_done))
        levels = max(int(np.count_nonzero(weight > DROPPED)), 1)
        waits = _waits(on.lattice, _arrivals(on.lattice, left, rate_per_ns, levels))
        waited = _served(on.lattice, _own_law(on.lattice, waits, rate_per_ns)) / left.mean_batch_size
        dropped = ALIAS + float(weight[levels:].sum())
    return Sojourn(
        laws=laws,
        rate_rps=rate_rps,
        idle_share=left.idle / left.mean_batch_size,
        waited=np.maximum.accumulate(np.maximum(waited, 0)),
        step_ns=on.lattice.step_ns,
        log_scale=_log_scale(left, laws.max_batch_size),
        decay_per_ns=rate_per_ns * math.expm1(left.decay),
        utilisation=left.utilisation,
        mean_batch_size=left.mean_batch_size,
        truncated_mass=left.defect + dropped,
    )


def _log_scale(left: Queue, size: int) -> float:
    y = left.decay
    full = size * y + math.log(-math.expm1(-size * y))
    request = 2 * math.log(math.expm1(y)) + math.log(left.mean_batch_size)
    return left.log_amplitude + full + (size + 1) * y - request


def _arrivals(on: Lattice, left: Queue, rate_per_ns: float, levels: int) -> Array:
    """(reach, levels, B): arrivals per batch, by the step where the rest of the service falls, m and j."""
    size = on.laws.max_batch_size
    count = levels * size
    points = fft.next_fast_len(2 * count, real=True)
    radius = ALIAS ** (1 / points)
    v = radius * np.exp(-2j * np.pi / points * np.arange(points // 2 + 1))
    scale = radius ** np.arange(count)
    waiting = fft.rfft(left.left_waiting(count) * scale, points)
    mixture = np.einsum("k,kt->t", left.fresh, on.weights)
    repeated = on.weights[-1]

    reach = on.reach
    starting = mixture[1 : reach + 1, None] + repeated[1 : reach + 1, None] * waiting
    fine_decay = rate_per_ns * on.step_ns * (1 - v)
    if len(on.times_ns) > on.steps + 1:
        coarse = rate_per_ns * on.coarse_step_ns * (1 - v)
        beyond = mixture[on.steps + 1 :, None] + repeated[on.steps + 1 :, None] * waiting
        starting[-1] += _discounted(beyond, coarse)[0] * np.exp(-coarse)
    rests = _discounted(starting, fine_decay)
    rests *= -np.expm1(-fine_decay) / (1 - v)
    arrivals = fft.irfft(rests, points)[:, :count] / scale
    return np.asarray(arrivals.reshape(reach, levels, size))


def _discounted(terms: ComplexArray, decay: ComplexArray) -> ComplexArray:
    """(T, V), in place: y_i = terms_i + e^-decay y_(i+1), from the end, after which there is nothing.

    Sums of 2, 4, 8... terms first, by doubling, until they fill rows long enough for a loop over them.
    """
    rows, done = len(terms), 1
    while done * terms.shape[1] < ROW and done < rows:
        terms[:-done] += np.exp(-decay * done) * terms[done:]
        done *= 2
    factor = np.exp(-decay * done)
    for end in range(rows - done, 0, -done):
        start = max(end - done, 0)
        terms[start:end] += factor * terms[start + done : end + done]
    return terms


def _waits(on: Lattice, arrivals: Array) -> Array:
    """(steps, B): requests per batch by the step in which their wait W falls, and by their place j.

    Horner's rule over the full batches ahead, on the spectra. What runs past the end wraps around to the
    start; the sequences are damped so that it comes back ``WRAPPED`` times as large.
    """
    length = fft.next_fast_len(2 * on.steps, real=True)
    damped = WRAPPED ** (np.arange(on.steps) / length)
    law = fft.rfft(on.weights[-1][: on.steps] * damped, length)[:, None]
    spectra = fft.rfft(arrivals * damped[: len(arrivals), None, None], length, axis=0)
    total = spectra[:, -1]
    for level in range(arrivals.shape[1] - 2, -1, -1):
        total = spectra[:, level] + total * law
    return np.asarray(fft.irfft(total, length, axis=0)[: on.steps] / damped[:, None])


def _own_law(on: Lattice, waits: Array, rate_per_ns: float) -> Array:
    """(steps, K): requests per batch by the step of their wait and the law that serves them."""
    largest = on.laws.largest
    came = rate_per_ns * on.step_ns * (np.arange(on.steps)[:, None] + 0.5)
    counts = np.arange(on.laws.max_batch_size)
    at_most = np.exp(counts * np.log(came) - came - special.gammaln(counts + 1)).cumsum(axis=1)
    up_to = [np.einsum("wj,wj->w", waits[:, :b], at_most[:, b - 1 :: -1]) for b in largest[:-1]]
    return np.diff(np.stack((np.zeros(on.steps), *up_to, waits.sum(axis=1)), axis=1), axis=1)


def _served(on: Lattice, by_law: Array) -> Array:
    """(steps + 1,): requests per batch that waited and have been served by each time of the lattice."""
    done = on.weights[:, : on.steps].cumsum(axis=1).T
    return np.concatenate(([0.0], _convolve(by_law, done).sum(axis=1)))


def _convolve(first: Array, second: Array) -> Array:
    """Causal convolution down the columns, as long as the first."""
    length = fft.next_fast_len(2 * len(first), real=True)
    product = fft.rfft(first, length, axis=0) * fft.rfft(second, length, axis=0)
    return np.asarray(fft.irfft(product, length, axis=0)[: len(first)])


def sojourn_tail(
    service_ns: Mapping[int, Sequence[int]], max_batch_size: int, rate_rps: float, at_ns: float
) -> float:
    """P(sojourn > ``at_ns``) of a random request at ``rate_rps``; 1 where the queue is unstable.

    At rate 0 it is the limit, that of a request alone. ValueError names a wrong argument.
    """
    laws = service_laws(service_ns, max_batch_size)
    _check_rate(rate_rps)
    if at_ns <= 0:
        return 1.0
    limit_rps = laws.limit_per_ns * NS_PER_S
    if rate_rps < NEGLIGIBLE_LOAD * limit_rps:
        return laws.alone_tail(at_ns)
    if rate_rps >= limit_rps:
        return 1.0
    return sojourn(grid(laws, at_ns), rate_rps).tail(at_ns)


def sojourn_percentile_ns(
    service_ns: Mapping[int, Sequence[int]], max_batch_size: int, rate_rps: float, percentile: float
) -> float:
    """The percentile (0 < p < 100) of the sojourn time at ``rate_rps``; infinite where the queue is unstable.

    At rate 0 it is the limit, that of a request alone. ValueError names a wrong argument.
    """
    return percentile_ns(service_laws(service_ns, max_batch_size), rate_rps, percentile)


def percentile_ns(laws: ServiceLaws, rate_rps: float, percentile: float) -> float:
    """``sojourn_percentile_ns`` of service times that have been read."""
    _check_rate(rate_rps)
    check_percentile(percentile)
    limit_rps = laws.limit_per_ns * NS_PER_S
    if rate_rps < NEGLIGIBLE_LOAD * limit_rps:
        return alone_percentile_ns(laws, percentile)
    if rate_rps >= limit_rps:
        return math.inf
    settled = settled_ns(laws)
    horizon, found = 0.0, sojourn(grid(laws, settled), rate_rps).percentile_ns(percentile)
    if found >= settled:
        return found
    found = sojourn(grid(laws, settled * (1 - 1e-9)), rate_rps).percentile_ns(percentile)
    while horizon < found:  # a finer grid, just past what the last one found
        horizon = found * 1.02
        found = sojourn(grid(laws, horizon), rate_rps).percentile_ns(percentile)
    return found


def alone_percentile_ns(laws: ServiceLaws, percentile: float) -> float:
    """Of a request that finds the engine idle: the nearest-rank percentile of S_1."""
    return ranked_ns(laws.samples_ns[0], percentile)


def check_percentile(percentile: float) -> None:
    if not 0 < percentile < 100:
        raise ValueError(f"a percentile lies between 0 and 100, got {percentile}")


def _check_rate(rate_rps: float) -> None:
    if not (rate_rps >= 0 and math.isfinite(rate_rps)):
        raise ValueError(f"rate_rps must be 0 or above, got {rate_rps}")
