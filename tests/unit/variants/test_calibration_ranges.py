"""Histograms grow without losing counts, and ranges minimize the error they are meant to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.domain.model import BoundInput
from planner.variants.calibration import Histogram, best_range
from planner.variants.context import random_samples, single_feeds


def histogram(*parts: np.ndarray) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part)
    return made


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=40), st.integers(1, 39))
def test_growing_in_parts_keeps_every_value_near_its_place(values: list[float], cut: int) -> None:
    array = np.array(values, np.float32)
    array[0] = 1e-3  # a first part that is all zero tells no scale and is not counted
    grown = histogram(array[:cut], array[cut:])
    assert (grown.low, grown.high) == (min(array.min(), 0), max(array.max(), 0))
    assert grown.counts.sum() == len(array)
    step = 2 * grown.reach / len(grown.counts)
    centres = np.repeat(grown.centres(), grown.counts)
    assert np.abs(np.sort(centres) - np.sort(array)).max() <= 1.01 * step


def error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    rounded = np.clip(np.round((values - low) / step), 0, 255) * step + low
    return float(((values - rounded) ** 2).mean())


def test_uniform_values_keep_their_range() -> None:
    low, high = best_range(histogram(np.random.default_rng(0).uniform(-1, 3, 100_000)))
    assert (low, high) == pytest.approx((-1, 3), rel=0.03)


def test_rare_outliers_are_clipped_for_a_finer_grid() -> None:
    values = np.random.default_rng(0).normal(size=200_000)
    values[:2] = (-60, 90)
    low, high = best_range(histogram(values))
    assert -50 < low < -3 and 3 < high < 75
    assert error(values, low, high) < 0.8 * error(values, -60, 90)
    assert error(values, low, high) < error(values, -3, 3)


def test_half_empty_and_constant_ranges() -> None:
    assert best_range(histogram(np.zeros(10))) == (0, 0)
    low, high = best_range(histogram(np.abs(np.random.default_rng(0).normal(size=1000))))
    assert low == 0 < high


def test_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        histogram(np.array([1, np.inf]))


def test_feeds_of_one_sample_for_every_layout() -> None:
    batched = BoundInput("a", "float32", (5, 1, 2), 1)
    fixed = BoundInput("b", "int64", (3, 2), None)
    samples = random_samples((batched,), 4, 0)
    assert samples["a"].shape == (4, 5, 2)
    feeds = list(single_feeds((batched,), samples))
    assert len(feeds) == 4 and feeds[2]["a"].shape == (5, 1, 2)
    assert np.array_equal(feeds[2]["a"][:, 0], samples["a"][2])
    rows = {"b": np.arange(8).reshape(4, 2)}
    filled = [feed["b"].tolist() for feed in single_feeds((fixed,), rows)]
    assert filled == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [6, 7], [6, 7]]]
    whole = list(single_feeds((fixed,), random_samples((fixed,), 2, 0)))
    assert len(whole) == 2 and whole[0]["b"].shape == (3, 2)
