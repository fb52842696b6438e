"""What can be asked of a variant's outputs. A new metric is one entry in the registry.

A metric observes something on every sample, then combines the observations of all of them into a value:
that split lets the intervals weigh samples anew without running the model again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import DataError, SpecError

Array = NDArray[Any]
Floats = NDArray[np.float64]

Observe = Callable[[Sequence[Array], Array | None, Sequence[Array]], Floats]
"""(outputs, labels, baseline's outputs) -> one row of observations for each sample."""
Combine = Callable[[Floats, Array | None, Floats], Floats]
"""(observations, labels, weights ``[resamples, samples]``) -> one value for each row of weights."""


@dataclass(frozen=True, slots=True)
class Metric:
    """``hits``: every observation is 0 or 1 and ``combine`` averages them, over all samples or, where
    ``by_class``, over each class and then over the classes. These have closed-form intervals; every other
    metric is bootstrapped.
    """

    name: str
    needs_labels: bool
    higher_is_better: bool
    observe: Observe
    combine: Combine
    hits: bool = False
    by_class: bool = False


def metric(name: str) -> Metric:
    """Raises SpecError."""
    if name not in _METRICS:
        near = get_close_matches(name, _METRICS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_METRICS)}"
        raise SpecError(f"unknown metric {name!r}; {hint}")
    return _METRICS[name]


def check_metric(name: str) -> None:
    """Raises SpecError for a name that ``metric`` does not know."""
    metric(name)


def metric_names() -> tuple[str, ...]:
    return tuple(_METRICS)


def top_1(outputs: Sequence[Array]) -> NDArray[np.int64]:
    """The best class of each sample by the first output ``[samples, classes]``; -1 where a score is NaN."""
    scores = outputs[0]
    if scores.ndim > 2 and all(size == 1 for size in scores.shape[2:]):
        scores = scores.reshape(scores.shape[:2])
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise DataError(
            f"the metric needs a score for each class, [samples, classes]; "
            f"the model's first output is {list(outputs[0].shape)}"
        )
    return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1)).astype(np.int64)


def classes_of(labels: Array | None, samples: int) -> NDArray[np.int64]:
    """Labels as class numbers ``[samples]``. Raises DataError."""
    if labels is None:
        raise DataError("the metric needs labels; add them to the data, or use agreement")
    flat = labels.reshape(len(labels), -1)
    if flat.shape != (samples, 1) or not np.array_equal(flat, np.floor(flat)) or flat.min(initial=0) < 0:
        raise DataError(f"labels must be one class number from 0 on for each of {samples} samples")
    return flat[:, 0].astype(np.int64)


def _correct(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    predicted = top_1(outputs)
    wanted = classes_of(labels, len(predicted))
    classes = outputs[0].shape[1]
    if wanted.max(initial=0) >= classes:
        raise DataError(f"label {wanted.max()} is beyond the model's {classes} classes, numbered from 0")
    return np.asarray(predicted == wanted, np.float64)


def _agrees(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    predicted, reference = top_1(outputs), top_1(baseline)
    return np.asarray((predicted == reference) & (predicted >= 0), np.float64)


def mean(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    return np.asarray(weights @ observations / weights.sum(axis=1), np.float64)


def mean_of_classes(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    """The mean over classes of the mean within each; a class that has no weight does not count."""
    member = classes_of(labels, len(observations))[:, None] == np.unique(
        classes_of(labels, len(observations))
    )
    totals = weights @ member
    sums = weights @ (member * observations[:, None])
    means = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    return np.asarray(means.sum(axis=1) / (totals > 0).sum(axis=1), np.float64)


_METRICS = {
    m.name: m
    for m in (
        Metric("accuracy", True, True, _correct, mean, hits=True),
        Metric("macro_accuracy", True, True, _correct, mean_of_classes, hits=True, by_class=True),
        Metric("agreement", False, True, _agrees, mean, hits=True),
    )
}
