"""What greedy removal picks, where the best choice is known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.variants.pruning.importance import RIDGE, Reader, Rows, least_by_activation, least_by_magnitude
from planner.variants.pruning.reconstruction import damping


def reader(x: np.ndarray, weight: np.ndarray, block: int = 1) -> Reader:
    centred = x - x.mean(0)
    return Reader(centred.T @ centred, weight, np.arange(x.shape[1]).reshape(-1, block))


def error_without(x: np.ndarray, weight: np.ndarray, gone: tuple[int, ...], block: int = 1) -> float:
    """Least error without some units, counting what damping counts: ε rows of the identity."""
    x = x - x.mean(0)
    x = np.vstack([x, np.sqrt(damping(x.T @ x, RIDGE)) * np.eye(x.shape[1])])
    inputs = np.arange(x.shape[1]).reshape(-1, block)
    left = np.delete(inputs, gone, axis=0).reshape(-1)
    best = np.linalg.lstsq(x[:, left], x @ weight, rcond=None)[0]
    return float(np.square(x[:, left] @ best - x @ weight).sum())


@settings(deadline=None)
@given(st.integers(0, 300), st.sampled_from((1, 2)))
def test_one_unit_is_the_best_one(seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 6 * block)) @ rng.normal(size=(6 * block, 6 * block))
    weight = rng.normal(size=(6 * block, 4))
    errors = [error_without(x, weight, (u,), block) for u in range(6)]
    (gone,) = least_by_activation([reader(x, weight, block)], 6, 1)
    assert errors[gone] <= 1.001 * min(errors)


def test_what_others_can_express_goes_though_its_weights_are_large() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8))
    x[:, 5] = x[:, 0] - 2 * x[:, 3]
    x[:, 7] = 1.0
    weight = 0.1 * rng.normal(size=(8, 3))
    weight[[5, 7]] = 2
    gone = least_by_activation([reader(x, weight)], 8, 2)
    assert 7 in gone and {0, 3, 5}.intersection(gone)
    assert error_without(x, weight, tuple(gone)) < 1e-2 * np.square(x @ weight).sum()


@settings(deadline=None)
@given(st.integers(0, 100))
def test_the_second_unit_is_the_best_beside_the_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
    weight = rng.normal(size=(6, 2))
    first = int(least_by_activation([reader(x, weight)], 6, 1)[0])
    pairs = {pair: error_without(x, weight, pair) for pair in combinations(range(6), 2) if first in pair}
    gone = least_by_activation([reader(x, weight)], 6, 2)
    assert pairs[int(gone[0]), int(gone[1])] <= 1.001 * min(pairs.values())


@settings(deadline=None)
@given(st.integers(0, 100), st.sampled_from((1, 2)))
def test_few_rows_choose_what_their_gram_matrix_does(seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 60)) @ np.diag(rng.uniform(0.1, 3, 60))
    x -= x.mean(0)
    weight, blocks = rng.normal(size=(60, 9)), np.arange(60).reshape(-1, block)
    chosen = [least_by_activation([Reader(g, weight, blocks)], len(blocks), 20) for g in (x.T @ x, Rows(x))]
    assert chosen[0].tolist() == chosen[1].tolist()


def test_every_reader_counts_alike_whatever_its_scale() -> None:
    x = np.random.default_rng(0).normal(size=(500, 3))
    one = np.asarray([[0.0], [3.0], [2.0]])
    other = np.asarray([[1e4], [0.0], [1e3]])
    assert least_by_activation([reader(x, one), reader(x, other)], 3, 1).tolist() == [2]


def test_a_reader_too_wide_for_a_gram_matrix_is_scored_by_energy() -> None:
    weight = np.asarray([[1.0], [1.0], [3.0], [1.0]])
    wide = Reader(np.asarray([4.0, 1.0, 1.0, 2.0]), weight, np.arange(4).reshape(2, 2))
    assert least_by_activation([wide], 2, 1).tolist() == [0]


def test_magnitude_sums_relative_norms() -> None:
    norms = [np.asarray([1.0, 2.0, 3.0]), np.asarray([300.0, 200.0, 10.0])]
    assert least_by_magnitude(norms, 1).tolist() == [2]
    assert least_by_magnitude(norms, 2).tolist() == [1, 2]


@pytest.mark.parametrize("count", [1, 60, 100])
def test_as_many_go_as_asked(count: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 120))
    gone = least_by_activation([reader(x, rng.normal(size=(120, 3)))], 120, count)
    assert len(set(gone.tolist())) == count
