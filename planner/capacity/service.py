"""How long a batch takes: the measured samples, which of them a batch size is padded to, and their lattice.

A batch of b runs as the smallest measured size that holds it, so the batch sizes fall into a few *laws*:
law k covers the batch sizes above ``largest[k - 1]`` up to ``largest[k]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
Service = Mapping[int, Sequence[int]]
"""Raw samples in ns by measured batch size."""

COARSE_STEPS = 256
"""Lattice points for services longer than the horizon, of which only the number of arrivals matters."""
BLOCK = 32
"""Powers that a polynomial is evaluated by at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class ServiceLaws:
    """The laws of the batch sizes 1..``max_batch_size``, as sorted samples in ns.

    Equal where all samples are."""

    largest: tuple[int, ...]
    """The largest batch size of each law, ascending; the last is the max batch size."""
    samples_ns: tuple[Array, ...]
    mean_ns: Array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServiceLaws) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @property
    def _content(self) -> tuple[tuple[int, ...], tuple[bytes, ...]]:
        return self.largest, tuple(samples.tobytes() for samples in self.samples_ns)

    @property
    def max_batch_size(self) -> int:
        return self.largest[-1]

    @property
    def longest_ns(self) -> float:
        return max(float(samples[-1]) for samples in self.samples_ns)

    @property
    def limit_per_ns(self) -> float:
        """The rate at which the queue stops being stable: that of full batches, B / E[S_B]."""
        return float(self.max_batch_size / self.mean_ns[-1])

    @property
    def variance(self) -> float:
        """Of the service of full batches, by the square of its mean."""
        return float(np.var(self.samples_ns[-1])) / float(self.mean_ns[-1]) ** 2

    def stretched(self, by: float) -> ServiceLaws:
        """All times so many times as long, in whole ns; itself where that is 1."""
        if by == 1.0:
            return self
        samples = tuple(np.round(of_law * by) for of_law in self.samples_ns)
        return ServiceLaws(self.largest, samples, np.array([s.mean() for s in samples]))

    def alone_tail(self, at_ns: float) -> float:
        """P(S_1 > at): the tail of a request that finds the engine idle."""
        alone = self.samples_ns[0]
        return 1 - float(np.searchsorted(alone, at_ns, side="right")) / len(alone)


def service_laws(service_ns: Service, max_batch_size: int) -> ServiceLaws:
    """Read the samples of ``service_ns``. ValueError names what is wrong with it."""
    if max_batch_size < 1:
        raise ValueError(f"max_batch_size must be at least 1, got {max_batch_size}")
    if not service_ns:
        raise ValueError("service_ns is empty: give samples of at least one batch size")
    measured = sorted(service_ns)
    if measured[0] < 1:
        raise ValueError(f"service_ns: a batch size is at least 1, got {measured[0]}")
    if measured[-1] < max_batch_size:
        raise ValueError(
            f"max_batch_size {max_batch_size} is above the largest measured batch size, {measured[-1]}: "
            "measure it or lower max_batch_size"
        )
    last = next(position for position, size in enumerate(measured) if size >= max_batch_size)
    used = measured[: last + 1]
    samples = tuple(_sorted_samples(size, service_ns[size]) for size in used)
    return ServiceLaws(
        largest=(*used[:-1], max_batch_size),
        samples_ns=samples,
        mean_ns=np.array([s.mean() for s in samples]),
    )


def _sorted_samples(batch_size: int, raw: Sequence[int]) -> Array:
    samples = np.sort(np.asarray(raw, dtype=np.float64))
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"service_ns[{batch_size}] holds no samples")
    if not (samples[0] > 0 and math.isfinite(samples[-1])):
        raise ValueError(f"service_ns[{batch_size}]: samples must be above 0 and finite")
    return samples


def ranked_ns(ascending: Array, percentile: float) -> float:
    """The nearest-rank percentile of sorted samples."""
    rank = math.ceil(percentile / 100 * len(ascending) - 1e-9)
    return float(ascending[max(rank, 1) - 1])


@dataclass(frozen=True, slots=True)
class Lattice:
    """The laws on a grid of times: ``steps`` of ``step_ns`` up to the horizon, wider steps beyond it.

    A sample is shared between its two neighbours so that its mean stays what it is. Summed over the steps,
    that is also the exact average of the samples' distribution function over each step, so a request whose
    wait is spread evenly over a step gets the probability that the samples give it, not an approximation.
    """

    laws: ServiceLaws
    step_ns: float
    steps: int
    times_ns: Array
    """(T,): ``i * step_ns`` up to ``steps``, then evenly up to the longest sample."""
    weights: Array
    """(K, T): probability of each time under each law."""
    reach: int
    """The last of the ``steps`` with a service that ends there or later."""

    def transform(self, decay_per_ns: ComplexArray) -> ComplexArray:
        """E exp(-decay * S) of each law, (K, V) for (V,) decays."""
        fine = np.exp(-decay_per_ns * self.step_ns)
        out = _polynomial(self.weights[:, : min(self.reach + 1, self.steps)], fine)
        if self.reach == self.steps:
            coarse = np.exp(-decay_per_ns * self.coarse_step_ns)
            reach = np.exp(-decay_per_ns * self.steps * self.step_ns)
            out += reach * _polynomial(self.weights[:, self.steps :], coarse)
        return out

    @property
    def coarse_step_ns(self) -> float:
        beyond = len(self.times_ns) - 1 - self.steps
        return float(self.times_ns[-1] - self.times_ns[self.steps]) / beyond if beyond else 0.0


def lattice(laws: ServiceLaws, horizon_ns: float, steps: int) -> Lattice:
    """Put the laws on ``steps`` steps up to ``horizon_ns``, which falls on a grid point."""
    step_ns = horizon_ns / steps
    times = np.linspace(0.0, horizon_ns, steps + 1)
    if laws.longest_ns > horizon_ns:
        beyond = min(math.ceil((laws.longest_ns - horizon_ns) / step_ns), COARSE_STEPS)
        times = np.concatenate((times, np.linspace(horizon_ns, laws.longest_ns, beyond + 1)[1:]))
    weights = np.stack([_bin(samples, times) for samples in laws.samples_ns])
    reach = min(int(np.flatnonzero(weights.any(axis=0))[-1]), steps)
    return Lattice(laws, step_ns, steps, times, weights, reach)


def _polynomial(coefficients: Array, at: ComplexArray) -> ComplexArray:
    """Each row's polynomial at each point, (K, V) from (K, T) and (V,): Horner's rule in blocks of powers."""
    powers = np.ones((BLOCK, len(at)), dtype=np.complex128)
    powers[1:] = at
    np.cumprod(powers, axis=0, out=powers)
    block = powers[-1] * at
    parts = powers.view(np.float64)
    out = np.zeros((len(coefficients), len(at)), dtype=np.complex128)
    for start in reversed(range(0, coefficients.shape[1], BLOCK)):
        weights = coefficients[:, start : start + BLOCK]
        rows, columns = np.flatnonzero(weights.any(axis=1)), np.flatnonzero(weights.any(axis=0))
        out *= block
        if len(columns) > BLOCK // 2:
            sums = np.einsum("kt,tx->kx", weights[rows], parts[: weights.shape[1]])
        elif len(columns):
            sums = np.einsum("kt,tx->kx", weights[np.ix_(rows, columns)], parts[columns])
        else:
            continue
        out[rows] += sums.view(np.complex128)
    return out


def _bin(samples: Array, times: Array) -> Array:
    right = np.clip(np.searchsorted(times, samples, side="left"), 1, len(times) - 1)
    share = (samples - times[right - 1]) / (times[right] - times[right - 1])
    weights = np.bincount(right, weights=share, minlength=len(times))
    weights[:-1] += np.bincount(right - 1, weights=1 - share, minlength=len(times) - 1)[: len(times) - 1]
    return np.asarray(weights / len(samples))
