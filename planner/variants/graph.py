"""Walking and writing ONNX graphs."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

# Protobuf refuses messages of 2 GiB and more; below, one file is simpler to ship.
_ONE_FILE_BYTES = 1_500_000_000
_MICROSOFT = "com.microsoft"


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside its If, Loop and Scan nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from graphs_in(inner)


def nodes_in(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of inner graphs and of functions included."""
    for graph in graphs_in(proto.graph):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def needs_external_data(proto: onnx.ModelProto) -> bool:
    weights = [i for graph in graphs_in(proto.graph) for i in graph.initializer]
    size = sum(math.prod(i.dims) * _item_bytes(i.data_type) for i in weights)
    return bool(size > _ONE_FILE_BYTES)


def _item_bytes(element: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(element).itemsize)


def save(proto: onnx.ModelProto, path: Path) -> None:
    """One file where it fits; else the weights in ``<file>.data`` beside it."""
    if needs_external_data(proto):
        onnx.save(proto, path, save_as_external_data=True, location=path.name + ".data")
    else:
        onnx.save(proto, path)


def save_with(proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], path: Path) -> Path:
    """Saves ``proto`` with these nodes in place of its own, and without what none of them reads."""
    graph = proto.graph
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    drop_unused_initializers(graph)
    path.with_name(path.name + ".data").unlink(missing_ok=True)
    save(proto, path)
    return path


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in (*node.input, *captured(node))}
    used |= {output.name for output in graph.output}
    kept = [t for t in graph.initializer if t.name in used]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def write(proto: onnx.ModelProto, path: Path, source: Path) -> None:
    """Saves what was made of ``source`` with its interface, in a valid order, importing the domains it uses.

    Optimizers and shape inference rename or sharpen dynamic dimensions, and converters append nodes
    wherever they like.
    """
    original = onnx.load(source, load_external_data=False)
    weights = {i.name for i in original.graph.initializer}
    inputs = [value for value in original.graph.input if value.name not in weights]
    del proto.graph.input[:], proto.graph.output[:]
    proto.graph.input.extend(inputs)
    proto.graph.output.extend(original.graph.output)
    for graph in graphs_in(proto.graph):
        _sort(graph)
    _import_domains(proto)
    save(proto, path)


def _sort(graph: onnx.GraphProto) -> None:
    """Producers before consumers, otherwise as they were. Source: Kahn, CACM 5 (11), 1962."""
    producers = {t: index for index, node in enumerate(graph.node) for t in node.output if t}
    waits = [{producers[t] for t in (*n.input, *captured(n)) if t in producers} for n in graph.node]
    consumers: dict[int, list[int]] = {}
    for index, needed in enumerate(waits):
        for producer in needed:
            consumers.setdefault(producer, []).append(index)
    ready = [index for index, needed in enumerate(waits) if not needed]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for consumer in consumers.get(index, ()):
            waits[consumer].discard(index)
            if not waits[consumer]:
                heapq.heappush(ready, consumer)
    if order != sorted(order):
        nodes = [graph.node[index] for index in order]
        del graph.node[:]
        graph.node.extend(nodes)


def captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names read by the inner graphs of a control flow node, those of outer tensors among them."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in graphs_in(graph):
                yield from (name for n in inner.node for name in n.input)
                yield from (value.name for value in inner.output)


def _import_domains(proto: onnx.ModelProto) -> None:
    used = {node.domain for node in nodes_in(proto)} | {f.domain for f in proto.functions} | {"", "ai.onnx"}
    opsets = [o for o in proto.opset_import if o.domain in used]
    present = {o.domain for o in opsets}
    if _MICROSOFT in used - present:
        opsets.append(onnx.helper.make_opsetid(_MICROSOFT, 1))
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)


def with_shapes(proto: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The model with types and shapes inferred anew, through files: above 2 GiB nothing else works."""
    bare, inferred = scratch / "bare.onnx", scratch / "inferred.onnx"
    for graph in graphs_in(proto.graph):
        del graph.value_info[:]
    save(proto, bare)
    onnx.shape_inference.infer_shapes_path(str(bare), str(inferred))
    return onnx.load(inferred)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Gives every node of the graph a name of its own."""
    taken = Counter(node.name for node in graph.node)
    for index, node in enumerate(graph.node):
        if not node.name or taken[node.name] > 1:
            node.name = f"{node.op_type}_{index}_{node.output[0]}"
