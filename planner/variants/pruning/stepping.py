"""Walks a graph from layer to layer over the calibration samples, computing every node once.

Refitting needs each layer's input after all earlier layers have changed. Running the graph from its start
for each would cost the square of its depth; here only what later nodes still read is held in between.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
from onnx import helper

from planner.variants.pruning.activations import Feed, session
from planner.variants.pruning.graph import Graph


class Walk:
    """``held[b]`` has, for batch b, the tensors that are made and still needed."""

    def __init__(self, graph: Graph, fed: Sequence[Feed]) -> None:
        self.held = [dict(feed) for feed in fed]
        self._graph, self._next = graph, 0
        self._last_read = _last_reads(graph)

    def to(self, stop: int, wanted: Collection[str]) -> None:
        """Runs the nodes before ``stop`` that have not run yet; ``wanted`` tensors are held in any case."""
        start, self._next = self._next, max(self._next, stop)
        made = {name for node in self._graph.nodes[start:stop] for name in node.output if name}
        asked = sorted(name for name in made if self._needed(name, wanted))
        part = session(self._part(range(start, stop), made, asked), self._graph.store) if asked else None
        for batch, values in enumerate(self.held):
            if part is not None:
                inputs = {i.name: values[i.name] for i in part.get_inputs()}
                values |= dict(zip(asked, part.run(asked, inputs), strict=True))
            self.held[batch] = {name: v for name, v in values.items() if self._needed(name, wanted)}

    def bytes_held(self) -> int:
        return sum(value.nbytes for values in self.held for value in values.values())

    def _needed(self, name: str, wanted: Collection[str]) -> bool:
        return name in wanted or self._last_read.get(name, -1) >= self._next

    def _part(self, span: range, made: set[str], asked: Sequence[str]) -> onnx.ModelProto:
        nodes = [self._graph.nodes[i] for i in span]
        read = {name for node in nodes for name in node.input if name}
        read |= {name for i in span for name in self._graph.captured.get(i, ())}
        values = self.held[0]
        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(values[name].dtype), [None] * values[name].ndim
            )
            for name in sorted(read - made)
            if name in values
        ]
        source = self._graph.model
        part = helper.make_graph(
            nodes,
            "part",
            inputs,
            [onnx.ValueInfoProto(name=name) for name in asked],
            [t for t in source.graph.initializer if t.name in read],
        )
        model = helper.make_model(
            part, opset_imports=list(source.opset_import), functions=list(source.functions)
        )
        model.ir_version = source.ir_version
        return model


def _last_reads(graph: Graph) -> dict[str, int]:
    last: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        for name in (*node.input, *graph.captured.get(i, ())):
            last[name] = i
    return last


def widest(graph: Graph, feed: Feed, stops: Sequence[int]) -> int:
    """The most bytes that a walk with these ``stops`` holds for one batch."""
    walk = Walk(graph, [feed])
    most = 0
    for stop in stops:
        walk.to(stop, ())
        most = max(most, walk.bytes_held())
    return most
