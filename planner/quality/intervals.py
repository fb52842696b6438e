"""Confidence intervals that stay honest when nothing went wrong.

A bootstrap of n samples that all agree has no width, though n samples cannot tell a drop of 1/n from none.
So proportions get score intervals: with no disagreement in n samples the drop is bounded by about 3.8/n.
Everything else is bootstrapped, and ``widened`` by the same doubt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
Interval = tuple[Floats, Floats]

# Weights of one block of resamples: keeps memory at 64 MB however many samples there are.
_BLOCK_ELEMENTS = 8_000_000


def z_value(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(hits: ArrayLike, samples: ArrayLike, confidence: float) -> Interval:
    """The score interval of a proportion, elementwise.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927;
    recommended for small n by Brown, Cai, DasGupta, Statistical Science 16, 2001.
    """
    k, n = np.asarray(hits, np.float64), np.asarray(samples, np.float64)
    z = z_value(confidence)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4)
    # At k = 0 and k = n an end is 0 or 1 but for rounding.
    low = np.where(k == 0, 0.0, np.maximum(centre - half, 0))
    return low, np.where(k == n, 1.0, np.minimum(centre + half, 1))


def tango(lost: ArrayLike, gained: ArrayLike, samples: ArrayLike, confidence: float) -> Interval:
    """The score interval of a paired difference of proportions ``(lost - gained) / samples``, elementwise.

    ``lost``: samples that only the first side has right, ``gained``: only the second. The ends solve

        (b - c - n d)^2 = z^2 n (2 q(d) + d (1 - d))

    where q(d), the maximum-likelihood probability of *gained* under a difference d, is the larger root of
    2n q^2 + ((2n - b + c) d - b - c) q - c d (1 - d) = 0. With b = c = 0 they are -+ z^2 / (n + z^2),
    about 3.8/n, where Newcombe's paired interval has no width at all.
    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17, 1998; recommended by Fagerland, Lydersen, Laake,
    Statistics in Medicine 33, 2014.
    """
    b, c, n = (np.asarray(x, np.float64) for x in (lost, gained, samples))
    z = z_value(confidence)

    def score(difference: Floats) -> Floats:
        spread = difference * (1 - difference)
        linear = (2 * n - b + c) * difference - b - c
        root = np.sqrt(np.maximum(linear**2 + 8 * n * c * spread, 0))
        gain = np.maximum(root - linear, 0) / (4 * n)
        variance = np.maximum(n * (2 * gain + spread), 1e-300)
        return np.asarray((b - c - n * difference) / np.sqrt(variance), np.float64)

    estimate = np.asarray((b - c) / n, np.float64)
    low = _bisect(lambda d: score(d) - z, np.full_like(estimate, -1), estimate)
    high = _bisect(lambda d: score(d) + z, estimate, np.full_like(estimate, 1))
    return low, high


def _bisect(decreasing: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """The root of a decreasing function in ``low..high``, elementwise."""
    for _ in range(60):
        middle = (low + high) / 2
        above = decreasing(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


def wilson_of_classes(hits: Floats, samples: Floats, confidence: float) -> tuple[float, float]:
    """The interval of the mean over classes of each class's proportion: Wilson's at the effective size."""
    rate = float((hits / samples).mean())
    smooth = (hits + rate) / (samples + 1)
    n = _effective_samples(rate * (1 - rate), smooth * (1 - smooth), samples, confidence)
    low, high = wilson(rate * n, n, confidence)
    return float(low), float(high)


def tango_of_classes(lost: Floats, gained: Floats, samples: Floats, confidence: float) -> tuple[float, float]:
    """The interval of the mean over classes of each class's paired difference: Tango's at that size."""
    b, c = float((lost / samples).mean()), float((gained / samples).mean())
    b_smooth, c_smooth = (lost + b) / (samples + 1), (gained + c) / (samples + 1)
    variances = b_smooth + c_smooth - (b_smooth - c_smooth) ** 2
    n = _effective_samples(b + c - (b - c) ** 2, variances, samples, confidence)
    low, high = tango(b * n, c * n, n, confidence)
    return float(low), float(high)


def _effective_samples(variance: float, variances: Floats, samples: Floats, confidence: float) -> float:
    """How many samples of one class would tell as much about the mean as these of several.

    ``variance`` of one sample at the mean rates, ``variances`` of one sample of each class (each rate drawn
    to the mean by one sample's worth, so that a class without a miss still counts). The ratio of the
    mean's two variances is the effective size of Korn and Graubard, Survey Methodology 24, 1998. It
    promises too much where little was seen to go wrong, so it is held below what ``_unseen`` leaves. In
    simulations with 1 to 100 classes, even and uneven, the pessimistic end of a 95 % interval holds in 97
    to 100 %. (Joining the classes' own intervals, MOVER, covers as little as 80 %: skewness does not
    average out.)
    """
    classes = len(samples)
    z2 = z_value(confidence) ** 2
    unseen = _unseen(samples, z2)
    most = max(classes * float(samples.min()), z2 * (1 - unseen) / unseen)
    of_mean = float((variances / samples).sum()) / classes**2
    return min(most, variance / of_mean) if of_mean > 0 else most


def _unseen(samples: Floats, z2: float) -> float:
    """The largest mean over classes of failure rates d that may well show no failure.

    Maximizes mean(d) subject to -sum(n log(1 - d)) <= z^2, the chance to see none. As the Lagrangian has
    it, d = 1 - m n where that is positive, with m such that the constraint is tight.
    """
    low, high = 0.0, 1 / float(samples.min())
    for _ in range(60):
        m = (low + high) / 2
        survival = np.minimum(np.maximum(m, 1e-12) * samples, 1)
        low, high = (m, high) if -(samples * np.log(survival)).sum() > z2 else (low, m)
    return float(np.maximum(1 - high * samples, 0).mean())


def bootstrap(
    statistic: Callable[[Floats], NDArray[Any]], samples: int, confidence: float, seed: int, resamples: int
) -> Floats:
    """Percentile intervals ``[2, k]`` of a ``statistic`` from weights ``[block, samples]`` to ``[block, k]``.

    The weights count how often each sample is drawn, the same draw for all k, so that differences are
    paired. Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    rng = np.random.default_rng(seed)
    block = max(1, min(resamples, _BLOCK_ELEMENTS // samples))
    values: list[NDArray[Any]] = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, samples, (rows, samples)) + np.arange(rows)[:, None] * samples
        weights = np.bincount(drawn.reshape(-1), minlength=rows * samples).reshape(rows, samples)
        values.append(statistic(weights.astype(np.float64)))
    tail = (1 - confidence) / 2
    return np.asarray(np.quantile(np.concatenate(values), [tail, 1 - tail], axis=0), np.float64)


def widened(
    estimate: float, low: float, high: float, samples: int, stake: float, confidence: float
) -> tuple[float, float]:
    """A bootstrap interval with the two things added that a resample cannot show.

    *Small samples.* A resample varies as if its samples were all there are: distances from the estimate grow
    by sqrt(n / (n-1)) t / z, t of n-1 degrees of freedom. Source: Hesterberg, "What teachers should know
    about the bootstrap", The American Statistician 69, 2015 (expanded percentile interval).

    *Failures not seen.* If a share p of all samples failed and each moved the value by ``stake``, the value
    would lie w = p stake away, and a sample would have a variance of stake w more than was seen. A score
    interval takes the variance at its end, not at the estimate; so here each distance w solves

        n w^2 = z^2 (v + stake w)

    with v, the variance of a sample, from the distance h = z sqrt(v/n) at hand: with g = z^2 stake / n,
    w = (g + sqrt(g^2 + 4 h^2)) / 2. With v = 0 that is z^2 stake / n, as Wilson's and Tango's
    intervals have it; with a v that dwarfs it, h + g/2. The form is that of Bernstein's inequality for scores
    bounded by the stake (empirical: Maurer and Pontil, COLT 2009), the constants are a score interval's.
    """
    z = z_value(confidence)
    if samples > 1:
        growth = math.sqrt(samples / (samples - 1)) * float(stdtrit(samples - 1, 0.5 + confidence / 2)) / z
    else:
        growth = 1.0  # one sample has no spread to grow
    unseen = z * z * stake / samples

    def distance(seen: float) -> float:
        return (unseen + math.hypot(unseen, 2 * growth * max(seen, 0.0))) / 2

    return estimate - distance(estimate - low), estimate + distance(high - estimate)
