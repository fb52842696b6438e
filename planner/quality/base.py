"""What a metric is: it observes every sample, then combines the observations of all into one value.

That split lets the intervals weigh samples anew without running the model again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import DataError, VariantError

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Observe = Callable[[Sequence[Array], Array | None, Sequence[Array]], Floats]
"""(outputs, labels, baseline's outputs) -> one row of observations for each sample."""
Combine = Callable[[Floats, Array | None, Floats], Floats]
"""(observations, labels, weights ``[resamples, samples]``) -> one value for each row of weights."""
Stake = Callable[[Floats, Array | None], float]
"""(observations, labels) -> how far, to first order, the value moves when a sample fails wholly, times the
number of samples: 1 for accuracy. Where samples differ in this, see ``at_stake``."""


@dataclass(frozen=True, slots=True)
class Metric:
    """``hits``: every observation is 0 or 1 and ``combine`` averages them, over all samples or, where
    ``by_class``, over each class and then over the classes. These have closed-form intervals. Every other
    metric is bootstrapped, and ``stake`` says what failures that no sample shows could cost. ``bounds``: no
    value lies beyond. ``version`` tells apart the code of metrics that are not the planner's own.
    """

    name: str
    needs_labels: bool
    higher_is_better: bool
    observe: Observe
    combine: Combine
    hits: bool = False
    by_class: bool = False
    stake: Stake | None = None
    bounds: tuple[float, float] = (-inf, inf)
    version: str = ""


def mean(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    return np.asarray(weights @ observations / weights.sum(axis=1), np.float64)


def at_stake(moves: Floats) -> float:
    """The stake of samples (axis 0) that move the value by ``moves`` when they fail, times their number.

    If a share p of all samples fails, whichever, the value moves by w = p E[m], with a variance of
    p E[m^2] = w E[m^2] / E[m] a sample: as if the stake were E[m^2] / E[m]. Columns are kinds of failure,
    one of which may occur without the others: the largest counts.
    """
    return float(np.max(ratio((moves**2).sum(axis=0), moves.sum(axis=0))))


def scale_seen(observations: Floats, labels: Array | None) -> float:
    """The stake of scores without known bounds: the widest step between two of those seen, 0 included."""
    return max(float(observations.max()), 0.0) - min(float(observations.min()), 0.0)


def sums_of_groups(weights: Floats, groups: Ints, count: int) -> Floats:
    """Weights ``[rows, samples]`` summed within each group from 0, ``[rows, count]``; -1 counts nowhere."""
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    present, starts = np.unique(groups[order], return_index=True)
    sums = np.zeros((len(weights), count))
    if len(present):
        sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def ratio(parts: Any, wholes: Any) -> Floats:
    """Elementwise, 0 where there is no whole."""
    quotient: Floats = np.divide(
        parts, wholes, out=np.zeros(np.broadcast(parts, wholes).shape), where=wholes > 0
    )
    return quotient


def class_scores(outputs: Sequence[Array]) -> Array:
    """The first output as ``[samples, classes]``; one class where it has one number for a sample."""
    scores = outputs[0]
    if scores.ndim == 1:
        return scores[:, None]
    if scores.ndim > 2 and all(size == 1 for size in scores.shape[2:]):
        return scores.reshape(scores.shape[:2])
    if scores.ndim == 2:
        return scores
    raise _no_classes(scores)


def top_1(outputs: Sequence[Array]) -> Ints:
    """The best class of each sample by the first output ``[samples, classes]``; -1 where a score is NaN."""
    scores = class_scores(outputs)
    if scores.shape[1] < 2:
        raise _no_classes(outputs[0])
    return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1)).astype(np.int64)


def _no_classes(output: Array) -> DataError:
    return DataError(
        f"the metric needs a score for each class, [samples, classes]; the model's first output is "
        f"{list(output.shape)}; cosine compares outputs of any shape"
    )


def given(labels: Array | None) -> Array:
    """Raises DataError where there are no labels."""
    if labels is None:
        raise DataError("the metric needs labels; add them to the data, or use agreement")
    return labels


def classes_of(labels: Array | None, samples: int, classes: int | None = None) -> Ints:
    """Labels as class numbers ``[samples]``, below ``classes``. Raises DataError."""
    labels = given(labels)
    flat = labels.reshape(len(labels), -1)
    if flat.shape != (samples, 1) or not np.array_equal(flat, np.floor(flat)) or flat.min(initial=0) < 0:
        raise DataError(f"labels must be one class number from 0 on for each of {samples} samples")
    if classes is not None and flat.max(initial=0) >= classes:
        raise DataError(f"label {flat.max():g} is beyond the model's {classes} classes, numbered from 0")
    return flat[:, 0].astype(np.int64)


def whole_numbers(labels: Array | None) -> Ints:
    """Labels as integers. Raises DataError."""
    labels = given(labels)
    if not np.array_equal(labels, np.floor(labels)):
        raise DataError("labels must be whole numbers for this metric")
    return labels.astype(np.int64)


def finite(output: Array) -> Floats:
    """The output in float64. Raises VariantError where it is NaN or infinite."""
    values = np.asarray(output, np.float64)
    refuse_broken(np.asarray((~np.isfinite(values)).reshape(len(values), -1).any(axis=1)))
    return values


def refuse_broken(samples: NDArray[np.bool_]) -> None:
    """Raises VariantError if any sample is broken."""
    if samples.any():
        raise VariantError(
            f"the metric has no value: NaN or infinity in {samples.sum()} of {len(samples)} samples' outputs"
        )
