"""Sorts what can be removed into groups: the channels, hidden neurons or heads of coupled layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd

import numpy as np

from planner.variants.pruning.graph import label
from planner.variants.pruning.labels import Labels
from planner.variants.pruning.tracing import Layer, Trace

CHANNELS, NEURONS, HEADS = "channels", "neurons", "heads"

_MOST_BEYOND = 1.25
_EXACT = 1e-9

Kept = dict[tuple[str, int], "Labels"]
"""For each (tensor, axis) that gets shorter: the positions that stay, in order."""


@dataclass(frozen=True, slots=True)
class Group:
    """Units that are alike: each lies on the same axes, as often. Any of them can go, but not all.

    ``units`` are ordered as in the first layer that makes them, where each is ``block`` positions long
    (the width of a head). ``made_by`` and ``read_by`` are layers.
    """

    name: str
    kind: str
    units: tuple[int, ...]
    block: int
    made_by: tuple[Layer, ...]
    read_by: tuple[Layer, ...]

    def removable(self, ratio: float, multiple: int) -> int:
        """How many units go for the width left to be the multiple of ``multiple`` nearest to 1 - ``ratio``.

        Where that takes more than a quarter beyond ``ratio`` (8 of 16 channels for 30 %), it is the next
        multiple up. Heads are wide already, so any number of them can stay. At least one unit stays.
        """
        step = 1 if self.kind == HEADS else multiple // gcd(multiple, self.block)
        width = len(self.units)
        aim = width * (1 - ratio) / step
        kept = ceil(aim - 0.5 - _EXACT) * step
        if kept < step or width - kept > width * ratio * _MOST_BEYOND + _EXACT:
            kept = ceil(aim - _EXACT) * step
        return max(0, width - kept)


def groups(t: Trace) -> tuple[Group, ...]:
    """All groups, in the order in which the graph makes them."""
    units = t.atoms.units()
    made = [(layer, _units_on(t, units, layer.target, layer.target_axis)) for layer in t.layers]
    read = [(layer, _units_on(t, units, layer.source, layer.source_axis)) for layer in t.layers]
    signature = _signatures(t, units)
    found: list[Group] = []
    seen: set[int] = set()
    for layer, along in made:
        for members in _alike(along, signature):
            if members[0] in seen:
                continue
            seen.update(members)
            chosen = set(members)
            found.append(
                Group(
                    name=label(t.graph.nodes[layer.node]),
                    kind=_kind(t, layer, along, members),
                    units=members,
                    block=int((along == members[0]).sum()),
                    made_by=tuple(x for x, on in made if chosen.intersection(on.tolist())),
                    read_by=tuple(x for x, on in read if _mixes(x) and chosen.intersection(on.tolist())),
                )
            )
    return tuple(found)


def kept_positions(t: Trace, removed: set[int]) -> Kept:
    """Where the units in ``removed`` lie, as what stays of every axis that they lie on."""
    units = t.atoms.units()
    gone = np.zeros(units.max() + 1, bool)
    gone[list(removed)] = True
    gone[0] = False
    kept: Kept = {}
    for tensor, axes in t.axes.items():
        for axis, labels in enumerate(axes):
            if labels is not None and (lost := gone[units[labels]]).any():
                kept[tensor, axis] = np.flatnonzero(~lost)
    return kept


def left_whole(t: Trace) -> tuple[str, ...]:
    """One line for each reason that keeps a layer's width, with the layers."""
    units = t.atoms.units()
    by_reason: dict[str, list[str]] = {}
    for layer in t.layers:
        along = t.axes[layer.target][layer.target_axis] if layer.target in t.axes else None
        if along is None or not units[along].any():
            reason = (
                t.atoms.why(along) if along is not None and along.any() else "single channel or unknown width"
            )
            by_reason.setdefault(reason, []).append(label(t.graph.nodes[layer.node]))
    return tuple(
        f"left whole: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''} ({reason})"
        for reason, names in by_reason.items()
    )


def _units_on(t: Trace, units: Labels, tensor: str, axis: int) -> Labels:
    """Unit of each position of an axis, 0 where it stays."""
    labels = (t.axes.get(tensor) or [None] * (axis + 1))[axis]
    return units[labels] if labels is not None else np.zeros(0, np.int64)


def _mixes(layer: Layer) -> bool:
    """Whether the layer can make up for a lost channel from those that stay; a depthwise one cannot."""
    return layer.groups == 1


def _alike(along: Labels, signature: Labels) -> list[tuple[int, ...]]:
    """The units on an axis, by signature, each in order of first appearance."""
    alike: dict[int, list[int]] = {}
    for unit in dict.fromkeys(along[along != 0].tolist()):
        alike.setdefault(int(signature[unit]), []).append(unit)
    return [tuple(members) for members in alike.values()]


def _signatures(t: Trace, units: Labels) -> Labels:
    """A number per unit that is equal for units that lie on the same axes, equally often."""
    signature = np.zeros(units.max() + 1, np.int64)
    classes: dict[tuple[int, int, int, int], int] = {}
    for place, (tensor, axis) in enumerate((n, k) for n, axes in t.axes.items() for k in range(len(axes))):
        on = _units_on(t, units, tensor, axis)
        present, times = np.unique(on[on != 0], return_counts=True)
        for unit, count in zip(present.tolist(), times.tolist(), strict=True):
            key = (int(signature[unit]), place, axis, count)
            signature[unit] = classes.setdefault(key, len(classes) + 1)
    return signature


def _kind(t: Trace, layer: Layer, along: Labels, members: tuple[int, ...]) -> str:
    if t.graph.nodes[layer.node].op_type in ("Conv", "ConvTranspose"):
        return CHANNELS
    return HEADS if (along == members[0]).sum() > 1 else NEURONS
