"""The queue that greedy batching leaves behind: a Markov chain, solved without cutting it off.

Notation: requests arrive at rate lambda; a batch of b takes S_b; at most B go at once. Let pi_q be the
probability that a completing batch leaves q requests waiting. The next batch takes max(1, min(q, B)) of
them (an idle engine waits for one), and the queue it leaves is (q - B)^+ plus the Poisson arrivals of its
service. With A_b(v) = E exp(-lambda (1 - v) S_b), the generating function of those arrivals:

    v^B pi_beyond(v) (1 - A_B(v) v^-B) = sum over q < B of pi_q (A_q(v) - v^q),      A_0 := A_1

where pi_beyond(v) = sum over n >= 0 of pi_(B+n) v^n. The bracket on the left is split (Wiener-Hopf) into

    1 - A_B(v) v^-B = v^-B (v - 1) inner(v) * (1 - v/e^y) outer(v)

whose ``inner`` has the B - 1 other roots inside the unit disc, and ``outer`` none of them; e^y is the real
root beyond 1 that gives the queue its geometric tail. Between the radii 1 and e^y, |A_B(v) v^-B| < 1, so
on a circle there the logarithm has no branch to follow and an FFT splits it into its two halves.

Dividing A_k(v) by (v - 1) inner(v) leaves a polynomial of degree B - 1: its coefficients are the law of
the queue when, starting from law k's arrivals, it first gets below B. All q < B of one law start alike,
so what remains to solve is a chain with as many states as there are laws.

References: N. T. J. Bailey, On queueing processes with bulk service, J. R. Stat. Soc. B 16 (1954);
M. F. Neuts, A general class of bulk queues with Poisson input, Ann. Math. Stat. 38 (1967).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft

from planner.capacity.service import Array, ComplexArray, Lattice

RADIUS_GAIN = 6.0
"""Anywhere between 1 and e^y would do for the circle. A wider one keeps off the roots that at low load lie
just inside 1; but rounding errors grow with its B-th power, here up to e^6."""
EDGE = 36.0
"""Coefficients at the FFT's edge are down by e^-36, below rounding, and still by e^-20 where a rare
service is so much longer than the others that the arrivals are far from normal."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The chain in equilibrium at one rate; probabilities are per completed batch."""

    below: Array
    """(B,): pi_q for q < B."""
    beyond: Array
    """pi_(B+n), n = 0, 1, ...; where it ends the tail is geometric, with ratio exp(-decay)."""
    decay: float
    """y: pi_(n+1) / pi_n tends to exp(-y)."""
    fresh: Array
    """(K,): probability that the next batch is of law k and leaves nobody waiting as it starts."""
    mean_service_ns: float
    mean_batch_size: float
    utilisation: float
    defect: float
    """Probability lost or misplaced by the finite FFT, estimated from the coefficients at its edge."""

    @property
    def idle(self) -> float:
        """Probability that the engine has to wait for a request; the share that finds it so, times E[b]."""
        return float(self.below[0])

    @property
    def log_amplitude(self) -> float:
        """log K of the tail pi_(B+n) ~ K exp(-decay n), read off before rounding errors drown it."""
        clear = np.flatnonzero(self.beyond > max(1e-11 * float(self.beyond[0]), 1e-14))
        last = int(clear[-1]) if clear.size else 0
        return math.log(max(float(self.beyond[last]), 1e-300)) + self.decay * last

    def left_waiting(self, count: int) -> Array:
        """(count,): probability that a batch leaves r = 0, 1, ... waiting as it starts; 0 for r = 0."""
        have = min(count, len(self.beyond))
        waiting = np.empty(count)
        waiting[:have] = self.beyond[:have]
        waiting[have:] = self.beyond[-1] * np.exp(-self.decay * np.arange(1, count - have + 1))
        waiting[0] = 0.0
        return waiting

    def full_batches_left(self, count: int) -> Array:
        """(count,): probability that at least m = 0, 1, ... full batches are left behind."""
        size = len(self.below)
        rest = self.left_waiting(count * size)
        rest[0] = self.beyond[0]
        after = rest[-1] / math.expm1(self.decay)
        at_least = after + np.cumsum(rest[::-1])[::-1][::size]
        return np.concatenate(([1.0], at_least[: count - 1]))


def queue(lattice: Lattice, rate_per_ns: float) -> Queue:
    """The queue left behind, for a rate above 0 and below ``limit_per_ns``."""
    laws = lattice.laws
    size = laws.max_batch_size
    arrivals = rate_per_ns * laws.mean_ns
    decay = _decay(lattice, rate_per_ns)
    radius = math.exp(min(decay / 2, RADIUS_GAIN / max(size, rate_per_ns * laws.longest_ns)))
    points = _circle_points(lattice, rate_per_ns)
    angles = 2 * np.pi / points * np.arange(points // 2 + 1)
    log_v = np.asarray(math.log(radius) - 1j * angles, dtype=np.complex128)
    v: ComplexArray = np.exp(log_v)
    scale = radius ** -np.arange(points // 2)

    transforms = lattice.transform(rate_per_ns * (1 - v))
    inner, outer, edge = _factors(transforms[-1], log_v, size, decay)
    quotients = _polynomial_part((transforms - 1) / ((v - 1) * inner), points)
    remainders = fft.irfft(transforms - (v - 1) * inner * quotients, points)[:, :size] * scale[:size]
    first_below = np.maximum(remainders, 0)
    first_below /= first_below.sum(axis=1, keepdims=True)

    boundary = _boundary(first_below, laws.largest)
    below = np.einsum("k,kq->q", boundary, first_below)
    per_state = np.repeat(arrivals, np.diff((-1, *laws.largest[:-1], size - 1)))
    beyond_mass = float(below @ (per_state - np.arange(size))) / (size - arrivals[-1])
    kept = min(points // 2, 1 + int(500 / decay))  # what follows is below e^-500
    geometric = np.exp(-decay * np.arange(kept))
    increments = fft.irfft(np.einsum("k,kv->v", boundary, quotients) / outer, points)[:kept] * scale[:kept]
    beyond = geometric * np.cumsum(increments / geometric)

    total = below.sum() + beyond_mass
    below, beyond, fresh = below / total, np.maximum(beyond, 0) / total, boundary / total
    beyond_mass = max(beyond_mass / total, 0.0)
    fresh[-1] += beyond[0]
    mean_service_ns = float(boundary @ laws.mean_ns / total + beyond_mass * laws.mean_ns[-1])
    mean_batch_size = rate_per_ns * mean_service_ns + float(below[0])
    return Queue(
        below=below,
        beyond=beyond,
        decay=decay,
        fresh=fresh,
        mean_service_ns=mean_service_ns,
        mean_batch_size=mean_batch_size,
        utilisation=rate_per_ns * mean_service_ns / mean_batch_size,
        defect=edge + float(np.abs(remainders.sum(axis=1) - 1).max()),
    )


def _decay(lattice: Lattice, rate_per_ns: float) -> float:
    """y > 0 with E exp(lambda S_B (e^y - 1)) = e^(B y), by Newton's method on the logarithm.

    That function is convex with roots 0 and y; from the right of y, Newton's steps come down to it.
    """
    size = lattice.laws.max_batch_size
    support = np.flatnonzero(lattice.weights[-1])
    weights = lattice.weights[-1][support]
    arrivals = rate_per_ns * lattice.times_ns[support]
    load = float(weights @ arrivals) / size
    y = 2 * (1 - load) - 2 * math.log(load)
    for _ in range(100):
        exponents = arrivals * math.expm1(y)
        peak = float(exponents.max())
        if peak < 1:  # y may be so small that nothing is left of 1 + y: all relative to 1
            growth = np.expm1(exponents)
            mean = 1 + float(weights @ growth)
            value = math.log1p(float(weights @ growth)) - size * y
            slope = float((weights * (1 + growth)) @ arrivals) / mean * math.exp(y) - size
        else:
            terms = weights * np.exp(exponents - peak)
            mean = float(terms.sum())
            value = peak + math.log(mean) - size * y
            slope = float(terms @ arrivals) / mean * math.exp(y) - size
        step = value / slope
        if slope <= 0 or step <= 1e-13 * y:
            break
        y -= step
    return y


def _circle_points(lattice: Lattice, rate_per_ns: float) -> int:
    """Enough FFT points for the longest service's arrivals and for the slowest root but the geometric one.

    At full load that root lies sqrt(2 pi / V) from the unit circle, with V the variance of the arrivals
    during a batch of B, so its powers fall below rounding after 14 sqrt(V). At low load it lies close to
    the unit circle, and it is the radius that makes them fall.
    """
    laws = lattice.laws
    most = rate_per_ns * laws.longest_ns
    support = laws.max_batch_size + most + 9 * math.sqrt(most + 9)
    mean = float(laws.mean_ns[-1])
    spread = float(lattice.weights[-1] @ (lattice.times_ns - mean) ** 2)
    variance = rate_per_ns * mean + rate_per_ns**2 * spread
    half = max(
        support,
        EDGE * math.sqrt(variance / (2 * math.pi)),
        EDGE / RADIUS_GAIN * max(laws.max_batch_size, most),
    )
    return int(2 * fft.next_fast_len(int(half) + 16))


def _factors(
    transform: ComplexArray, log_v: ComplexArray, size: int, decay: float
) -> tuple[ComplexArray, ComplexArray, float]:
    """``inner`` and ``outer`` on the circle, and the size of the coefficients where the FFT ends."""
    v = np.exp(log_v)
    kernel = 1 - transform * np.exp(-size * log_v)
    log_kernel = np.log(kernel) - np.log(1 - 1 / v) - np.log(1 - math.exp(-decay) * v)
    points = 2 * (len(v) - 1)
    coefficients = fft.irfft(log_kernel, points)
    edge = float(np.abs(coefficients[points // 2 - 2 : points // 2 + 3]).max())
    outwards = coefficients.copy()
    outwards[points // 2 :] = 0
    log_outer = fft.rfft(outwards)
    return np.exp((size - 1) * log_v + log_kernel - log_outer), np.exp(log_outer), edge


def _polynomial_part(values: ComplexArray, points: int) -> ComplexArray:
    """Drop the negative powers of Laurent series given on the circle, row by row."""
    coefficients = fft.irfft(values, points)
    coefficients[:, points // 2 :] = 0
    return np.asarray(fft.rfft(coefficients))


def _boundary(first_below: Array, largest: tuple[int, ...]) -> Array:
    """(K,): how often, among visits below B, the queue is one that law k takes whole; sums to 1."""
    starts = (0, *(last + 1 for last in largest[:-1]))
    padded = np.pad(first_below, ((0, 0), (0, 1)))
    moves = np.add.reduceat(padded, starts, axis=1)
    balance = np.eye(len(largest)) - moves.T
    balance[-1] = 1
    return np.maximum(np.linalg.solve(balance, np.eye(len(largest))[-1]), 0)
