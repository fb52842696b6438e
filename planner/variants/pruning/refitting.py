"""Refits the layers of a pruned graph one after another, so that it computes what the whole graph did.

In topological order, each layer's inputs are those of the pruned graph with all layers before it already
refitted, and its target is what the unpruned graph has there: errors are corrected where they arise and
do not pile up. Where a layer's output is added to a residual stream, its target is the whole sum, so
that it also corrects what the stream lost before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from planner.variants.pruning.activations import Feed
from planner.variants.pruning.graph import MAIN_DOMAINS, Graph, attribute, index, input_name, label
from planner.variants.pruning.groups import Kept
from planner.variants.pruning.reconstruction import (
    Moments,
    Pairs,
    few,
    held_out_error,
    joined,
    joined_pairs,
    refit,
)
from planner.variants.pruning.rows import (
    input_rows,
    output_rows,
    output_width,
    sample,
    token_mask,
    weight_matrix,
    weight_tensor,
)
from planner.variants.pruning.selection import WIDEST_GRAM, rows_for
from planner.variants.pruning.shapes import Array
from planner.variants.pruning.stepping import Walk, widest
from planner.variants.pruning.tracing import Layer, Trace

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""Strengths to choose from, by error on held-out batches; without a batch to hold out, ``USUAL_RIDGE``."""
USUAL_RIDGE = 1e-1
_HELD_OUT = 4
"""Every fourth batch is held out."""
_BYTES_HELD = 2 << 30


@dataclass(frozen=True, slots=True)
class Fit:
    """A layer to refit: from its source, reach ``goal`` of the whole graph less ``skip`` of the pruned."""

    layer: Layer
    goal: str
    skip: str | None


def refitted(
    t: Trace,
    pruned: onnx.ModelProto,
    kept: Kept,
    fed: Sequence[Feed],
    rng: np.random.Generator,
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The pruned model with its layers refitted, and notes on those that could not be."""
    fits, notes = _plan(t, kept)
    model = onnx.ModelProto()
    model.CopyFrom(pruned)
    _give_biases(t.graph, model, fits)
    graph = index(model, t.graph.store)
    stages = _stages(fits)
    fed = _affordable(t.graph, graph, stages, fed)
    masks = {name} if (name := token_mask(t.graph)) else set[str]()
    whole_walk, walk = Walk(t.graph, fed), Walk(graph, fed)
    for k, stage in enumerate(stages):
        goals, sources = _tensors(stages[k:])
        whole_walk.to(_after(t.graph, _tensors([stage])[0]), goals)
        walk.to(_after(graph, _tensors([stage])[1]), sources | masks)
        regressions = [_Regression(t.graph, graph, fit, kept) for fit in stage]
        _observe(regressions, whole_walk.held, walk.held, rng)
        for regression in regressions:
            regression.write()
    return model, notes


def _tensors(stages: Sequence[Sequence[Fit]]) -> tuple[set[str], set[str]]:
    """What some stages need of the whole graph, and of the pruned one."""
    fits = [fit for stage in stages for fit in stage]
    skips = {fit.skip for fit in fits if fit.skip is not None}
    return {fit.goal for fit in fits}, {fit.layer.source for fit in fits} | skips


def _after(graph: Graph, tensors: set[str]) -> int:
    """The position by which all of ``tensors`` are made."""
    return max((graph.makers[name] + 1 for name in tensors if name in graph.makers), default=0)


def _affordable(
    whole: Graph, graph: Graph, stages: Sequence[Sequence[Fit]], fed: Sequence[Feed]
) -> list[Feed]:
    """As many batches, evenly spread, as can be held at once; the activations of one tell how many."""
    stops = [
        (_after(whole, goals), _after(graph, sources)) for goals, sources in (_tensors([s]) for s in stages)
    ]
    cost = widest(whole, fed[0], [a for a, _ in stops]) + widest(graph, fed[0], [b for _, b in stops])
    count = int(min(len(fed), max(1, _BYTES_HELD // max(cost, 1))))
    return [fed[int(k)] for k in np.linspace(0, len(fed) - 1, count).round()]


def _plan(t: Trace, kept: Kept) -> tuple[list[Fit], tuple[str, ...]]:
    """Layers whose input has changed, in topological order; those that cannot be refitted are noted."""
    affected = _affected(t, kept)
    fits: list[Fit] = []
    notes: list[str] = []
    for layer in sorted(t.layers, key=lambda layer: layer.node):
        if layer.source not in affected:
            continue
        name = label(t.graph.nodes[layer.node])
        if layer.shared:
            notes.append(f"not refitted: {name} (other nodes use its weights too)")
        elif weight_matrix_inputs(t, layer) > WIDEST_GRAM:
            notes.append(f"not refitted: {name} (more than {WIDEST_GRAM} inputs)")
        else:
            fits.append(Fit(layer, *_goal(t, layer)))
    return fits, tuple(notes)


def weight_matrix_inputs(t: Trace, layer: Layer) -> int:
    return len(weight_matrix(t.graph.nodes[layer.node], t.graph.constants[layer.weight]))


def _affected(t: Trace, kept: Kept) -> set[str]:
    """Tensors whose values differ between the whole graph and the pruned one."""
    changed = {name for name, _ in kept}
    for i, node in enumerate(t.graph.nodes):
        if changed.intersection(node.input) or changed & t.graph.captured.get(i, frozenset()):
            changed.update(node.output)
    return changed


def _goal(t: Trace, layer: Layer) -> tuple[str, str | None]:
    """What the layer should reach: the sum that its output alone goes into, or its own output."""
    graph = t.graph
    reader = graph.only_reader(layer.target)
    node = graph.nodes[reader] if reader is not None else None
    if node is None or node.op_type != "Add" or node.domain not in MAIN_DOMAINS:
        return layer.target, None
    other = node.input[1] if node.input[0] == layer.target else node.input[0]
    shape = graph.shapes.get(layer.target)
    early = graph.makers.get(other, -1) < layer.node
    if other in graph.constants or not early or shape is None or graph.shapes.get(other) != shape:
        return layer.target, None
    return node.output[0], other


def _stages(fits: Sequence[Fit]) -> list[list[Fit]]:
    """Fits that read the same tensor go together: they see the same calibration rows.

    One that makes up for a residual stream waits for its turn, since the stream has to be final by then.
    """
    stages: dict[tuple[str, int], list[Fit]] = {}
    for fit in fits:
        turn = fit.layer.node if fit.skip is not None else -1
        stages.setdefault((fit.layer.source, turn), []).append(fit)
    return list(stages.values())


def _give_biases(whole: Graph, model: onnx.ModelProto, fits: Sequence[Fit]) -> None:
    """Adds a bias of zeros to the convolutions and Gemms that have none."""
    makers = {node.output[0]: node for node in model.graph.node}
    weights = {t.name: t for t in model.graph.initializer}
    for fit in fits:
        node = makers[whole.nodes[fit.layer.node].output[0]]
        if node.op_type == "MatMul" or fit.layer.bias is not None:
            continue
        weight = whole.store.read(weights[fit.layer.weight])
        width = output_width(node, weight, attribute(node, "group", 1))
        name = f"{node.output[0]}.bias"
        model.graph.initializer.append(whole.store.tensor(name, np.zeros(width, weight.dtype)))
        inputs = list(node.input[:2])
        del node.input[:]
        node.input.extend([*inputs, name])


class _Regression:
    """One layer's least squares: gathers rows, then writes weight and bias into the pruned graph.

    Rows become moments once they are no longer few. A grouped convolution is one regression a group.
    """

    def __init__(self, whole: Graph, graph: Graph, fit: Fit, kept: Kept) -> None:
        self.node = graph.nodes[graph.makers[whole.nodes[fit.layer.node].output[0]]]
        self._graph, self._fit, self._kept = graph, fit, kept
        self._mask = token_mask(whole) or ""
        self._groups = attribute(self.node, "group", 1)
        self._weight = graph.constants[fit.layer.weight]
        self._bias = fit.layer.bias or input_name(self.node, 2) or None
        self._matrices = [weight_matrix(self.node, part) for part in self._parts(self._weight)]
        self._seen = [Moments.zeros(*matrix.shape) for matrix in self._matrices]
        self._unseen = [Moments.zeros(*matrix.shape) for matrix in self._matrices]
        self._few: list[tuple[bool, list[Pairs]]] = []
        self._rows = 0
        free = self._bias is not None
        self._fixed = [None if free else np.zeros(matrix.shape[1]) for matrix in self._matrices]

    @property
    def inputs(self) -> int:
        return len(self._matrices[0])

    def observe(
        self, sources: Feed, goals: Feed, hold_out: bool, limit: int, rng: np.random.Generator
    ) -> None:
        """``sources`` are of the pruned graph, ``goals`` of the whole one."""
        layer = self._fit.layer
        goal = goals[self._fit.goal]
        if (layer.target, layer.target_axis) in self._kept:
            goal = np.take(goal, self._kept[layer.target, layer.target_axis], layer.target_axis)
        if self._fit.skip is not None:
            goal = goal - sources[self._fit.skip]
        taken = sample(self.node, goal, limit, rng, sources.get(self._mask))
        x = input_rows(self.node, sources[layer.source], self._weight, taken)
        y = output_rows(self.node, goal, taken)
        x, y = x.astype(np.float64), y.astype(np.float64)
        parts = zip(np.split(x, self._groups, 1), np.split(y, self._groups, 1), strict=True)
        self._few.append((hold_out, [Pairs(*part) for part in parts]))
        self._rows += len(x)
        if not few(self._rows, self.inputs):
            while self._few:
                self._sum(*self._few.pop(0))

    def _sum(self, hold_out: bool, parts: Sequence[Pairs]) -> None:
        for moments, part in zip(self._unseen if hold_out else self._seen, parts, strict=True):
            moments.add(part.x, part.y)

    def _shown(self, hold_out: bool) -> Sequence[Moments | Pairs]:
        """What was shown of each group: rows to fit to, or those held out."""
        if not self._few:
            return self._unseen if hold_out else self._seen
        batches = [parts for held, parts in self._few if held is hold_out]
        return [joined_pairs(some) for some in zip(*batches, strict=True)]

    def _all(self) -> Sequence[Moments | Pairs]:
        if not self._few:
            return [joined(both) for both in zip(self._seen, self._unseen, strict=True)]
        return [joined_pairs(some) for some in zip(*(parts for _, parts in self._few), strict=True)]

    def write(self) -> None:
        ridge = self._best_ridge()
        problems = zip(self._all(), self._matrices, self._fixed, strict=True)
        solved = [refit(shown, w.astype(np.float64), ridge, b) for shown, w, b in problems]
        parts = [
            weight_tensor(self.node, matrix, part)
            for (matrix, _), part in zip(solved, self._parts(self._weight), strict=True)
        ]
        replace_constant(self._graph, self._fit.layer.weight, np.concatenate(parts))
        if self._bias is not None:
            old = self._graph.constants[self._bias]
            bias = np.concatenate([bias for _, bias in solved]).astype(old.dtype).reshape(old.shape)
            replace_constant(self._graph, self._bias, bias)

    def _best_ridge(self) -> float:
        seen, unseen = self._shown(False), self._shown(True)
        if not all(parts and parts[0].rows for parts in (seen, unseen)):
            return USUAL_RIDGE

        def error(ridge: float) -> float:
            problems = zip(seen, unseen, self._matrices, self._fixed, strict=True)
            return sum(held_out_error(a, b, w.astype(np.float64), ridge, bias) for a, b, w, bias in problems)

        return min(RIDGES, key=error)

    def _parts(self, weight: Array) -> list[Array]:
        """The weight, group by group."""
        return np.split(weight, self._groups, 0) if self._groups > 1 else [weight]


def _observe(
    regressions: Sequence[_Regression],
    wanted: Sequence[Feed],
    given: Sequence[Feed],
    rng: np.random.Generator,
) -> None:
    """Shows each layer, batch by batch, what it gets (``given``) and should make of it (``wanted``)."""
    for batch, (goals, sources) in enumerate(zip(wanted, given, strict=True)):
        hold_out = batch % _HELD_OUT == _HELD_OUT - 1
        for regression in regressions:
            regression.observe(sources, goals, hold_out, -(-rows_for(regression.inputs) // len(given)), rng)


def replace_constant(graph: Graph, name: str, array: Array) -> None:
    """Puts a constant of the same shape in the place of ``name``, in the index and in its model."""
    tensor = next(t for t in graph.model.graph.initializer if t.name == name)
    tensor.CopyFrom(graph.store.tensor(name, np.ascontiguousarray(array)))
    graph.constants.put(tensor)
