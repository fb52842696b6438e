"""Metrics of classes against definitions spelled out sample by sample."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import DataError, SpecError
from planner.quality import assess, metric


def value(name: str, outputs: np.ndarray, labels: np.ndarray) -> float:
    return assess(name, [outputs], [outputs], labels, resamples=2).value


def drawn(seed: int, classes: int, samples: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels in which every class occurs."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(max(classes, 2)), rng.integers(0, max(classes, 2), samples)])
    scores = rng.integers(0, 4, (len(labels), classes)).astype(float)
    if classes > 1:
        scores[np.arange(len(labels)), labels] += rng.integers(0, 3, len(labels))
    else:
        scores[:, 0] += labels
    return scores, labels


def f1_of(predicted: list[Any], wanted: list[Any], c: int) -> float:
    ours = {i for i, p in enumerate(predicted) if p == c}
    theirs = {i for i, w in enumerate(wanted) if w == c}
    return 2 * len(ours & theirs) / (len(ours) + len(theirs))


@pytest.mark.parametrize("seed", range(5))
def test_f1_is_the_mean_over_the_labels_classes(seed: int) -> None:
    scores, labels = drawn(seed, 6)
    labels = np.where(labels == 5, 4, labels)  # class 5 is predicted but never right
    predicted = scores.argmax(axis=1).tolist()
    expected = np.mean([f1_of(predicted, labels.tolist(), c) for c in range(5)])
    assert value("f1", scores, labels) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_f1_of_two_classes_is_that_of_class_1(seed: int) -> None:
    scores, labels = drawn(seed, 2)
    predicted = (scores[:, 1] > scores[:, 0]).astype(int).tolist()
    expected = f1_of(predicted, labels.tolist(), 1)
    assert value("f1", scores, labels) == pytest.approx(expected)
    margin = (scores[:, 1] - scores[:, 0])[:, None]
    assert value("f1", margin, labels) == pytest.approx(expected)
    assert value("f1", 1 / (1 + np.exp(-margin)), labels) == pytest.approx(expected)
    assert value("f1", margin[:, 0], labels) == pytest.approx(expected)


def test_the_threshold_is_the_baselines() -> None:
    """Logits that happen to lie in 0..1 are no probabilities."""
    baseline, labels = np.array([-2.0, 3.0, 0.2, 2.0]), np.array([0, 1, 1, 1])
    assert assess("f1", [np.array([-1.0, 1.0, 0.3, 1.0])], [baseline], labels).value == 1
    assert assess("f1", [np.array([0.0, 1.0, 0.3, 1.0])], [baseline], labels).value == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_auc_counts_pairs_in_order(seed: int, classes: int) -> None:
    scores, labels = drawn(seed, classes)
    areas = []
    for c in range(classes) if classes > 2 else [1]:
        column = scores[:, c] if classes > 2 else scores[:, -1] - (scores[:, 0] if classes == 2 else 0)
        pairs = list(itertools.product(column[labels == c], column[labels != c]))
        areas.append(np.mean([(p > n) + (p == n) / 2 for p, n in pairs]))
    assert value("auc", scores, labels) == pytest.approx(np.mean(areas))


def test_auc_of_a_resample_is_near_that_of_its_samples() -> None:
    """To first order in the weights: what is left is of the order 1/n."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    scores = (labels + rng.normal(size=300))[:, None]
    auc = metric("auc")
    for _ in range(5):
        chosen = rng.integers(0, 300, 300)
        weights = np.bincount(chosen, minlength=300)[None].astype(float)
        weighed = auc.combine(auc.observe([scores], labels, [scores]), labels, weights)[0]
        assert weighed == pytest.approx(value("auc", scores[chosen], labels[chosen]), abs=0.01)


@pytest.mark.parametrize("name", ["f1", "top-2"])
def test_weighing_twice_is_having_twice(name: str) -> None:
    scores, labels = drawn(3, 5)
    weights = np.random.default_rng(0).integers(0, 3, len(labels))
    m = metric(name)
    repeated = np.repeat(np.arange(len(labels)), weights)
    weighed = m.combine(m.observe([scores], labels, [scores]), labels, weights[None].astype(float))[0]
    assert weighed == pytest.approx(value(name, scores[repeated], labels[repeated]))


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=25)
def test_top_k_by_sorting(seed: int, k: int) -> None:
    scores, labels = drawn(seed, 5, samples=10)
    best = [sorted(range(5), key=lambda c: (-row[c], c))[:k] for row in scores]
    expected = np.mean([label in top for label, top in zip(labels, best, strict=True)])
    assert value(f"top-{k}", scores, labels) == pytest.approx(expected)
    if k == 1:
        assert value("accuracy", scores, labels) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["f1", "auc", "top-1"])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_nan_is_wrong(name: str, columns: int) -> None:
    if columns == 1 and name == "top-1":
        return
    labels = np.arange(30) % max(columns, 2)
    right = np.eye(3)[labels][:, :columns] if columns > 1 else labels[:, None].astype(float)
    broken, wrong = right.copy(), right.copy()
    broken[:6] = np.nan
    wrong[:6] = 1 - wrong[:6] if columns < 3 else np.roll(wrong[:6], 1, axis=1)
    quality = assess(name, [broken], [right], labels)
    assert quality.value < 1 == quality.value + quality.drop
    assert quality.value <= assess(name, [wrong], [right], labels).value + 0.1


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "match"),
    [
        ("f1", np.zeros((4, 2)), np.zeros(4, int), "no sample"),
        ("auc", np.zeros((4, 3)), np.zeros(4, int), "two classes or more"),
        ("auc", np.zeros((4, 1)), np.array([0, 1, 2, 0]), "label 2 is beyond the model's 2 classes"),
        ("f1", np.zeros((4, 3, 2)), np.zeros(4, int), "a score for each class"),
        ("f1", np.zeros((4, 3)), None, "needs labels"),
        ("top-3", np.zeros((4, 3)), np.zeros(4, int), "always right"),
        ("agreement", np.zeros((4, 1)), None, "cosine compares outputs of any shape"),
    ],
)
def test_what_does_not_suit_is_named(
    name: str, outputs: np.ndarray, labels: np.ndarray | None, match: str
) -> None:
    with pytest.raises(DataError, match=match) as caught:
        assess(name, [outputs], [outputs], labels)
    assert "\n" not in str(caught.value)


def test_top_0_is_no_metric() -> None:
    with pytest.raises(SpecError, match="k starts at 1"):
        metric("top-0")
