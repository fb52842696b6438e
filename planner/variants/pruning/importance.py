"""Which units of a group lose least when removed. Knows no graph.

By activation: greedy removal on the Gram matrices of the readers' inputs, each step taking the units whose
removal adds least to the readers' output error *after* the readers' other weights have made up for it.
By magnitude (the usual baseline): the norm of the weights that make the unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from planner.variants.pruning.labels import Labels
from planner.variants.pruning.reconstruction import Matrix, inverse_gram, removal_costs, remove

_ROUNDS = 48
RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class Rows:
    """Centred inputs X [n, d], with n much less than d."""

    x: Matrix


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer that reads a group.

    ``gram``: XᵀX [d, d] of its centred inputs, or, for a layer too wide for that, its diagonal [d], or,
    where there are few rows, the X [n, d] that it is of. ``weight`` [d, m]. ``blocks`` [k, b]: the b inputs
    of each of the k units.
    """

    gram: Matrix | Rows
    weight: Matrix
    blocks: Labels


def least_by_activation(readers: Sequence[Reader], units: int, count: int) -> Labels:
    """Which ``count`` of ``units`` to remove, chosen greedily in at most ``_ROUNDS`` rounds.

    A reader's error counts relative to the energy of its output, so that readers weigh alike.
    """
    states = [_state(r) for r in readers]
    left = np.arange(units)
    at_once = ceil(count / _ROUNDS)
    while units - len(left) < count:
        costs = np.sum([state.costs(left) for state in states], axis=0)
        chosen = left[np.argsort(costs, kind="stable")[: min(at_once, count - (units - len(left)))]]
        for state in states:
            state.remove(chosen)
        left = np.setdiff1d(left, chosen)
    return np.setdiff1d(np.arange(units), left)


def least_by_magnitude(norms: Sequence[Matrix], count: int) -> Labels:
    """Which ``count`` units to remove, by each unit's norm relative to the mean, summed over its makers."""
    total = np.sum([norm / (norm.mean() or 1.0) for norm in norms], axis=0)
    return np.sort(np.argsort(total, kind="stable")[:count])


class _State(Protocol):
    def costs(self, units: Labels) -> Matrix: ...

    def remove(self, units: Labels) -> None: ...


def _state(reader: Reader) -> _State:
    gram = reader.gram
    if isinstance(gram, Rows):
        return _CompensatedOnRows(gram.x, reader.weight, reader.blocks)
    if gram.ndim == 1:
        return _Independent(gram, reader.weight, reader.blocks)
    return _Compensated(gram, reader.weight, reader.blocks)


class _Compensated:
    """A reader whose weights make up for what is removed."""

    def __init__(self, gram: Matrix, weight: Matrix, blocks: Labels) -> None:
        self._blocks = blocks
        self._weight = weight.copy()
        energy = float(np.sum(self._weight * (gram @ self._weight)))
        self._scale = 1 / energy if energy > 0 else 0.0
        self._inverse = inverse_gram(gram, RIDGE)

    def costs(self, units: Labels) -> Matrix:
        return self._scale * removal_costs(self._inverse, self._weight, self._blocks[units])

    def remove(self, units: Labels) -> None:
        remove(self._inverse, self._weight, self._blocks[units].reshape(-1))


class _CompensatedOnRows:
    """The same with few rows X [n, d], in matrices no longer than n on one side.

    With λ the damping, the inputs S left and B gone, and K = X_S X_Sᵀ + λI [n, n]:
    (H⁻¹)_SS = (I - X_Sᵀ K⁻¹ X_S) / λ, and the weights that make up for what is gone are
    W_S + X_Sᵀ K⁻¹ L, with L = X_B W_B what the output would lack (the matrix inversion lemma).
    Of these weights only inner products are formed: W Wᵀ within blocks, L Wᵀ [n, d] and L Lᵀ [n, n].
    """

    def __init__(self, x: Matrix, weight: Matrix, blocks: Labels) -> None:
        self._x, self._weight, self._blocks = x.copy(), weight, blocks
        self._weight_products = weight[blocks] @ weight[blocks].transpose(0, 2, 1)
        energy = float(np.square(x @ weight).sum())
        self._scale = 1 / energy if energy > 0 else 0.0
        self._damping = RIDGE * float(np.square(x).sum()) / x.shape[1] or 1.0
        self._lacking = np.zeros((len(x), weight.shape[1]))
        self._lacking_on_weight = np.zeros(x.shape)

    def costs(self, units: Labels) -> Matrix:
        blocks = self._blocks[units]
        factor = cho_factor(self._x @ self._x.T + self._damping * np.eye(len(self._x)))
        x = self._x[:, blocks]
        explained = cho_solve(factor, self._x)[:, blocks]
        change = cho_solve(factor, self._lacking_on_weight)[:, blocks]
        within = cho_solve(factor, cho_solve(factor, self._lacking @ self._lacking.T).T)
        cross = np.einsum("nka,nkb->kab", x, change)
        spread = np.tensordot(within, x, 1)
        products = self._weight_products[units] + cross + cross.transpose(0, 2, 1)
        products += np.einsum("nka,nkb->kab", x, spread)
        inner = np.eye(blocks.shape[1]) - np.einsum("nka,nkb->kab", x, explained)
        solved = np.linalg.solve(inner, products)
        return np.asarray(self._scale * self._damping * np.trace(solved, axis1=1, axis2=2))

    def remove(self, units: Labels) -> None:
        gone = self._blocks[units].reshape(-1)
        x, weight = self._x[:, gone], self._weight[gone]
        self._lacking += x @ weight
        self._lacking_on_weight += x @ (weight @ self._weight.T)
        self._x[:, gone] = 0


class _Independent:
    """A reader too wide for a Gram matrix: inputs are taken as uncorrelated."""

    def __init__(self, gram: Matrix, weight: Matrix, blocks: Labels) -> None:
        energies = gram * (weight**2).sum(1)
        self._costs = energies[blocks].sum(1) / (energies.sum() or 1.0)

    def costs(self, units: Labels) -> Matrix:
        return np.asarray(self._costs[units])

    def remove(self, units: Labels) -> None:
        """Nothing to make up for."""
