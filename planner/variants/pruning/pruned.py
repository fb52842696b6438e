"""The entry: removes a share of every group of channels, neurons and heads, then refits what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import checker, shape_inference

from planner.errors import VariantError
from planner.variants.pruning import rules_layers, rules_pointwise, rules_shape
from planner.variants.pruning.activations import Feed, feeds, session
from planner.variants.pruning.graph import Graph, index
from planner.variants.pruning.groups import Group, Kept, groups, kept_positions, left_whole
from planner.variants.pruning.masks import masked
from planner.variants.pruning.normalize import normalized
from planner.variants.pruning.refitting import refitted
from planner.variants.pruning.selection import choose
from planner.variants.pruning.shapes import Array
from planner.variants.pruning.store import Store
from planner.variants.pruning.surgery import cut
from planner.variants.pruning.tracing import Trace, trace
from planner.variants.weights import has_external, without_weights

Importance = Literal["activation", "magnitude"]

TOLERANCE = 1e-3
"""How far a pruned model may be from its masked twin, relative to the largest output; rounding is less."""


@dataclass(frozen=True, slots=True)
class RemovedGroup:
    """A group before and after, in units: channels, neurons or heads. ``layers`` make it."""

    name: str
    kind: str
    before: int
    after: int
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """``notes`` tell what was left whole or not refitted, and why."""

    model: onnx.ModelProto
    notes: tuple[str, ...]
    removed: tuple[RemovedGroup, ...]


def traced(model: onnx.ModelProto, store: Store | None = None) -> Trace:
    """The trace of a normalized model."""
    rules = rules_pointwise.RULES | rules_layers.RULES | rules_shape.RULES
    return trace(index(model, store), rules, rules_shape.SIZE_READERS)


def prune(
    model: onnx.ModelProto,
    ratio: float,
    calibration: Mapping[str, Array] | Sequence[Feed],
    *,
    reconstruct: bool = True,
    importance: Importance = "activation",
    multiple: int = 8,
    batch_size: int = 32,
    seed: int = 0,
    folder: Path | None = None,
) -> Pruned:
    """``model`` with ``ratio`` of each group's channels, hidden neurons and heads cut out of the graph.

    Widths left are the nearest multiples of ``multiple`` (see ``Group.removable``), heads go whole, inputs
    and outputs stay as they are. What the removed channels gave is refitted into the layers after them
    (``reconstruct``), on ``calibration``: for each input an array with samples on its first axis, fed
    ``batch_size`` at a time; or feeds, where a sample is a whole input. No label is needed.
    ``folder``: where the weights of ``model`` lie that are external, and where those made of them go.

    Raises VariantError where nothing can be removed, DataError where calibration does not fit the model.
    """
    if not 0 < ratio < 1:
        raise VariantError(f"pruning: the share to remove lies between 0 and 1, got {ratio:g}")
    store = Store(folder)
    t = traced(normalized(model, store), store)
    fed = feeds(t.graph, calibration, batch_size)
    rng = np.random.default_rng(seed)
    found = groups(t)
    counts = {g: n for g in found if (n := g.removable(ratio, multiple)) > 0}
    notes = [*_too_narrow(found, counts, ratio, multiple), *left_whole(t)]
    if not counts:
        raise VariantError(
            f"pruning: nothing to remove at {ratio:.0%}; {notes[0] if notes else 'no layers found'}"
        )
    removed = choose(t, counts, importance, fed, rng)
    counts, removed, faults = _proven(t, counts, removed, fed[0])
    kept = kept_positions(t, removed)
    pruned = cut(t.graph, kept)
    if reconstruct:
        pruned, unfitted = refitted(t, pruned, kept, fed, rng)
        notes.extend(unfitted)
    _check_valid(pruned)
    return Pruned(pruned, (*notes, *faults), tuple(_report(t, g, n) for g, n in counts.items()))


def _too_narrow(
    found: Sequence[Group], counts: Mapping[Group, int], ratio: float, multiple: int
) -> list[str]:
    return [
        f"left whole: {g.name} ({ratio:.0%} of {len(g.units)} {g.kind} is no step of {multiple})"
        for g in found
        if g not in counts
    ]


def _report(t: Trace, group: Group, count: int) -> RemovedGroup:
    layers = tuple(t.graph.nodes[layer.node].output[0] for layer in group.made_by)
    return RemovedGroup(group.name, group.kind, len(group.units), len(group.units) - count, layers)


def _proven(
    t: Trace, counts: dict[Group, int], removed: set[int], feed: Feed
) -> tuple[dict[Group, int], set[int], list[str]]:
    """What can be removed with proof: the pruned graph gives what the masked one gives, on one batch.

    Tracing is meant to be right; should it not be, for a graph nobody thought of, the groups at fault stay.
    """
    fault = _fault(t, removed, feed)
    if fault is None:
        return counts, removed, []
    notes, sound = [], dict[Group, int]()
    for group, count in counts.items():
        alone = removed.intersection(group.units)
        if (why := _fault(t, alone, feed)) is None:
            sound[group] = count
        else:
            notes.append(f"left whole: {group.name} ({why})")
    left = {unit for group in sound for unit in removed.intersection(group.units)}
    if not left or _fault(t, left, feed) is not None:
        raise VariantError(f"pruning: the pruned graph would not compute what it should; {fault}")
    return sound, left, notes


def _fault(t: Trace, removed: set[int], feed: Feed) -> str | None:
    """What is wrong with the graph without ``removed``, or None."""
    kept = kept_positions(t, removed)
    try:
        pruned = cut(t.graph, kept)
        _check_valid(pruned)
        got = _outputs(pruned, t.graph, feed)
    except Exception as error:
        return f"removing it gives an invalid graph: {str(error).splitlines()[0]}"
    wanted = _outputs(masked(t.graph, t.contractions, kept), t.graph, feed)
    for name, a, b in zip(sorted(t.graph.outputs), wanted, got, strict=True):
        if a.shape != b.shape:
            return f"output {name} changes its shape from {a.shape} to {b.shape}"
        if np.issubdtype(a.dtype, np.floating) and not _close(a, b):
            return f"output {name} changes more than it should"
    return None


def _close(a: Array, b: Array) -> bool:
    scale = float(np.max(np.abs(a[np.isfinite(a)]), initial=1e-6))
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * scale, equal_nan=True))


def _outputs(model: onnx.ModelProto, graph: Graph, feed: Feed) -> list[Array]:
    made: list[Any] = session(model, graph.store).run(sorted(graph.outputs), feed)
    return [np.asarray(value) for value in made]


def _check_valid(model: onnx.ModelProto) -> None:
    """Raises what onnx raises on a graph that is not valid, or whose shapes contradict each other."""
    if has_external(model):
        without_weights(model, _valid)
    else:
        _valid(model)


def _valid(model: onnx.ModelProto) -> onnx.ModelProto:
    checker.check_model(model)
    shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return model


__all__ = ["Group", "Importance", "Kept", "Pruned", "RemovedGroup", "prune", "traced"]
