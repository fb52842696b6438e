"""Least squares for one layer, on sums over calibration rows. Knows no graph.

A layer maps rows X [n, d] to Y = X W + b [n, m]. All that is needed of the rows are their moments, so
these can be added up batch by batch. The same few functions serve whatever changes a weight and wants
the output kept: removed inputs (pruning), 2:4 sparsity, low rank.

Sources: ridge regression in normal equations; removing weights with compensation by the inverse Hessian,
Hassibi & Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon" (1993); for blocks
of weights and a layer's own least squares, Frantar & Alistarh, "Optimal Brain Compression" (2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Matrix = NDArray[np.float64]

# Inputs to each row. Fewer, and products with thin matrices have nothing over one with a square matrix.
_FEW = 8


@dataclass(slots=True)
class Moments:
    """Sums over rows: ``x`` [d], ``y`` [m], ``xx`` = XᵀX [d, d], ``xy`` = XᵀY [d, m], ``yy`` = ΣY² [m]."""

    rows: int
    x: Matrix
    y: Matrix
    xx: Matrix
    xy: Matrix
    yy: Matrix

    @classmethod
    def zeros(cls, inputs: int, outputs: int) -> Moments:
        d, m = np.zeros(inputs), np.zeros(outputs)
        return cls(0, d, m, np.zeros((inputs, inputs)), np.zeros((inputs, outputs)), m.copy())

    def add(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
        """Takes in rows ``x`` [n, d] and ``y`` [n, m]."""
        x, y = x.astype(np.float64), y.astype(np.float64)
        self.rows += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += (y * y).sum(0)

    def centered(self) -> Moments:
        """The moments of rows with their means taken off: what is left once a bias is free."""
        n = max(self.rows, 1)
        return Moments(
            self.rows,
            np.zeros_like(self.x),
            np.zeros_like(self.y),
            self.xx - np.outer(self.x, self.x) / n,
            self.xy - np.outer(self.x, self.y) / n,
            self.yy - self.y * self.y / n,
        )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Few rows X [n, d] and Y [n, m] themselves, which then take less work than their moments."""

    x: Matrix
    y: Matrix

    @property
    def rows(self) -> int:
        return len(self.x)


def few(rows: int, inputs: int) -> bool:
    """Whether matrices as long as ``rows`` on one side are better than Gram matrices of the inputs."""
    return rows * _FEW <= inputs


def joined_pairs(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]))


def joined(parts: Sequence[Moments]) -> Moments:
    """The moments of all rows together."""
    first, *others = parts
    total = first
    for part in others:
        total = Moments(
            total.rows + part.rows,
            total.x + part.x,
            total.y + part.y,
            total.xx + part.xx,
            total.xy + part.xy,
            total.yy + part.yy,
        )
    return total


def damping(gram: Matrix, ridge: float) -> float:
    """``ridge`` in units of the mean diagonal of ``gram``."""
    return ridge * float(np.mean(np.diag(gram))) if gram.size else 0.0


def refit(
    shown: Moments | Pairs, weight: Matrix, ridge: float, bias: Matrix | None = None
) -> tuple[Matrix, Matrix]:
    """Weight [d, m] and bias [m] that bring X W + b closest to Y.

    Minimises ‖X W + b - Y‖² + λ‖W - weight‖² with λ = ridge · mean diagonal of XᵀX: directions that the
    rows do not show keep their old weight. b is free, or fixed to ``bias`` where that is given.
    """
    if isinstance(shown, Pairs):
        return _refit_to_pairs(shown, weight, ridge, bias)
    moments = shown
    if bias is None:
        sums = moments.centered()
        cross = sums.xy
    else:
        sums = moments
        cross = sums.xy - np.outer(sums.x, bias)
    strength = damping(sums.xx, ridge)
    if strength > 0:
        damped = sums.xx + strength * np.eye(len(sums.xx))
        weight = weight + cho_solve(cho_factor(damped), cross - sums.xx @ weight)
    if bias is None:
        bias = (moments.y - moments.x @ weight) / max(moments.rows, 1)
    return weight, bias


def _refit_to_pairs(shown: Pairs, weight: Matrix, ridge: float, bias: Matrix | None) -> tuple[Matrix, Matrix]:
    """The same by the matrix inversion lemma: weight + Xᵀ (X Xᵀ + λI)⁻¹ (Y - X weight)."""
    x, y = shown.x, shown.y - (0 if bias is None else bias)
    if bias is None:
        x, y = x - x.mean(0), y - y.mean(0)
    strength = ridge * float(np.square(x).sum()) / max(x.shape[1], 1)
    if strength > 0:
        damped = x @ x.T + strength * np.eye(len(x))
        weight = weight + x.T @ cho_solve(cho_factor(damped), y - x @ weight)
    if bias is None:
        bias = (shown.y - shown.x @ weight).mean(0)
    return weight, bias


def held_out_error(
    seen: Moments | Pairs, unseen: Moments | Pairs, weight: Matrix, ridge: float, bias: Matrix | None = None
) -> float:
    """‖X W + b - Y‖² on the rows ``unseen`` of what ``refit`` makes of the rows ``seen``."""
    return squared_error(unseen, *refit(seen, weight, ridge, bias))


def squared_error(shown: Moments | Pairs, weight: Matrix, bias: Matrix) -> float:
    """‖X W + b - Y‖², from rows, or from their moments alone."""
    if isinstance(shown, Pairs):
        return float(np.square(shown.x @ weight + bias - shown.y).sum())
    moments = shown
    xy = moments.xy - np.outer(moments.x, bias)
    yy = moments.yy - 2 * bias * moments.y + moments.rows * bias * bias
    fit = np.einsum("im,ij,jm->", weight, moments.xx, weight, optimize=True)
    return float(fit - 2 * np.sum(weight * xy) + yy.sum())


def inverse_gram(gram: Matrix, ridge: float) -> Matrix:
    """(XᵀX + λI)⁻¹ with λ = ridge · mean diagonal, or a multiple of I where X is 0."""
    damped = gram + (damping(gram, ridge) or 1.0) * np.eye(len(gram))
    return np.asarray(cho_solve(cho_factor(damped), np.eye(len(gram))))


def removal_costs(inverse: Matrix, weight: Matrix, blocks: NDArray[np.int64]) -> Matrix:
    """Least squared error that removing each block of inputs adds, once all other weights make up for it.

    ``inverse`` [d, d] of the Gram matrix, ``weight`` [d, m], ``blocks`` [k, b] rows of weight.
    cost(B) = tr(W_Bᵀ ((H⁻¹)_BB)⁻¹ W_B).
    """
    rows = weight[blocks]
    if blocks.shape[1] == 1:
        return np.asarray((rows[:, 0] ** 2).sum(1) / inverse[blocks[:, 0], blocks[:, 0]])
    inner = inverse[blocks[:, :, None], blocks[:, None, :]]
    return np.asarray((rows * np.linalg.solve(inner, rows)).sum((1, 2)))


def remove(inverse: Matrix, weight: Matrix, gone: NDArray[np.int64]) -> None:
    """Takes the inputs ``gone`` out, in place: their rows become 0, the other weights make up for them."""
    across = inverse[:, gone]
    solved = np.linalg.solve(inverse[np.ix_(gone, gone)], np.hstack([inverse[gone], weight[gone]]))
    width = len(inverse)
    inverse -= across @ solved[:, :width]
    weight -= across @ solved[:, width:]
    inverse[gone] = inverse[:, gone] = 0
    weight[gone] = 0
