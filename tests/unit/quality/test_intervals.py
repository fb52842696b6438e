"""Intervals against closed forms, and against what they promise: to cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from planner.quality.intervals import bootstrap, tango, tango_of_classes, wilson, wilson_of_classes, z_value

Z2 = 1.959964**2


def test_wilson_is_what_scipy_says() -> None:
    for k, n in ((0, 10), (3, 10), (10, 10), (487, 500)):
        low, high = wilson(k, n, 0.95)
        expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_tango_without_disagreement_in_closed_form() -> None:
    low, high = tango(0, 0, 30, 0.95)
    assert (low, high) == pytest.approx((-Z2 / (30 + Z2), Z2 / (30 + Z2)), abs=1e-6)


@given(st.integers(1, 400), st.data())
def test_tango_ends_solve_the_score_equation(n: int, data: st.DataObject) -> None:
    b = data.draw(st.integers(0, n))
    c = data.draw(st.integers(0, n - b))
    low, high = (float(end) for end in tango(b, c, n, 0.95))
    assert -1 <= low <= (b - c) / n <= high <= 1
    mirrored = tango(c, b, n, 0.95)
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high), abs=1e-9)
    for end in (low, high):
        if abs(end) < 0.999:
            q = _most_likely_gain(b, c, n, end)
            variance = n * (2 * q + end * (1 - end))
            assert (b - c - n * end) ** 2 == pytest.approx(Z2 * variance, rel=1e-3, abs=1e-3)


def _most_likely_gain(b: int, c: int, n: int, difference: float) -> float:
    """The maximum of the trinomial likelihood, searched rather than solved."""
    low, high = max(0.0, -difference), (1 - difference) / 2
    for _ in range(6):
        grid = np.linspace(low, high, 2001)
        with np.errstate(divide="ignore", invalid="ignore"):
            cells = ((b, grid + difference), (c, grid), (n - b - c, 1 - 2 * grid - difference))
            likelihood = sum(k * np.log(np.maximum(p, 0)) if k else np.zeros_like(grid) for k, p in cells)
        best = int(np.argmax(likelihood))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 2000)]
    return float((low + high) / 2)


@pytest.mark.parametrize(
    ("lose", "gain", "n"), [(0.0, 0.0, 50), (0.02, 0.01, 200), (0.1, 0.05, 60), (0.01, 0, 300)]
)
def test_tango_covers_the_true_drop(lose: float, gain: float, n: int) -> None:
    cells = np.random.default_rng(0).multinomial(n, [lose, gain, 1 - lose - gain], size=4000)
    low, high = tango(cells[:, 0], cells[:, 1], n, 0.95)
    covered = (low <= lose - gain + 1e-9) & (lose - gain <= high + 1e-9)
    assert covered.mean() >= 0.935
    assert (lose - gain <= high + 1e-9).mean() >= 0.965


def test_no_disagreement_leaves_about_four_over_n() -> None:
    assert float(tango(0, 0, 1000, 0.95)[1]) == pytest.approx(3.84 / 1003.84, rel=1e-3)


def test_one_class_is_the_plain_interval() -> None:
    k, n = np.array([37.0]), np.array([50.0])
    assert wilson_of_classes(k, n, 0.95) == pytest.approx([float(e[0]) for e in wilson(k, n, 0.95)])
    b, c = np.array([4.0]), np.array([1.0])
    assert tango_of_classes(b, c, n, 0.95) == pytest.approx([float(e[0]) for e in tango(b, c, n, 0.95)])


@pytest.mark.parametrize(
    ("sizes", "lose", "gain"),
    [
        ([20] * 20, [0.02] * 20, 0.01),
        ([20] * 20, [0.3] + [0] * 19, 0.0),
        ([5] * 5 + [20] * 10 + [100] * 5, [0.2] * 5 + [0] * 15, 0.0),
        ([2] + [50] * 19, [0.6] + [0] * 19, 0.0),
        ([1] * 60, [0.1] * 60, 0.05),
    ],
)
def test_macro_intervals_cover(sizes: list[int], lose: list[float], gain: float) -> None:
    rng = np.random.default_rng(1)
    n = np.array(sizes, float)
    drop, rate = np.mean(lose) - gain, 1 - np.mean(lose)
    within, kept = [], []
    for _ in range(200):
        cells = np.array(
            [rng.multinomial(k, [p, gain, 1 - p - gain]) for k, p in zip(sizes, lose, strict=True)]
        )
        low, high = tango_of_classes(cells[:, 0].astype(float), cells[:, 1].astype(float), n, 0.95)
        within.append((drop <= high + 1e-9, low - 1e-9 <= drop))
        low, high = wilson_of_classes(n - cells[:, 0], n, 0.95)
        kept.append((low - 1e-9 <= rate, rate <= high + 1e-9))
    for pessimistic, optimistic in (np.mean(within, axis=0), np.mean(kept, axis=0)):
        assert pessimistic >= 0.955 and optimistic >= 0.9


def test_macro_of_even_classes_is_as_sharp_as_accuracy() -> None:
    zero = np.zeros(20)
    high = tango_of_classes(zero, zero, np.full(20, 20.0), 0.95)[1]
    assert high == pytest.approx(float(tango(0, 0, 400, 0.95)[1]))


def test_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(5, 2, 400)
    low, high = bootstrap(lambda w: (w @ values / w.sum(axis=1))[:, None], 400, 0.95, 0, 4000)[:, 0]
    half = z_value(0.95) * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    again = bootstrap(lambda w: (w @ values / w.sum(axis=1))[:, None], 400, 0.95, 0, 4000)[:, 0]
    assert (low, high) == tuple(again)


def test_bootstrap_in_blocks_bounds_memory() -> None:
    rows: list[int] = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        rows.append(len(weights))
        assert (weights.sum(axis=1) == weights.shape[1]).all()
        return weights[:, :1]

    bootstrap(statistic, 100_000, 0.9, 0, 200)
    assert sum(rows) == 200 and max(rows) * 100_000 <= 8_000_000
