"""Which positions of which axes must stay or go together.

Every position along an axis of a tensor carries an *atom*. Operators make atoms equal (an Add keeps
channel 3 of both operands together) or pin them (a Softmax needs its whole axis). Positions whose atoms
end up equal form a *unit*: it can only be removed everywhere at once, and not at all if one is pinned.
Atom 0 stands for what always stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Labels = NDArray[np.int64]
"""Atoms along one axis, one a position; all 0 where the whole axis stays."""


class Atoms:
    def __init__(self) -> None:
        self._count = 1
        self._pairs: list[tuple[Labels, Labels]] = []
        self._pins: list[tuple[Labels, str]] = []
        self._free: Labels | None = None
        self._units: Labels | None = None

    def fresh(self, count: int) -> Labels:
        self._free = self._units = None
        self._count += count
        return np.arange(self._count - count, self._count, dtype=np.int64)

    def join(self, a: Labels, b: Labels, reason: str) -> None:
        """Makes the atoms of two equally long axes equal, position by position; 0 pins its partner."""
        differ = a != b
        a, b = a[differ], b[differ]
        self.pin(np.concatenate([a[b == 0], b[a == 0]]), reason)
        both = (a != 0) & (b != 0)
        if both.any():
            self._free = self._units = None
            self._pairs.append((a[both], b[both]))

    def pin(self, labels: Labels, reason: str) -> None:
        atoms = np.unique(labels[labels != 0])
        if atoms.size:
            self._units = None
            self._pins.append((atoms, reason))

    def units(self) -> Labels:
        """Unit of each atom; equal for equal atoms, 0 for pinned ones (and only those)."""
        if self._units is None:
            unit = self._free_units()
            pinned = np.concatenate([np.zeros(1, np.int64), *(atoms for atoms, _ in self._pins)])
            stays = np.zeros(unit.max() + 1, bool)
            stays[unit[pinned]] = True
            self._units = np.where(stays[unit], 0, unit + 1)
        return self._units

    def stays(self, labels: Labels) -> bool:
        """Whether every position is pinned by now."""
        return not labels.any() or not self.units()[labels].any()

    def why(self, labels: Labels) -> str:
        """The first reason that pins a unit of these positions; empty where none is pinned."""
        unit = self._free_units()
        asked = np.zeros(unit.max() + 1, bool)
        asked[unit[labels[labels != 0]]] = True
        return next((reason for atoms, reason in self._pins if asked[unit[atoms]].any()), "")

    def _free_units(self) -> Labels:
        """Units as if nothing were pinned."""
        if self._free is not None:
            return self._free
        a = np.concatenate([np.zeros(0, np.int64), *(a for a, _ in self._pairs)])
        b = np.concatenate([np.zeros(0, np.int64), *(b for _, b in self._pairs)])
        edges = coo_array((np.ones(a.size, np.int8), (a, b)), shape=(self._count, self._count))
        self._free = np.asarray(connected_components(edges, directed=False)[1], np.int64)
        return self._free
