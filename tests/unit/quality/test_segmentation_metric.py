"""Mean IoU against sets of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from planner.errors import DataError
from planner.quality import assess

CLASSES = 4


def iou_by_sets(predicted: np.ndarray, labels: np.ndarray) -> float:
    pixels = [index for index, label in np.ndenumerate(labels) if label not in (-1, 255)]
    scores = []
    for c in range(CLASSES):
        ours = {p for p in pixels if predicted[p] == c}
        theirs = {p for p in pixels if labels[p] == c}
        if theirs:
            scores.append(len(ours & theirs) / len(ours | theirs))
    return float(np.mean(scores))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ignored", [-1, 255])
def test_miou_of_scores_and_of_class_maps(seed: int, ignored: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (6, 5, 7))  # class 3 is predicted, but never right
    predicted = np.where(rng.random(labels.shape) < 0.7, labels, rng.integers(0, CLASSES, labels.shape))
    labels[rng.random(labels.shape) < 0.2] = ignored
    expected = iou_by_sets(predicted, labels)
    scores = np.moveaxis(np.eye(CLASSES, dtype=np.float32)[predicted], -1, 1)
    for output in (scores, predicted):
        assert assess("miou", [output], [output], labels).value == pytest.approx(expected)


def test_nan_is_wrong() -> None:
    labels = np.zeros((4, 2, 2), int)
    right = np.stack([np.ones((4, 2, 2)), np.zeros((4, 2, 2))], axis=1)
    broken = right.copy()
    broken[0] = np.nan
    quality = assess("miou", [broken], [right], labels)
    assert (quality.value, quality.drop) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("output", "labels", "match"),
    [
        (np.zeros((2, 3, 4, 4)), np.zeros((2, 4, 5)), "miou needs scores"),
        (np.zeros((2, 3, 4, 4)), np.full((2, 4, 4), 3), "label 3 is beyond the model's 3 classes"),
        (np.zeros((2, 3, 4, 4)), np.full((2, 4, 4), -100), "label -100 is no class"),
        (np.zeros((2, 3, 4, 4)), np.full((2, 4, 4), 255), "every label is ignored"),
    ],
)
def test_what_does_not_suit_is_named(output: np.ndarray, labels: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        assess("miou", [output], [output], labels)
