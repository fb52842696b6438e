"""Errors and similarities of numbers, spelled out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from planner.errors import DataError, VariantError
from planner.quality import assess

RNG = np.random.default_rng(0)
LABELS = RNG.normal(size=(30, 2, 3))
THEIRS = LABELS + 0.1 * RNG.normal(size=LABELS.shape)
OURS = LABELS + 0.2 * RNG.normal(size=LABELS.shape)


def test_mean_absolute_and_root_mean_square_error() -> None:
    pairs = list(zip(OURS.reshape(-1).tolist(), LABELS.reshape(-1).tolist(), strict=True))
    mae, rmse = (assess(name, [OURS], [THEIRS], LABELS.reshape(30, 6)) for name in ("mae", "rmse"))
    assert mae.value == pytest.approx(sum(abs(a - b) for a, b in pairs) / len(pairs))
    assert rmse.value == pytest.approx(math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs)))
    for quality in (mae, rmse):
        assert quality.drop > 0 and not quality.higher_is_better and quality.low >= 0


def test_an_error_may_have_one_number_for_a_sample() -> None:
    assert assess("mae", [np.ones((8, 1))], [np.ones((8, 1))], np.zeros(8)).value == 1


def test_cosine_with_labels_and_with_the_baseline() -> None:
    def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
        rows = zip(a.reshape(30, -1), b.reshape(30, -1), strict=True)
        return float(np.mean([x @ y / (math.hypot(*x) * math.hypot(*y)) for x, y in rows]))

    labelled = assess("cosine", [OURS], [THEIRS], LABELS)
    assert labelled.value == pytest.approx(mean_cosine(OURS, LABELS))
    assert labelled.drop == pytest.approx(mean_cosine(THEIRS, LABELS) - labelled.value)
    unlabelled = assess("cosine", [OURS], [THEIRS], None)
    assert unlabelled.value == pytest.approx(mean_cosine(OURS, THEIRS))
    assert (unlabelled.drop, unlabelled.drop_high) == pytest.approx(
        (1 - unlabelled.value, 1 - unlabelled.low)
    )


def test_zeros_are_like_zeros_only() -> None:
    ours, theirs = np.array([[0.0, 0], [0, 0], [1, 1]]), np.array([[0.0, 0], [1, 0], [1, 1]])
    assert assess("cosine", [ours], [theirs], None).value == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["mae", "rmse", "cosine"])
def test_broken_outputs_have_no_value(name: str) -> None:
    broken = OURS.copy()
    broken[3, 0, 0], broken[4] = np.nan, np.inf
    with pytest.raises(VariantError, match="NaN or infinity in 2 of 30 samples"):
        assess(name, [broken], [THEIRS], LABELS)


@pytest.mark.parametrize("name", ["mae", "rmse", "cosine"])
def test_shapes_must_match(name: str) -> None:
    with pytest.raises(DataError, match=r"labels have shape .30., the model's first output .30, 2, 3."):
        assess(name, [OURS], [THEIRS], np.zeros(30))
