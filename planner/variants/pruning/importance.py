"""Which units of a group lose least when removed. Knows no graph.

By activation: greedy removal on the Gram matrices of the readers' inputs, each step taking the units whose
removal adds least to the readers' output error *after* the readers' other weights have made up for it.
By magnitude (the usual baseline): the norm of the weights that make the unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from planner.variants.pruning.labels import Labels
from planner.variants.pruning.reconstruction import Matrix, inverse_gram, removal_costs, remove

_ROUNDS = 48
RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer that reads a group.

    ``gram``: XᵀX [d, d] of its centred inputs, or, for a layer too wide for that, its diagonal [d].
    ``weight`` [d, m]. ``blocks`` [k, b]: the b inputs of each of the k units.
    """

    gram: Matrix
    weight: Matrix
    blocks: Labels


def least_by_activation(readers: Sequence[Reader], units: int, count: int) -> Labels:
    """Which ``count`` of ``units`` to remove, chosen greedily in at most ``_ROUNDS`` rounds.

    A reader's error counts relative to the energy of its output, so that readers weigh alike.
    """
    states = [_Independent(r) if r.gram.ndim == 1 else _Compensated(r) for r in readers]
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


class _Compensated:
    """A reader whose weights make up for what is removed."""

    def __init__(self, reader: Reader) -> None:
        self._blocks = reader.blocks
        self._weight = reader.weight.copy()
        energy = float(np.sum(self._weight * (reader.gram @ self._weight)))
        self._scale = 1 / energy if energy > 0 else 0.0
        self._inverse = inverse_gram(reader.gram, RIDGE)

    def costs(self, units: Labels) -> Matrix:
        return self._scale * removal_costs(self._inverse, self._weight, self._blocks[units])

    def remove(self, units: Labels) -> None:
        remove(self._inverse, self._weight, self._blocks[units].reshape(-1))


class _Independent:
    """A reader too wide for a Gram matrix: inputs are taken as uncorrelated."""

    def __init__(self, reader: Reader) -> None:
        energies = reader.gram * (reader.weight**2).sum(1)
        self._costs = energies[reader.blocks].sum(1) / (energies.sum() or 1.0)

    def costs(self, units: Labels) -> Matrix:
        return np.asarray(self._costs[units])

    def remove(self, units: Labels) -> None:
        """Nothing to make up for."""
