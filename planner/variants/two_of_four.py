"""Which two of every four inputs to keep, and what the rest must become. Knows no graph.

Notation: X [n, d] rows of inputs, Y [n, m] the outputs wanted, W [d, m] the dense weight, H = XᵀX + λI.
Every four consecutive rows of W are a group; in each column two of the four become 0.

Group after group, for each column apart, that pair P goes whose removal costs least once all inputs not yet
decided make up for it: cost(P) = w_Pᵀ ((H⁻¹)_PP)⁻¹ w_P. With H⁻¹ = UᵀU, U upper triangular, the inverse
over the inputs from i on is U[i:, i:]ᵀ U[i:, i:], so one factorization serves all groups. At the end the
weights kept are refitted together, all columns at once, by conjugate gradients within the pattern.

Sources: Frantar & Alistarh, "SparseGPT: massive language models can be accurately pruned in one-shot"
(2023), algorithm 1, which here chooses pairs exactly instead of weights one by one; Hassibi & Stork,
"Optimal Brain Surgeon" (1993).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky

from planner.variants.pruning.reconstruction import Matrix, damping, inverse_gram

GROUP = 4
_PAIRS = tuple(combinations(range(GROUP), 2))
# Rows decided before the rows after them are brought up to date, in one product.
_LAZY = 32 * GROUP
_REFIT_STEPS = 24


def by_magnitude(weight: Matrix) -> Matrix:
    """The two largest of each four, as they are."""
    groups = np.abs(weight).reshape(-1, GROUP, weight.shape[1])
    rank = np.argsort(np.argsort(-groups, axis=1, kind="stable"), axis=1, kind="stable")
    return np.where((rank < GROUP // 2).reshape(weight.shape), weight, 0)


def sparsified(gram: Matrix, cross: Matrix, weight: Matrix, ridge: float) -> Matrix:
    """The 2:4 weight [d, m] for ``gram`` = XᵀX and ``cross`` = XᵀY; d is a multiple of 4.

    Minimises ‖X V - Y‖² + λ‖V - W‖² over V of the pattern, chosen greedily; λ = ridge · mean diagonal.
    """
    strength = damping(gram, ridge) or 1.0
    upper = cholesky(inverse_gram(gram, ridge), lower=False)
    made = weight + _solved(upper, cross - gram @ weight)
    for start in range(0, len(made), _LAZY):
        _decide(made, upper, start, min(start + _LAZY, len(made)))
    damped = gram + strength * np.eye(len(gram))
    return _refitted(damped, cross + strength * weight, made)


def _solved(upper: Matrix, right: Matrix) -> Matrix:
    """H⁻¹ right."""
    return np.asarray(upper.T @ (upper @ right))


def _decide(weight: Matrix, upper: Matrix, start: int, stop: int) -> None:
    """Empties two of every four rows from ``start`` to ``stop``, column by column, in place."""
    errors = np.zeros((stop - start, weight.shape[1]))
    for i in range(start, stop, GROUP):
        rows = slice(i, i + GROUP)
        own = upper[rows, rows]
        gone, mended = _cheapest_removal(own.T @ own, weight[rows])
        error = own @ mended
        errors[i - start : i - start + GROUP] = error
        weight[i:stop] -= upper[rows, i:stop].T @ error
        weight[rows][gone] = 0
    weight[stop:] -= upper[start:stop, stop:].T @ errors


def _cheapest_removal(inverse: Matrix, group: Matrix) -> tuple[NDArray[np.bool_], Matrix]:
    """Where the best pair P of each column lies, and ((H⁻¹)_PP)⁻¹ w_P there, 0 elsewhere; both [4, m]."""
    gone = np.zeros((len(_PAIRS), GROUP), bool)
    mended = np.zeros((len(_PAIRS), *group.shape))
    costs = np.empty((len(_PAIRS), group.shape[1]))
    for k, pair in enumerate(_PAIRS):
        index = list(pair)
        gone[k, index] = True
        mended[k, index] = np.linalg.solve(inverse[np.ix_(index, index)], group[index])
        costs[k] = (group[index] * mended[k, index]).sum(0)
    best = costs.argmin(0)
    return gone[best].T, np.asarray(mended[best, :, np.arange(group.shape[1])].T)


def _refitted(damped: Matrix, right: Matrix, weight: Matrix) -> Matrix:
    """Conjugate gradients for ``damped`` V = ``right`` in every column at once, where ``weight`` is not 0."""
    pattern: NDArray[np.bool_] = weight != 0
    residual = np.where(pattern, right - damped @ weight, 0)
    # Preconditioned by the diagonal: inputs differ in size.
    scale = 1 / np.diag(damped)[:, None]
    direction = scale * residual
    before = (residual * direction).sum(0)
    start = before.copy()
    for _ in range(_REFIT_STEPS):
        ahead = damped @ direction
        curvature = (direction * ahead).sum(0)
        step = np.divide(before, curvature, out=np.zeros_like(before), where=curvature > 0)
        weight = weight + step * direction
        residual = np.where(pattern, residual - step * ahead, 0)
        after = (scale * residual * residual).sum(0)
        if np.all(after <= 1e-12 * start):
            break
        direction = (
            scale * residual
            + np.divide(after, before, out=np.zeros_like(after), where=before > 0) * direction
        )
        before = after
    return weight
