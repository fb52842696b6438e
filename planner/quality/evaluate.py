"""A variant's outputs, and their quality next to the baseline's, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.domain.model import BoundInput
from planner.domain.quality import Quality
from planner.errors import DataError
from planner.quality.base import Array, Floats, Metric, classes_of
from planner.quality.data import Dataset
from planner.quality.intervals import bootstrap, tango_of_classes, widened, wilson_of_classes
from planner.quality.metrics import metric as named

Predict = Callable[[Mapping[str, Array]], list[Array]]


def predict_all(
    predict: Predict, dataset: Dataset, inputs: tuple[BoundInput, ...], batch_size: int = 32
) -> list[Array]:
    """The model's outputs for all samples, in order, first axis = sample.

    Where the model has a batch axis it gets up to ``batch_size`` samples at a time; where its first axis is
    fixed and samples are rows of it, as many as that takes (the last repeated, its outputs dropped); where
    any sample is a whole input, one. Raises DataError where an output has no axis of the batch.
    """
    step = _batch(dataset, inputs, batch_size)
    fixed = any(t.batch_axis is None for t in inputs)
    parts: list[list[Array]] = []
    for start in range(0, dataset.samples, step):
        kept = min(step, dataset.samples - start)
        outputs = predict(dataset.batch(range(start, start + kept), inputs))
        count = step if fixed else kept
        parts.append([_samples_first(o, i, count)[:kept] for i, o in enumerate(outputs)])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _batch(dataset: Dataset, inputs: tuple[BoundInput, ...], batch_size: int) -> int:
    fixed = [t for t in inputs if t.batch_axis is None]
    if any(dataset.inputs[t.name].ndim != len(t.shape) for t in fixed):
        return 1
    sizes = {t.shape[0] for t in fixed}
    if len(sizes) > 1:
        raise DataError(
            f"inputs have first axes of different sizes {sorted(sizes)}; give whole inputs as samples"
        )
    return sizes.pop() if sizes else max(batch_size, 1)


def _samples_first(output: Array, index: int, count: int) -> Array:
    output = np.asarray(output)
    if count in output.shape:
        return np.moveaxis(output, output.shape.index(count), 0)
    if count == 1:
        return output[None]
    raise DataError(f"output {index} has shape {list(output.shape)}, no axis for the batch of {count}")


def assess(
    metric: Metric | str,
    outputs: Sequence[Array],
    baseline_outputs: Sequence[Array],
    labels: Array | None,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Quality:
    """The metric with its interval, and the paired drop from the baseline with its own.

    Right-or-wrong metrics: Wilson for the value, Tango for the paired drop, and what combines classes for a
    mean over them; see ``intervals`` for why not the bootstrap. For ``agreement`` the baseline agrees with
    itself, so the drop is 1 - agreement. Other metrics: paired bootstrap, widened by what failures that no
    sample shows could cost. ``drop`` is positive where the variant is worse, also for metrics where less is
    better. Raises DataError where outputs and labels do not suit the metric, VariantError where outputs that
    are NaN or infinite leave it without a value.
    """
    metric = named(metric) if isinstance(metric, str) else metric
    ours = metric.observe(outputs, labels, baseline_outputs)
    theirs = metric.observe(baseline_outputs, labels, baseline_outputs)
    if len(ours) != len(theirs) or not len(ours):
        raise DataError(f"{metric.name}: {len(ours)} samples of the variant, {len(theirs)} of the baseline")
    pair = _Pair(metric, ours, theirs, labels)
    value, drop = (float(x) for x in pair.values(np.ones((1, len(ours))))[0])
    if metric.hits:
        stake = pair.stake_of_classes()
        ends, drop_ends = pair.score_intervals(confidence)
    else:
        stake = max(metric.stake(side, labels) for side in (ours, theirs)) if metric.stake else 0.0
        drawn = bootstrap(pair.values, len(ours), confidence, seed, resamples)
        ends, drop_ends = (
            widened(estimate, float(drawn[0, k]), float(drawn[1, k]), len(ours), stake, confidence)
            for k, estimate in enumerate((value, drop))
        )
    least, most = metric.bounds
    return Quality(
        metric.name,
        value,
        max(ends[0], least),
        min(ends[1], most),
        drop,
        max(drop_ends[0], least - most),
        min(drop_ends[1], most - least),
        confidence,
        samples=len(ours),
        higher_is_better=metric.higher_is_better,
        stake=stake,
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """What a metric observed of a variant and of the baseline, sample by sample."""

    metric: Metric
    ours: Floats
    theirs: Floats
    labels: Array | None

    def values(self, weights: Floats) -> Floats:
        """Value and drop, ``[rows, 2]``, of samples weighed by ``[rows, samples]``."""
        mine = self.metric.combine(self.ours, self.labels, weights)
        rest = self.metric.combine(self.theirs, self.labels, weights)
        return np.stack([mine, rest - mine if self.metric.higher_is_better else mine - rest], axis=1)

    def score_intervals(self, confidence: float) -> tuple[tuple[float, float], tuple[float, float]]:
        _, group = np.unique(self._classes(), return_inverse=True)

        def count(which: Array) -> Floats:
            return np.asarray(np.bincount(group, weights=which), np.float64)

        samples = count(np.ones(len(self.ours)))
        lost, gained = self.theirs * (1 - self.ours), self.ours * (1 - self.theirs)
        value = wilson_of_classes(count(self.ours), samples, confidence)
        if not self.metric.needs_labels:  # against itself the baseline cannot lose: one proportion
            return value, (1 - value[1], 1 - value[0])
        return value, tango_of_classes(count(lost), count(gained), samples, confidence)

    def stake_of_classes(self) -> float:
        """1; of a mean over classes, that of the smallest class."""
        _, sizes = np.unique(self._classes(), return_counts=True)
        return float(len(self.ours) / (len(sizes) * sizes.min()))

    def _classes(self) -> Array:
        samples = len(self.ours)
        return classes_of(self.labels, samples) if self.metric.by_class else np.zeros(samples, np.int64)
