"""The range of every activation that will be quantized, from samples, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from planner.variants.context import Array
from planner.variants.graph import save
from planner.variants.placement import MULTIPLY_ACCUMULATE, multiply_accumulates
from planner.variants.session import load_session

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


def best_range(histogram: Histogram) -> tuple[float, float]:
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

    def error(ends: tuple[float, float]) -> float:
        beyond = centres - np.clip(centres, *ends)
        rounding = ((ends[1] - ends[0]) / _LEVELS) ** 2 / 12
        return float(np.where(beyond == 0, rounding, beyond**2) @ counts)

    shares = np.linspace(1.0, 0.02, 99)
    best = (low, high)
    for _ in range(3):
        best = min(((low * s, best[1]) for s in shares), key=error)
        best = min(((best[0], high * s) for s in shares), key=error)
    return best


@dataclass(frozen=True, slots=True)
class Calibration:
    """``macs``: multiply-accumulates of one sample, by node name."""

    ranges: Mapping[str, tuple[float, float]]
    macs: Mapping[str, int]


def calibrate(
    proto: onnx.ModelProto, tensors: Iterable[str], feeds: Iterable[Mapping[str, Array]], scratch: Path
) -> Calibration:
    """Runs the float model over ``feeds`` and watches ``tensors``; ValueError names one not finite."""
    weights = {i.name: tuple(i.dims) for i in proto.graph.initializer}
    products = [n for n in proto.graph.node if n.op_type in MULTIPLY_ACCUMULATE]
    shaped = [t for n in products for t in (n.input[0], n.input[1], n.output[0]) if t not in weights]
    inputs = {value.name for value in proto.graph.input}
    watched = list(dict.fromkeys(t for t in (*tensors, *shaped) if t not in inputs))
    session = load_session(_with_outputs(proto, watched, scratch))
    histograms = {t: Histogram() for t in tensors}
    shapes: dict[str, tuple[int, ...]] = dict(weights)
    for feed in feeds:
        values = dict(feed) | dict(zip(watched, session.run(watched, dict(feed)), strict=True))
        shapes |= {t: v.shape for t, v in values.items()}
        for tensor, histogram in histograms.items():
            try:
                histogram.add(values[tensor])
            except ValueError:
                raise ValueError(f"tensor {tensor} is not finite on the calibration samples") from None
    macs = {
        n.name: multiply_accumulates(n, *(shapes[t] for t in (*n.input[:2], n.output[0]))) for n in products
    }
    return Calibration({t: best_range(h) for t, h in histograms.items()}, macs)


def _with_outputs(proto: onnx.ModelProto, tensors: list[str], scratch: Path) -> Path:
    watching = onnx.ModelProto()
    watching.CopyFrom(proto)
    present = {value.name for value in proto.graph.output}
    watching.graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors if t not in present)
    path = scratch / "watched.onnx"
    save(watching, path)
    return path
