"""How far a candidate's outputs are from the float model's, on calibration samples kept back for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.variants.context import Array, Context, single_feeds
from planner.variants.session import load_session

RANGE_SAMPLES = 512
HELD_OUT_SAMPLES = 64
# With fewer samples than this, ranges need all of them.
_LEAST_SPLIT = 16
_MOST_BYTES = 1 << 28


def split(context: Context) -> tuple[Context, Context]:
    """Samples to set ranges by and samples to measure with, at most 512 and 64, drawn with the seed.

    Disjoint, with at least half to set ranges by, where there are 16 or more; else both are all.
    """
    assert context.calibration
    count = len(next(iter(context.calibration.values())))
    order = np.random.default_rng(context.seed).permutation(count)
    held = min(count // 2, HELD_OUT_SAMPLES) if count >= _LEAST_SPLIT else 0
    chosen = order[held:][:RANGE_SAMPLES]
    kept_back = order[: held or HELD_OUT_SAMPLES]
    return _subset(context, np.sort(chosen)), _subset(context, kept_back)


def _subset(context: Context, indices: Array) -> Context:
    assert context.calibration
    return replace(context, calibration={name: array[indices] for name, array in context.calibration.items()})


@dataclass(frozen=True, slots=True)
class Reference:
    """Feeds and the float model's outputs. ``optimized``: whether ONNX Runtime may fuse candidates."""

    feeds: tuple[Mapping[str, Array], ...]
    outputs: tuple[tuple[Array, ...], ...]
    optimized: bool = True

    @classmethod
    def of(cls, model: Path, context: Context, optimized: bool = True) -> Reference:
        """At least one feed, at most 256 MiB of inputs and outputs. Raises what ONNX Runtime raises."""
        assert context.calibration
        session = load_session(model)
        feeds: list[Mapping[str, Array]] = []
        outputs: list[tuple[Array, ...]] = []
        held = 0
        for feed in single_feeds(context.inputs, context.calibration):
            made = tuple(np.asarray(o) for o in session.run(None, feed))
            held += sum(a.nbytes for a in (*feed.values(), *made))
            if feeds and held > _MOST_BYTES:
                break
            feeds.append(feed)
            outputs.append(made)
        return cls(tuple(feeds), tuple(outputs), optimized)

    def error(self, candidate: Path, feeds: int | None = None) -> float:
        """Noise over signal of the outputs on the first ``feeds``: root of the ratio of their powers.

        The signal is what varies from sample to sample; of integers noise is the share that differs. Root
        mean square over the outputs. Infinite where an output is not finite or changes its shape.
        """
        session = load_session(candidate, self.optimized)
        wanted = self.outputs[:feeds]
        noise = np.zeros(len(self.outputs[0]))
        for feed, expected in zip(self.feeds, wanted, strict=False):
            for i, (a, b) in enumerate(zip(session.run(None, dict(feed)), expected, strict=True)):
                if a.shape != b.shape:
                    return np.inf
                noise[i] += _power(a - b) if b.dtype.kind == "f" else (a != b).sum()
        signals = [_signal(column) for column in zip(*wanted, strict=True)]
        ratios = [n / s for n, s in zip(noise, signals, strict=True) if s > 0]
        error = float(np.sqrt(np.mean(ratios))) if ratios else float(np.sqrt(noise.sum()))
        return error if np.isfinite(error) else np.inf


def _signal(values: tuple[Array, ...]) -> float:
    if values[0].dtype.kind != "f":
        return float(sum(v.size for v in values))
    alike = len(values) > 1 and all(v.shape == values[0].shape for v in values)
    centre = np.mean(values, axis=0, dtype=np.float64) if alike else 0.0
    return sum(_power(v - centre) for v in values) or sum(_power(v) for v in values)


def _power(values: Array) -> float:
    flat = values.astype(np.float64).reshape(-1)
    return float(flat @ flat)
