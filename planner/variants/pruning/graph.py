"""A read-only index over an ONNX graph: who makes a tensor, who reads it, its shape, its constant value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from planner.variants.pruning.shapes import Array, Dim, inferred
from planner.variants.pruning.store import Constants, Store

MAIN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Graph:
    """``shapes`` lacks a tensor whose rank is unknown. ``readers`` are (node index, input index) pairs.

    ``captured`` names the outer values that a node's subgraphs (If, Loop, Scan) read.
    """

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    constants: Constants
    shapes: dict[str, tuple[Dim, ...]]
    dtypes: dict[str, np.dtype[Any]]
    makers: dict[str, int]
    readers: dict[str, tuple[tuple[int, int], ...]]
    captured: dict[int, frozenset[str]]
    inputs: tuple[str, ...]
    outputs: frozenset[str]
    opset: int
    store: Store

    def constant(self, node: onnx.NodeProto, index: int) -> Array | None:
        """The constant that feeds input ``index``, or None where it is absent or computed."""
        name = input_name(node, index)
        return self.constants.get(name) if name else None

    def only_reader(self, tensor: str) -> int | None:
        """The single node that reads ``tensor``, once; None where others, or the outside, see it too."""
        readers = self.readers.get(tensor, ())
        if len(readers) != 1 or tensor in self.outputs or any(tensor in c for c in self.captured.values()):
            return None
        return readers[0][0]


def index(model: onnx.ModelProto, store: Store | None = None) -> Graph:
    """``store`` has the external weights of ``model``, where there are some."""
    graph = model.graph
    store = store or Store()
    constants = Constants(graph.initializer, store)
    readers: dict[str, list[tuple[int, int]]] = {}
    captured = {}
    for i, node in enumerate(graph.node):
        for k, name in enumerate(node.input):
            if name:
                readers.setdefault(name, []).append((i, k))
        if outer := frozenset(outer_names(node)):
            captured[i] = outer
    shapes, dtypes = inferred(model, constants)
    return Graph(
        model=model,
        nodes=tuple(graph.node),
        constants=constants,
        shapes=shapes,
        dtypes=dtypes,
        makers={name: i for i, node in enumerate(graph.node) for name in node.output if name},
        readers={name: tuple(pairs) for name, pairs in readers.items()},
        captured=captured,
        inputs=tuple(i.name for i in graph.input if i.name not in constants),
        outputs=frozenset(o.name for o in graph.output),
        opset=max((o.version for o in model.opset_import if o.domain in MAIN_DOMAINS), default=1),
        store=store,
    )


def input_name(node: onnx.NodeProto, index: int) -> str:
    """Name of input ``index``; empty where the optional input is left out."""
    return str(node.input[index]) if index < len(node.input) else ""


def given(node: onnx.NodeProto, index: int) -> bool:
    """Whether the optional input ``index`` is there."""
    return bool(input_name(node, index))


def constant_ints(graph: Graph, node: onnx.NodeProto, index: int) -> list[int] | None:
    """A constant integer input as a flat list, or None where absent or computed."""
    array = graph.constant(node, index)
    return None if array is None else [int(v) for v in array.reshape(-1)]


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    drop_attribute(node, name)
    node.attribute.append(helper.make_attribute(name, value))


def drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def label(node: onnx.NodeProto) -> str:
    """How reports call a node: its name, or what it makes."""
    return f"{node.op_type} {node.name or next((o for o in node.output if o), '?')}"


def has_subgraph(node: onnx.NodeProto) -> bool:
    return any(_subgraphs(node))


def outer_names(node: onnx.NodeProto) -> Iterator[str]:
    """Values of the enclosing scope that the subgraphs of ``node`` read."""
    for sub in _subgraphs(node):
        inner = {i.name for i in sub.input} | {t.name for t in sub.initializer}
        inner |= {name for n in sub.node for name in n.output}
        used = {o.name for o in sub.output} | {name for n in sub.node for name in n.input}
        for n in sub.node:
            used |= set(outer_names(n))
        yield from used - inner - {""}


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for entry in node.attribute:
        if entry.type == onnx.AttributeProto.GRAPH:
            yield entry.g
        elif entry.type == onnx.AttributeProto.GRAPHS:
            yield from entry.graphs


def live_nodes(graph: Graph, wanted: set[str]) -> list[int]:
    """Indices, in order, of the nodes that ``wanted`` tensors need."""
    needed, live = set(wanted), []
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        if needed.intersection(node.output):
            live.append(i)
            needed.update(n for n in node.input if n)
            needed |= graph.captured.get(i, frozenset())
    return live[::-1]
