"""Requests of several classes in one queue: how long a batch of them takes.

Classes are ordered by size, and a batch is padded to its largest request. Which class a request is of does
not depend on when it comes, so of b requests the largest is of class c with probability

    w_c(b) = F_c^b - F_(c-1)^b,        F_c: the share of the requests that are of class c or smaller,

and the batch then takes a service time of class c at batch size b: what a batch takes is a mixture of the
classes' samples that depends on b alone. To the queue that is one service law for each batch size, and
everything that holds for measured laws (``chain``, ``sojourn``, ``simulation``) holds for mixed ones.

A mixture is given as equally likely times, as samples are: the means of its strata of equal probability, more
of them than there are samples, so that its mean is exact and no quantile is off by more than a stratum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.capacity.service import Array, ServiceLaws

ALIKE = 0.002
"""Batch sizes whose weights differ by no more than this share one law, that of the largest of them: which is
that of slower batches."""
POINTS = 2000
POINTS_PER_SAMPLE = 2
"""Strata of a mixture, at least, and for each sample in it."""


def mixed_laws(by_class: Sequence[ServiceLaws], shares: Sequence[float]) -> ServiceLaws:
    """The service laws of batches of any requests. ``by_class``: those of batches of one class, from the
    smallest class to the largest; ``shares``: their parts of the requests, in any unit.

    All of one class have its laws. ValueError where the max batch sizes differ, or a share is not above 0.
    """
    if len(by_class) != len(shares) or not by_class:
        raise ValueError(f"{len(by_class)} classes have {len(shares)} shares; give each one")
    if len({laws.max_batch_size for laws in by_class}) > 1:
        raise ValueError("the classes of one replica have one max batch size")
    if not all(share > 0 for share in shares):
        raise ValueError(f"shares must be above 0, got {', '.join(f'{share:g}' for share in shares)}")
    if len(by_class) == 1:
        return by_class[0]
    cumulative = np.cumsum(shares) / sum(shares)
    largest = tuple(_largest(by_class, cumulative))
    samples = tuple(
        _mixture([_samples(laws, b) for laws in by_class], weights(cumulative, b)) for b in largest
    )
    return ServiceLaws(largest, samples, np.array([s.mean() for s in samples]))


def weights(cumulative: Array, batch_size: int) -> Array:
    """(classes,): with which probability the largest of so many requests is of each class.

    ``cumulative``: the share of each class and all smaller ones.
    """
    return np.diff(cumulative**batch_size, prepend=0.0)


def _largest(by_class: Sequence[ServiceLaws], cumulative: Array) -> list[int]:
    """The largest batch size of each law, ascending: where a class changes its own, or the weights change."""
    ends = {size for laws in by_class for size in laws.largest}
    found = [by_class[0].max_batch_size]
    for size in range(found[0] - 1, 0, -1):
        change = np.abs(weights(cumulative, size) - weights(cumulative, found[-1])).max()
        if size in ends or change > ALIKE:
            found.append(size)
    return found[::-1]


def _samples(laws: ServiceLaws, batch_size: int) -> Array:
    """Of the law that covers the batch size."""
    return laws.samples_ns[int(np.searchsorted(laws.largest, batch_size))]


def _mixture(samples: Sequence[Array], parts: Array) -> Array:
    """Equally likely times of a distribution that is of each of the sorted ``samples`` with a probability."""
    if parts.max() > 1 - 1e-12:
        return samples[int(parts.argmax())]
    times = np.concatenate(samples)
    each = np.concatenate([np.full(len(s), part / len(s)) for s, part in zip(samples, parts, strict=True)])
    order = np.argsort(times, kind="stable")
    times, each = times[order], each[order]
    count = max(POINTS, POINTS_PER_SAMPLE * len(times))
    up_to = np.concatenate(([0.0], each.cumsum()))
    # The integral of the quantile function is linear between the samples' cumulative probabilities.
    integral = np.concatenate(([0.0], (times * each).cumsum()))
    at_ends = np.interp(np.linspace(0.0, up_to[-1], count + 1), up_to, integral)
    return np.maximum.accumulate(np.diff(at_ends) * count)
