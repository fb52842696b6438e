"""Metrics of one class for each sample. The first output is ``[samples, classes]``, labels are class numbers.

F1 and AUC also take one output for each sample, the score of class 1 against class 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner.errors import DataError, SpecError
from planner.quality.base import (
    Array,
    Floats,
    Ints,
    Metric,
    class_scores,
    classes_of,
    mean,
    ratio,
    sums_of_groups,
    top_1,
)


def _correct(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    predicted = top_1(outputs)
    wanted = classes_of(labels, len(predicted), outputs[0].shape[1])
    return np.asarray(predicted == wanted, np.float64)


def _agrees(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    predicted, reference = top_1(outputs), top_1(baseline)
    return np.asarray((predicted == reference) & (predicted >= 0), np.float64)


def mean_of_classes(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    """The mean over classes of the mean within each; a class that has no weight does not count."""
    _, group = np.unique(classes_of(labels, len(observations)), return_inverse=True)
    count = int(group.max()) + 1
    totals = sums_of_groups(weights, group, count)
    means = ratio(sums_of_groups(weights * observations, group, count), totals)
    return np.asarray(means.sum(axis=1) / (totals > 0).sum(axis=1), np.float64)


ACCURACY = Metric("accuracy", True, True, _correct, mean, hits=True, bounds=(0, 1))
MACRO_ACCURACY = Metric(
    "macro_accuracy", True, True, _correct, mean_of_classes, hits=True, by_class=True, bounds=(0, 1)
)
AGREEMENT = Metric("agreement", False, True, _agrees, mean, hits=True, bounds=(0, 1))


def top_k(k: int) -> Metric:
    """Right where the label is among the k best classes; of equal scores the lower class goes first."""
    if k < 1:
        raise SpecError("metric top-0: k starts at 1")

    def among(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
        top_1(outputs)
        scores = class_scores(outputs)
        if k >= scores.shape[1]:
            raise DataError(f"top-{k} of the model's {scores.shape[1]} classes is always right; lower k")
        wanted = classes_of(labels, len(scores), scores.shape[1])[:, None]
        own = np.take_along_axis(scores, wanted, axis=1)
        before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < wanted))
        return np.asarray((before.sum(axis=1) < k) & ~np.isnan(scores).any(axis=1), np.float64)

    return Metric(f"top-{k}", True, True, among, mean, hits=True, bounds=(0, 1))


def _predicted_and_wanted(
    outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]
) -> Floats:
    """``[samples, 2]``. Of two classes only class 1 counts, so class 0 is -1 here, which no sum takes in."""
    scores = class_scores(outputs)
    if scores.shape[1] > 2:
        predicted = top_1(outputs)
        wanted = classes_of(labels, len(scores), scores.shape[1])
    else:
        wanted = classes_of(labels, len(scores), 2) - 1
        predicted = _positive(scores, class_scores(baseline)) - 1
        if not (wanted == 0).any():
            raise DataError("f1 of two classes is that of class 1, of which the labels have no sample")
        # A NaN is wrong either way.
        predicted = np.where(np.isnan(scores).any(axis=1), -1 - wanted, predicted)
    return np.stack([predicted, wanted], axis=1).astype(np.float64)


def _positive(scores: Array, baseline: Array) -> Ints:
    """Two scores: the larger wins. One: above 0.5, or above 0 where the baseline's are no probabilities."""
    if scores.shape[1] == 2:
        return np.asarray(scores[:, 1] > scores[:, 0], np.int64)
    probabilities = np.nanmin(baseline) >= 0 and np.nanmax(baseline) <= 1
    return np.asarray(scores[:, 0] > (0.5 if probabilities else 0), np.int64)


def _f1(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    """2 TP / (2 TP + FP + FN), its mean over the classes that occur in the labels."""
    hit, actual, predicted = _hit_actual_predicted(observations, weights)
    scores = ratio(2 * hit, actual + predicted) * (actual > 0)
    return np.asarray(scores.sum(axis=1) / np.maximum((actual > 0).sum(axis=1), 1), np.float64)


def _hit_actual_predicted(observations: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    predicted, wanted = observations.T.astype(np.int64)
    count = int(observations.max()) + 1
    hit = sums_of_groups(weights, np.where(predicted == wanted, wanted, -1), count)
    return hit, sums_of_groups(weights, wanted, count), sums_of_groups(weights, predicted, count)


def _f1_stake(observations: Floats, labels: Array | None) -> float:
    """Of D = actual + predicted, a failure takes (2 - F1) / D from its class, F1 / D from where it goes.

    Both may be the class that suffers most, out of those that occur.
    """
    samples = len(observations)
    hit, actual, predicted = (x[0] for x in _hit_actual_predicted(observations, np.ones((1, samples))))
    occurs = actual > 0
    total = (actual + predicted)[occurs]
    scores = 2 * hit[occurs] / total
    taken_in = float((scores / total).max()) if occurs.sum() > 1 else 0.0
    return samples / int(occurs.sum()) * (float(((2 - scores) / total).max()) + taken_in)


F1 = Metric("f1", True, True, _predicted_and_wanted, _f1, stake=_f1_stake, bounds=(0, 1))


def _placements(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    """For each class the share of pairs, of this sample and one of the other side, in the right order.

    ``[samples, classes]``, or for two classes ``[samples, 1]``. The other side of a sample of the class are
    those of other classes, and the reverse; a tie counts half, and NaN ranks where it is wrong.
    """
    scores = class_scores(outputs).astype(np.float64)
    if scores.shape[1] == 2:
        scores = scores[:, 1:] - scores[:, :1]
    wanted = classes_of(labels, len(scores), max(scores.shape[1], 2))
    if len(np.unique(wanted)) < 2:
        raise DataError("auc needs labels of two classes or more")
    own = _membership(wanted, scores.shape[1])
    scores = np.where(np.isnan(scores), np.where(own, -np.inf, np.inf), scores)
    return np.stack([_placed(column, member) for column, member in zip(scores.T, own.T, strict=True)], axis=1)


def _membership(wanted: Ints, columns: int) -> NDArray[np.bool_]:
    """``[samples, columns]``: in the column's class; the only column of two classes is class 1's."""
    return np.asarray(wanted[:, None] == (np.arange(columns) if columns > 1 else 1))


def _placed(scores: Floats, member: NDArray[np.bool_]) -> Floats:
    placed = np.zeros(len(scores))
    for side, sign in ((member, 1), (~member, -1)):
        others = np.sort(sign * scores[~side])
        if len(others):
            ours = sign * scores[side]
            below = np.searchsorted(others, ours, "left") + np.searchsorted(others, ours, "right")
            placed[side] = below / (2 * len(others))
    return placed


def _auc(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    """How likely a sample of a class outranks one of the others; the mean over the classes that occur.

    That is the area under the ROC curve (Hanley and McNeil, Radiology 143, 1982). Weighed anew it is, to
    first order, the mean placement of the class, plus that of the others, minus the area as it was: the
    components of DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988. Exact for equal weights.
    """
    own = _membership(classes_of(labels, len(observations)), observations.shape[1])
    of_class = ratio(weights @ np.where(own, observations, 0), weights @ own)
    of_others = ratio(weights @ np.where(own, 0, observations), weights @ ~own)
    area = ratio(np.where(own, observations, 0).sum(axis=0), own.sum(axis=0))
    occurs = (weights @ own > 0) & (weights @ ~own > 0)
    areas = (of_class + of_others - area) * occurs
    # Without a pair to compare there is nothing to tell the classes apart by.
    return np.where(occurs.any(axis=1), areas.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1), 0.5)


def _auc_stake(observations: Floats, labels: Array | None) -> float:
    """A failing sample loses every pair it is in: 1/n_c of its class's area, 1/(n - n_k) of class k's."""
    n = len(observations)
    _, sizes = np.unique(classes_of(labels, n), return_counts=True)
    if observations.shape[1] == 1:
        return float(n / sizes.min())
    others = 1 / (n - sizes)
    return float((n / len(sizes) * (1 / sizes + others.sum() - others)).max())


AUC = Metric("auc", True, True, _placements, _auc, stake=_auc_stake, bounds=(0, 1))
