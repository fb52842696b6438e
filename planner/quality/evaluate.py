"""A variant's outputs, and their quality next to the baseline's, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from planner.domain.model import BoundInput
from planner.domain.quality import Quality
from planner.errors import DataError
from planner.quality.data import Array, Dataset
from planner.quality.intervals import Floats, bootstrap, tango_of_classes, wilson_of_classes, z_value
from planner.quality.metrics import Metric, classes_of
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
    itself, so the drop is 1 - agreement. Other metrics: paired bootstrap, percentile.
    ``drop`` is positive where the variant is worse, also for metrics where less is better. Raises DataError.
    """
    metric = named(metric) if isinstance(metric, str) else metric
    ours = metric.observe(outputs, labels, baseline_outputs)
    theirs = metric.observe(baseline_outputs, labels, baseline_outputs)
    if len(ours) != len(theirs) or not len(ours):
        raise DataError(f"{metric.name}: {len(ours)} samples of the variant, {len(theirs)} of the baseline")
    every = np.ones((1, len(ours)))
    value = float(metric.combine(ours, labels, every)[0])
    sign = 1.0 if metric.higher_is_better else -1.0
    drop = sign * (float(metric.combine(theirs, labels, every)[0]) - value)
    if metric.hits:
        low, high, drop_low, drop_high = _score_intervals(metric, ours, theirs, labels, confidence)
    else:

        def statistic(weights: Floats) -> Floats:
            mine = metric.combine(ours, labels, weights)
            return np.stack([mine, sign * (metric.combine(theirs, labels, weights) - mine)], axis=1)

        ends = bootstrap(statistic, len(ours), confidence, seed, resamples)
        (low, drop_low), (high, drop_high) = ends.tolist()
    return Quality(metric.name, value, low, high, drop, drop_low, drop_high, confidence, samples=len(ours))


def _score_intervals(
    metric: Metric, ours: Floats, theirs: Floats, labels: Array | None, confidence: float
) -> tuple[float, float, float, float]:
    groups = classes_of(labels, len(ours)) if metric.by_class else np.zeros(len(ours), np.int64)
    _, group = np.unique(groups, return_inverse=True)

    def count(which: Array) -> Floats:
        return np.asarray(np.bincount(group, weights=which), np.float64)

    samples = count(np.ones(len(ours)))
    hits, lost, gained = count(ours), count((theirs == 1) & (ours == 0)), count((theirs == 0) & (ours == 1))
    value = wilson_of_classes(hits, samples, confidence)
    drop = tango_of_classes(lost, gained, samples, confidence)
    if not metric.needs_labels:  # against itself the baseline cannot lose, so the drop is one proportion
        drop = 1 - value[1], 1 - value[0]
    return *value, *drop


def samples_needed(quality: Quality, max_drop: float) -> int | None:
    """About how many samples like these would show that the drop is at most ``max_drop``; None if none would.

    None: the drop itself is not below ``max_drop``, so that more samples would rather show the opposite.
    From the score equation n w^2 = z^2 (v + w), w the distance of the interval's upper end from the drop:
    v, the variance of a sample's difference, follows from the interval at hand, and n from the w that is
    left. Without any disagreement v is 0 and n is z^2 / max_drop, about 3.8 / max_drop.
    Within a fifth of what the interval itself would take.
    """
    left = max_drop - quality.drop
    if left <= 0:
        return None
    z2 = z_value(quality.confidence) ** 2
    width = quality.drop_high - quality.drop
    variance = max(quality.samples * width**2 / z2 - width, 0.0)
    return math.ceil(z2 * (variance + left) / left**2)
