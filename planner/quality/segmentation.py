"""Mean intersection over union of class maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.errors import DataError
from planner.quality.base import Array, Floats, Ints, Metric, at_stake, ratio, whole_numbers

IGNORED = (-1, 255)
"""Labels of pixels that count nowhere."""


def _areas(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    """``[samples, 3, classes]``: pixels of the intersection, of the union, and of the label."""
    wanted = whole_numbers(labels)
    predicted, classes = _class_map(outputs[0], wanted)
    if not ((wanted >= 0) & (wanted != 255)).any():
        raise DataError("every label is ignored (-1 or 255)")
    areas = np.zeros((len(wanted), 3, classes))
    for index, (ours, truth) in enumerate(zip(predicted, wanted, strict=True)):
        counted = ~np.isin(truth, IGNORED)
        ours, truth = ours[counted], truth[counted]
        hit = np.bincount(truth[ours == truth], minlength=classes)
        label = np.bincount(truth, minlength=classes)
        areas[index] = hit, label + np.bincount(ours[ours >= 0], minlength=classes) - hit, label
    return areas


def _class_map(output: Array, wanted: Ints) -> tuple[Ints, int]:
    """The class of each pixel, -1 where a score is NaN, and how many classes there are."""
    real = wanted[~np.isin(wanted, IGNORED)]
    most = int(real.max(initial=0)) + 1
    if real.min(initial=0) < 0:
        raise DataError(f"label {real.min()} is no class; -1 and 255 mean ignored")
    if output.dtype.kind in "iu" and output.shape == wanted.shape:
        return output.astype(np.int64), max(most, int(output.max(initial=0)) + 1)
    if output.ndim < 3 or (len(output), *output.shape[2:]) != wanted.shape:
        raise DataError(
            f"miou needs scores [samples, classes, height, width] and labels [samples, height, width]; got "
            f"{list(output.shape)} and {list(wanted.shape)}"
        )
    if most > output.shape[1]:
        raise DataError(f"label {most - 1} is beyond the model's {output.shape[1]} classes, numbered from 0")
    best = np.where(np.isnan(output).any(axis=1), -1, output.argmax(axis=1))
    return best.astype(np.int64), output.shape[1]


def _mean_iou(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    """Areas summed over samples first, then the mean over the classes that occur in the labels."""
    summed = weights @ observations.reshape(len(observations), -1)
    hit, union, label = np.moveaxis(summed.reshape(len(weights), *observations.shape[1:]), 1, 0)
    scores = ratio(hit, union) * (label > 0)
    return np.asarray(scores.sum(axis=1) / np.maximum((label > 0).sum(axis=1), 1), np.float64)


def _share_of_class(observations: Floats, labels: Array | None) -> float:
    """A failure loses the sample's share of a class, one of those that occur."""
    label = observations[:, 2]
    present = int((label.sum(axis=0) > 0).sum())
    return at_stake(ratio(label, label.sum(axis=0)) * (len(label) / present))


MIOU = Metric("miou", True, True, _areas, _mean_iou, stake=_share_of_class, bounds=(0, 1))
