"""Metrics, the paired drop, and how many samples a decision takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from planner.domain.model import BoundInput
from planner.errors import DataError, SpecError
from planner.quality import (
    Dataset,
    assess,
    check_metric,
    metric,
    predict_all,
    random_data,
)
from planner.quality.intervals import tango, wilson, z_value

CLASSES = 5


def scores(predicted: np.ndarray) -> list[np.ndarray]:
    return [np.eye(CLASSES, dtype=np.float32)[predicted]]


def flipped(classes: np.ndarray, which: range) -> np.ndarray:
    changed = classes.copy()
    changed[which] = (changed[which] + 1) % CLASSES
    return changed


LABELS = np.arange(200) % CLASSES


def test_accuracy_and_its_paired_drop() -> None:
    ours, theirs = flipped(LABELS, range(20)), flipped(LABELS, range(15, 25))
    quality = assess("accuracy", scores(ours), scores(theirs), LABELS)
    assert (quality.value, quality.drop, quality.samples) == (0.9, pytest.approx(0.05), 200)
    assert (quality.low, quality.high) == pytest.approx([float(e) for e in wilson(180, 200, 0.95)])
    assert (quality.drop_low, quality.drop_high) == pytest.approx([float(e) for e in tango(15, 5, 200, 0.95)])


def test_pairing_is_sharper_than_two_separate_intervals() -> None:
    ours, theirs = flipped(LABELS, range(42)), flipped(LABELS, range(40))
    quality = assess("accuracy", scores(ours), scores(theirs), LABELS)
    ours_low = float(wilson(158, 200, 0.95)[0])
    theirs_high = float(wilson(160, 200, 0.95)[1])
    assert quality.drop_high < (theirs_high - ours_low) / 2


def test_macro_accuracy_weighs_classes_alike() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    quality = assess("macro_accuracy", scores(np.zeros(100, int)), scores(labels), labels)
    assert (quality.value, quality.drop) == (0.5, 0.5)
    assert assess("accuracy", scores(np.zeros(100, int)), scores(labels), labels).value == 0.9


def test_agreement_needs_no_labels() -> None:
    ours = flipped(LABELS, range(10))
    quality = assess("agreement", scores(ours), scores(LABELS), None)
    assert (quality.value, quality.drop) == (0.95, pytest.approx(0.05))
    assert (quality.drop_low, quality.drop_high) == pytest.approx((1 - quality.high, 1 - quality.low))


@pytest.mark.parametrize("name", ["accuracy", "macro_accuracy", "top-2", "agreement"])
def test_perfect_samples_still_leave_doubt(name: str) -> None:
    quality = assess(name, scores(LABELS), scores(LABELS), LABELS)
    assert (quality.value, quality.drop) == (1, 0)
    assert 0.5 / 200 < quality.drop_high < 5 / 200
    assert 1 - 5 / 200 < quality.low < 1 and quality.high == pytest.approx(1)


def test_nan_is_wrong_not_an_error() -> None:
    broken = scores(LABELS)
    broken[0][:100] = np.nan
    assert assess("accuracy", broken, scores(LABELS), LABELS).value == 0.5
    assert assess("agreement", broken, scores(LABELS), None).value == 0.5


@pytest.mark.parametrize(
    ("outputs", "labels", "match"),
    [
        (scores(LABELS), None, "needs labels"),
        (scores(LABELS), LABELS[:50], "one class number"),
        (scores(LABELS), LABELS + 0.5, "one class number"),
        (scores(LABELS), LABELS + 1, "label 5 is beyond the model's 5 classes"),
        ([np.zeros((200, 1))], LABELS, "a score for each class"),
        ([np.zeros((200, 7, 9))], LABELS, "a score for each class"),
    ],
)
def test_outputs_and_labels_must_suit(
    outputs: list[np.ndarray], labels: np.ndarray | None, match: str
) -> None:
    with pytest.raises(DataError, match=match):
        assess("accuracy", outputs, outputs, labels)


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean accuracy"):
        check_metric("acuracy")
    assert metric("accuracy").higher_is_better


def test_pairing_cancels_noise_that_both_sides_share() -> None:
    """A mean error, where less is better."""
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(size=500), rng.normal(size=500)
    theirs, ours = [truth + noise], [truth + noise + 0.1 * np.sign(noise)]
    quality = assess("mae", ours, theirs, truth, seed=1)
    assert quality.drop == pytest.approx(0.1) and not quality.higher_is_better
    unseen = z_value(0.95) ** 2 * quality.stake / 500
    assert quality.drop_high - quality.drop == pytest.approx(unseen)
    assert unseen < (quality.high - quality.low) / 2
    assert quality == assess("mae", ours, theirs, truth, seed=1)


def run_identity(feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [feed["x"] * 2]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_predictions_come_in_order_whatever_the_batch(batch_size: int) -> None:
    inputs = (BoundInput("x", "float32", (1, 4), 0),)
    data = random_data(inputs, 7, 0, {})
    (output,) = predict_all(run_identity, data, inputs, batch_size)
    assert np.array_equal(output, data.inputs["x"] * 2)


def test_batch_axis_may_be_any_and_outputs_turn_it_first() -> None:
    inputs = (BoundInput("x", "float32", (9, 1, 4), 1),)
    data = random_data(inputs, 7, 0, {})
    (output,) = predict_all(run_identity, data, inputs, 3)
    assert np.array_equal(output, data.inputs["x"] * 2)


def test_a_fixed_batch_is_filled_and_cut() -> None:
    inputs = (BoundInput("x", "float32", (4, 2), None),)
    rows = np.arange(14, dtype=np.float32).reshape(7, 2)
    data = Dataset({"x": rows}, None, 7, "", False)
    sizes: list[int] = []

    def predict(feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(feed["x"]))
        return run_identity(feed)

    (output,) = predict_all(predict, data, inputs)
    assert sizes == [4, 4] and np.array_equal(output, rows * 2)


def test_whole_inputs_run_one_at_a_time() -> None:
    inputs = (BoundInput("x", "float32", (3, 2), None),)
    data = random_data(inputs, 5, 0, {})
    outputs = predict_all(lambda feed: [feed["x"].sum(), feed["x"][None]], data, inputs)
    assert outputs[0] == pytest.approx(data.inputs["x"].sum(axis=(1, 2)), rel=1e-5)
    assert np.array_equal(outputs[1], data.inputs["x"])


def test_an_output_without_the_batch_is_named() -> None:
    inputs = (BoundInput("x", "float32", (1, 4), 0),)
    with pytest.raises(DataError, match=r"output 0 has shape .9., no axis for the batch of 3"):
        predict_all(lambda feed: [np.zeros(9)], random_data(inputs, 3, 0, {}), inputs)
