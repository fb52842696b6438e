"""The range of every activation to be quantized: one pass over samples, then any of several methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from planner.variants.context import Array
from planner.variants.observe import observed
from planner.variants.placement import MULTIPLY_ACCUMULATE, multiply_accumulates

Range = tuple[float, float]
_LEVELS = 255
_BINS = 8192
# Per tensor and sample; more elements than this are thinned, but for their minimum and maximum.
_MAX_ELEMENTS = 1 << 18


@dataclass(slots=True)
class Histogram:
    """Counts over ``-reach..reach``; when a value lies beyond, reach doubles and bins merge in pairs.

    One pass is enough, and memory does not grow with the samples.
    """

    low: float = 0.0
    high: float = 0.0
    reach: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, values: Array) -> None:
        """Raises ValueError on NaN and infinity."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(-low, high))
        if self.reach == 0:
            return
        flat = values.reshape(-1)
        # An odd stride, so that it shares no period with sizes that are powers of two.
        flat = flat[:: (flat.size // _MAX_ELEMENTS) | 1]
        bins = ((flat + self.reach) * (_BINS / (2 * self.reach))).astype(np.int32)
        self.counts += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)

    def _widen(self, magnitude: float) -> None:
        if self.reach == 0:
            self.reach = magnitude
        while magnitude > self.reach:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[_BINS // 4 : -_BINS // 4] = merged
            self.reach *= 2

    def centres(self) -> NDArray[np.float64]:
        half_steps = np.arange(1, 2 * _BINS, 2, dtype=np.float64)
        return half_steps * (self.reach / _BINS) - self.reach


def best_range(histogram: Histogram) -> Range:
    """The range, zero within, whose 8-bit grid has the least mean squared error over the histogram.

    Rounding costs step^2 / 12 inside, clipping the squared distance outside; a few outliers are worth
    clipping when they would coarsen the grid for everything else. Source: Banner, Nahshan, Soudry,
    "Post training 4-bit quantization of convolutional networks for rapid-deployment", NeurIPS 2019,
    section 2, here minimized on the data rather than on a fitted density, one end after the other.
    """
    low, high = histogram.low, histogram.high
    if low == high:
        return low, high
    occupied = histogram.counts > 0
    centres, counts = histogram.centres()[occupied], histogram.counts[occupied]

    def error(ends: Range) -> float:
        beyond = centres - np.clip(centres, *ends)
        rounding = ((ends[1] - ends[0]) / _LEVELS) ** 2 / 12
        return float(np.where(beyond == 0, rounding, beyond**2) @ counts)

    shares = np.linspace(1.0, 0.02, 99)
    best = (low, high)
    for _ in range(3):
        best = min(((low * s, best[1]) for s in shares), key=error)
        best = min(((best[0], high * s) for s in shares), key=error)
    return best


def full_range(histogram: Histogram) -> Range:
    """From the least to the largest value seen, zero within."""
    return histogram.low, histogram.high


def percentile_range(histogram: Histogram, share: float) -> Range:
    """Clips what lies beyond ``share`` of the values, half of the rest at either end.

    Source: Wu, Judd, Zhang, Isaev, Micikevicius, "Integer quantization for deep learning inference", 2020.
    """
    total = histogram.counts.sum()
    if not total:
        return full_range(histogram)
    below = np.cumsum(histogram.counts)
    width = 2 * histogram.reach / _BINS
    first, last = np.searchsorted(below, [total * (1 - share) / 2, total * (1 + share) / 2])
    low, high = first * width - histogram.reach, (last + 1) * width - histogram.reach
    return min(max(low, histogram.low), 0.0), max(min(high, histogram.high), 0.0)


def entropy_range(histogram: Histogram) -> Range:
    """The range whose 8-bit histogram diverges least (Kullback-Leibler) from the one clipped to it.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017. Both ends shrink together; the bin of zero,
    which a ReLU overfills, counts as much as its neighbour.
    """
    low, high = histogram.low, histogram.high
    if low == high:
        return low, high
    centres, counts = histogram.centres(), histogram.counts.astype(np.float64)
    middle = _BINS // 2
    counts[middle - 1 : middle + 1] = min(counts[middle - 2], counts[middle + 1])
    if not counts.any():
        return low, high

    def divergence(ends: Range) -> float:
        levels = np.rint((np.clip(centres, *ends) - ends[0]) * (_LEVELS / (ends[1] - ends[0]))).astype(int)
        inside = (centres >= ends[0]) & (centres <= ends[1])
        clipped = np.where(inside, counts, 0)
        edges = np.flatnonzero(inside)
        if not len(edges) or not clipped.any():
            return np.inf
        kept = clipped.copy()
        clipped[edges[0]] += counts[: edges[0]].sum()
        clipped[edges[-1]] += counts[edges[-1] + 1 :].sum()
        occupied = clipped > 0
        per_level = np.bincount(levels[occupied], minlength=_LEVELS + 1)
        of_level = np.bincount(levels, weights=kept, minlength=_LEVELS + 1)
        spread = (of_level / np.maximum(per_level, 1))[levels[occupied]]
        p, q = clipped[occupied] / clipped.sum(), spread / kept.sum()
        # A bin that only clipped values reach has no counterpart; it costs as if it were one value.
        return float(p @ np.log(p / np.maximum(q, 1 / counts.sum())))

    shares = np.linspace(1.0, 0.05, 96)
    return min(((low * s, high * s) for s in shares), key=divergence)


METHODS: Mapping[str, Callable[[Histogram], Range]] = {
    "min-max": full_range,
    "percentile 99.99": lambda histogram: percentile_range(histogram, 0.9999),
    "percentile 99.9": lambda histogram: percentile_range(histogram, 0.999),
    "MSE": best_range,
    "entropy": entropy_range,
}
"""From the simplest on."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """``macs``: multiply-accumulates of one sample, by node name."""

    histograms: Mapping[str, Histogram]
    macs: Mapping[str, int]

    def ranges(self, method: str) -> dict[str, Range]:
        return {tensor: METHODS[method](h) for tensor, h in self.histograms.items()}


def calibrate(
    proto: onnx.ModelProto, tensors: Iterable[str], feeds: Iterable[Mapping[str, Array]], scratch: Path
) -> Calibration:
    """Runs the float model over ``feeds`` and watches ``tensors``; ValueError names one not finite.

    ``proto`` may be a skeleton whose weights lie in ``scratch``.
    """
    weights = {i.name: tuple(i.dims) for i in proto.graph.initializer}
    products = [n for n in proto.graph.node if n.op_type in MULTIPLY_ACCUMULATE]
    shaped = [t for n in products for t in (n.input[0], n.input[1], n.output[0]) if t not in weights]
    histograms = {t: Histogram() for t in tensors}
    shapes: dict[str, tuple[int, ...]] = dict(weights)
    for values in observed(proto, [*histograms, *shaped], feeds, scratch):
        shapes |= {t: v.shape for t, v in values.items()}
        for tensor, histogram in histograms.items():
            try:
                histogram.add(values[tensor])
            except ValueError:
                raise ValueError(f"tensor {tensor} is not finite on the calibration samples") from None
    macs = {
        n.name: multiply_accumulates(n, *(shapes[t] for t in (*n.input[:2], n.output[0]))) for n in products
    }
    return Calibration(histograms, macs)
