"""Least squares on moments, against the same problems solved on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.variants.pruning.reconstruction import (
    Moments,
    Pairs,
    damping,
    held_out_error,
    inverse_gram,
    joined,
    refit,
    removal_costs,
    remove,
    squared_error,
)

SEEDS = st.integers(0, 999)


def rows(seed: int, count: int = 200, inputs: int = 6, outputs: int = 3) -> tuple[np.ndarray, ...]:
    """X with correlated columns and a mean, Y nearly linear in X, and a weight that is off."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, inputs)) @ rng.normal(size=(inputs, inputs)) + rng.normal(size=inputs)
    true = rng.normal(size=(inputs, outputs))
    y = x @ true + rng.normal(size=outputs) + 0.1 * rng.normal(size=(count, outputs))
    return x, y, true + rng.normal(size=true.shape)


def moments(x: np.ndarray, y: np.ndarray, batches: int = 3) -> Moments:
    made = Moments.zeros(x.shape[1], y.shape[1])
    for some_x, some_y in zip(np.array_split(x, batches), np.array_split(y, batches), strict=True):
        made.add(some_x, some_y)
    return made


@given(SEEDS)
def test_refit_is_least_squares_with_a_free_bias(seed: int) -> None:
    x, y, old = rows(seed)
    weight, bias = refit(moments(x, y), old, ridge=1e-12)
    expected = np.linalg.lstsq(np.hstack([x, np.ones((len(x), 1))]), y, rcond=None)[0]
    np.testing.assert_allclose(weight, expected[:-1], atol=1e-4)
    np.testing.assert_allclose(bias, expected[-1], atol=1e-4)


@given(SEEDS, st.booleans(), st.sampled_from((1e-3, 1.0)))
def test_few_rows_are_fitted_as_their_moments_are(seed: int, free: bool, ridge: float) -> None:
    x, y, old = rows(seed, count=4, inputs=40)
    fixed = None if free else np.arange(3.0)
    weight, bias = refit(Pairs(x, y), old, ridge, fixed)
    expected, expected_bias = refit(moments(x, y), old, ridge, fixed)
    np.testing.assert_allclose(weight, expected, atol=1e-8)
    np.testing.assert_allclose(bias, expected_bias, atol=1e-8)
    assert squared_error(Pairs(x, y), weight, bias) == pytest.approx(
        squared_error(moments(x, y), weight, bias), abs=1e-6
    )


@given(SEEDS)
def test_refit_with_a_fixed_bias_leaves_it(seed: int) -> None:
    x, y, old = rows(seed)
    fixed = np.arange(3.0)
    weight, bias = refit(moments(x, y), old, 1e-12, fixed)
    np.testing.assert_allclose(weight, np.linalg.lstsq(x, y - fixed, rcond=None)[0], atol=1e-4)
    assert (bias == fixed).all()


@given(SEEDS, st.sampled_from((1e-3, 1e-1, 10.0)))
def test_ridge_pulls_towards_the_old_weight(seed: int, ridge: float) -> None:
    x, y, old = rows(seed)
    sums = moments(x, y)
    centred_x, centred_y = x - x.mean(0), y - y.mean(0)
    strength = np.sqrt(damping(sums.centered().xx, ridge))
    stacked_x = np.vstack([centred_x, strength * np.eye(6)])
    stacked_y = np.vstack([centred_y, strength * old])
    expected = np.linalg.lstsq(stacked_x, stacked_y, rcond=None)[0]
    np.testing.assert_allclose(refit(sums, old, ridge)[0], expected, atol=1e-6)


def test_inputs_that_are_never_seen_keep_their_weight() -> None:
    x, y, old = rows(1)
    x[:, 2] = 0
    assert (refit(moments(x, y), old, 1e-3)[0][2] == old[2]).all()
    assert (refit(moments(0 * x, y), old, 1e-3)[0] == old).all()


@given(SEEDS)
def test_error_from_moments_is_the_error_on_rows(seed: int) -> None:
    x, y, weight = rows(seed)
    bias = np.ones(3)
    direct = np.square(x @ weight + bias - y).sum()
    assert squared_error(moments(x, y), weight, bias) == pytest.approx(direct, rel=1e-9)


def test_joined_moments_are_those_of_all_rows_and_held_out_rows_are_not_fitted() -> None:
    x, y, old = rows(4)
    parts = [moments(x[:50], y[:50]), moments(x[50:], y[50:])]
    np.testing.assert_allclose(joined(parts).xx, moments(x, y).xx)
    np.testing.assert_allclose(refit(joined(parts), old, 1e-3)[0], refit(moments(x, y), old, 1e-3)[0])
    weight, bias = refit(parts[0], old, 1e-3)
    direct = np.square(x[50:] @ weight + bias - y[50:]).sum()
    assert held_out_error(*parts, old, 1e-3) == pytest.approx(direct, rel=1e-9)


@given(SEEDS, st.sampled_from(([[0], [3], [5]], [[0, 1], [4, 2], [3, 5]], [[2, 0, 4], [1, 3, 5]])))
def test_removal_costs_are_the_least_errors_without_each_block(seed: int, blocks: list[list[int]]) -> None:
    x, _, weight = rows(seed)
    gram = x.T @ x
    costs = removal_costs(inverse_gram(gram, 1e-9), weight, np.asarray(blocks))
    for block, cost in zip(blocks, costs, strict=True):
        left = np.setdiff1d(np.arange(6), block)
        best = np.linalg.lstsq(x[:, left], x @ weight, rcond=None)
        assert cost == pytest.approx(np.square(x[:, left] @ best[0] - x @ weight).sum(), rel=1e-4, abs=1e-6)


@given(SEEDS)
def test_removing_step_by_step_is_removing_at_once(seed: int) -> None:
    x, _, weight = rows(seed)
    inverse, compensated = inverse_gram(x.T @ x, 1e-9), weight.copy()
    for block in ([1], [4, 2]):
        remove(inverse, compensated, np.asarray(block))
    left = [0, 3, 5]
    np.testing.assert_allclose(
        compensated[left], np.linalg.lstsq(x[:, left], x @ weight, rcond=None)[0], atol=1e-4
    )
    assert not compensated[[1, 2, 4]].any()
    np.testing.assert_allclose(
        inverse[np.ix_(left, left)], np.linalg.inv((x.T @ x)[np.ix_(left, left)]), rtol=1e-3
    )
