"""Follows every axis of every tensor through the graph, and finds the layers whose width can change.

One pass in topological order. A rule per operator (``rules_layers``, ``rules_pointwise``,
``rules_shape``) gives the labels of its outputs and says which positions it ties together. An operator
without a rule pins all it touches, so what is not understood stays whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx

from planner.variants.pruning.graph import MAIN_DOMAINS, Graph, has_subgraph, label
from planner.variants.pruning.labels import Atoms, Labels
from planner.variants.pruning.shapes import Dim

Axis = Labels | None
"""Labels along an axis; None where its length is unknown (such an axis always stays)."""

Origin = tuple[str, int]
"""A tensor and one of its axes."""


@dataclass(frozen=True, slots=True)
class Contraction:
    """``node`` sums over ``axis`` of ``tensor``, its input ``index``: there, what is removed counts as 0."""

    node: int
    index: int
    tensor: str
    axis: int


@dataclass(frozen=True, slots=True)
class Layer:
    """A node with constant weights that maps the channels of ``source`` to those of ``target``.

    ``target`` is the tensor after the bias, which may be added by a node of its own. ``bias`` names its
    constant; ``shared`` says that other nodes read these weights too, so they cannot be refitted here.
    """

    node: int
    source: str
    source_axis: int
    weight: str
    bias: str | None
    target: str
    target_axis: int
    groups: int
    shared: bool


@dataclass(slots=True)
class Trace:
    """What the pass found. ``axes`` lacks tensors of unknown rank."""

    graph: Graph
    atoms: Atoms = field(default_factory=Atoms)
    axes: dict[str, list[Axis]] = field(default_factory=dict)
    contractions: list[Contraction] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    sizes: dict[str, list[frozenset[Origin]]] = field(default_factory=dict)
    """For tensors made from Shape: which axes each of their elements measures."""

    def of(self, tensor: str) -> list[Axis] | None:
        """Labels of ``tensor``, None where its rank is unknown. A constant gets atoms at its first use."""
        if tensor not in self.axes and tensor in self.graph.constants:
            shape = self.graph.constants[tensor].shape
            self.axes[tensor] = [self.atoms.fresh(d) if d > 1 else np.zeros(d, np.int64) for d in shape]
        return self.axes.get(tensor)

    def shape(self, tensor: str) -> tuple[Dim, ...] | None:
        return self.graph.shapes.get(tensor)

    def whole(self, tensor: str) -> list[Axis] | None:
        """Labels of a tensor that stays whole."""
        shape = self.shape(tensor)
        if shape is None:
            return None
        return [np.zeros(d, np.int64) if isinstance(d, int) else None for d in shape]

    def pin(self, tensor: str, reason: str) -> None:
        for axis in self.of(tensor) or ():
            self.pin_axis(axis, reason)

    def pin_axis(self, axis: Axis, reason: str) -> None:
        if axis is not None:
            self.atoms.pin(axis, reason)

    def join(self, a: Axis, b: Axis, reason: str) -> Axis:
        """Ties two axes together; what cannot be matched, for want of a known length, is pinned."""
        if a is None or b is None or len(a) != len(b):
            self.pin_axis(a, reason)
            self.pin_axis(b, reason)
            return a if b is None else b
        self.atoms.join(a, b, reason)
        return a if a.any() else b

    def give(self, tensor: str, axes: list[Axis], reason: str) -> None:
        """Sets the labels of a node's output, checked against the shape that inference found."""
        shape = self.shape(tensor)
        if shape is not None and len(shape) == len(axes):
            sized = [
                np.zeros(d, np.int64) if x is None and isinstance(d, int) else x
                for d, x in zip(shape, axes, strict=True)
            ]
            if all(x is None or d == len(x) for d, x in zip(shape, sized, strict=True)):
                self.axes[tensor] = sized
                return
        for axis in axes:
            self.pin_axis(axis, f"{reason} makes a shape that could not be inferred")
        if (stays := self.whole(tensor)) is not None:
            self.axes[tensor] = stays


Rule = Callable[[Trace, int, onnx.NodeProto], bool]
"""Labels the node's outputs and returns True, or returns False: then all it touches stays whole."""


def trace(graph: Graph, rules: dict[str, Rule], size_readers: dict[str, int | None]) -> Trace:
    """Runs ``rules`` over the graph.

    ``size_readers``: operators that may read sizes taken from Shape, with the input that they read them
    at (None: any). Every other use of a size pins the axis that it measures.
    """
    found = Trace(graph)
    for name in graph.inputs:
        _leave(found, name)
    for i, node in enumerate(graph.nodes):
        _pin_measured(found, i, node, size_readers)
        rule = rules.get(node.op_type) if node.domain in MAIN_DOMAINS and not has_subgraph(node) else None
        readable = all(found.of(name) is not None for name in node.input if name)
        if not (rule and readable and rule(found, i, node)):
            _leave_node(found, i, node)
        for name in node.output:
            if name in graph.outputs:
                found.pin(name, f"{name} is an output of the model")
                for origin in frozenset().union(*found.sizes.get(name, ())):
                    pin_origin(found, origin, "its size is an output of the model")
    return found


def _leave(found: Trace, tensor: str) -> None:
    if (axes := found.whole(tensor)) is not None:
        found.axes[tensor] = axes


def _leave_node(found: Trace, i: int, node: onnx.NodeProto) -> None:
    for name in {*node.input, *found.graph.captured.get(i, frozenset())} - {""}:
        found.pin(name, f"{label(node)} is not traced")
    for name in node.output:
        if name:
            found.axes.pop(name, None)
            _leave(found, name)


def _pin_measured(found: Trace, i: int, node: onnx.NodeProto, size_readers: dict[str, int | None]) -> None:
    slot = size_readers.get(node.op_type, -1)
    reads = {name for k, name in enumerate(node.input) if slot is not None and k != slot}
    if has_subgraph(node):
        reads |= found.graph.captured.get(i, frozenset()) | set(node.input)
    for name in reads & found.sizes.keys():
        for origin in frozenset().union(*found.sizes[name]):
            pin_origin(found, origin, f"{label(node)} computes with its size")


def pin_origin(found: Trace, origin: Origin, reason: str) -> None:
    axes = found.of(origin[0])
    if axes:
        found.pin_axis(axes[origin[1]], reason)
