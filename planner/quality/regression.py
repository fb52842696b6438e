"""Metrics of numbers: the first output against labels of the same shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from planner.errors import DataError
from planner.quality.base import Array, Floats, Metric, finite, given, mean, scale_seen


def _errors(outputs: Sequence[Array], labels: Array | None) -> Floats:
    """Output minus label, ``[samples, numbers]``."""
    output = finite(outputs[0])
    ours, wanted = output.reshape(len(output), -1), _vectors(given(labels), output, "")
    return np.asarray(ours - wanted, np.float64)


def _vectors(labels: Array, output: Array, instead: str) -> Floats:
    wanted = np.asarray(labels, np.float64).reshape(len(labels), -1)
    if wanted.size != output.size or len(wanted) != len(output):
        raise DataError(
            f"labels have shape {list(labels.shape)}, the model's first output {list(output.shape)}; "
            f"the metric compares number with number{instead}"
        )
    return wanted


def _absolute(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    return np.asarray(np.abs(_errors(outputs, labels)).mean(axis=1), np.float64)


def _squared(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    return np.asarray((_errors(outputs, labels) ** 2).mean(axis=1), np.float64)


def _root(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    return np.asarray(np.sqrt(mean(observations, labels, weights)), np.float64)


def _root_stake(observations: Floats, labels: Array | None) -> float:
    """The slope of the root, 1/(2 rmse), times the largest squared error seen."""
    rmse = float(np.sqrt(observations.mean()))
    return scale_seen(observations, labels) / (2 * rmse) if rmse else 0.0


def _cosine(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    """Of each sample's output, as one vector, with its label or, unlabelled, the baseline's output.

    A vector of zeros has no direction: 1 with another one, else 0.
    """
    output = finite(outputs[0])
    ours = output.reshape(len(output), -1)
    reference = finite(baseline[0]) if labels is None else labels
    wanted = _vectors(reference, output, "; to compare with the baseline, leave the labels out")
    lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(wanted, axis=1)
    products = lengths[0] * lengths[1]
    both_zero = (lengths[0] == 0) & (lengths[1] == 0)
    similarity = np.einsum("sn,sn->s", ours, wanted) / np.where(products > 0, products, 1)
    return np.where(both_zero, 1.0, np.clip(similarity, -1, 1))


def _unlike(observations: Floats, labels: Array | None) -> float:
    """A failed output has nothing to do with the right one: a similarity of 0."""
    return 1.0


MAE = Metric("mae", True, False, _absolute, mean, stake=scale_seen, bounds=(0, inf))
RMSE = Metric("rmse", True, False, _squared, _root, stake=_root_stake, bounds=(0, inf))
COSINE = Metric("cosine", False, True, _cosine, mean, stake=_unlike, bounds=(-1, 1))
