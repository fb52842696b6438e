"""Which nodes an integer graph should cover.

Multiply-accumulates gain from int8; everything else only pays for it. An element-wise node is quantized
only where it lies between integer nodes, so that data need not turn to float and back; a node whose
neighbour stays float stays float. In a residual network that covers the additions and poolings, in a
transformer nothing but the matrix products, and a decomposed LayerNorm or GELU is never touched (in int8
such a chain of cancelling terms destroys the result).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from planner.variants.graph import captured

MULTIPLY_ACCUMULATE = ("Conv", "ConvTranspose", "MatMul", "Gemm")
# Left to int8-dynamic, like everything inside control flow.
_RECURRENT = ("GRU", "LSTM", "RNN")
# Element-wise or moving data, with a kernel for 8-bit integers in ONNX Runtime.
BETWEEN = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul",
    "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
# Folded into the range of the multiply-accumulate before them, so they cost nothing whatever follows.
FOLDED = ("Clip", "Relu")
# Their integer kernels can hand on the accumulated sum as a float, unrounded; those of convolutions cannot.
EXACT = ("MatMul", "Gemm")


@dataclass(frozen=True, slots=True)
class Placement:
    """Names of the nodes to quantize, and the activations that turn to integers.

    Those are what the nodes read and write, but for products that only float nodes read.
    """

    nodes: tuple[str, ...]
    tensors: tuple[str, ...]
    left_float: tuple[str, ...]
    """Multiply-accumulates that stay float, with the reason, one line for each reason."""


def place(graph: onnx.GraphProto, kept_float: Collection[str] = ()) -> Placement:
    """Node names must be unique. Control flow (inner graphs) is left alone, and so is ``kept_float``."""
    weights = {i.name: i for i in graph.initializer}
    chosen, left = _multiply_accumulates(graph, weights)
    chosen -= set(kept_float)
    chosen |= _between(graph, weights, chosen)
    nodes = [n for n in graph.node if n.name in chosen]
    read = {t for n in nodes for t in activations(n, weights)}
    tensors = [
        t
        for n in nodes
        for t in (*activations(n, weights), *n.output)
        if t and (t in read or n.op_type not in EXACT)
    ]
    return Placement(tuple(n.name for n in nodes), tuple(dict.fromkeys(tensors)), left)


def _multiply_accumulates(
    graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto]
) -> tuple[set[str], tuple[str, ...]]:
    chosen: set[str] = set()
    left: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in _RECURRENT or any(a.HasField("g") for a in node.attribute):
            left[node.op_type] = left.get(node.op_type, 0) + 1
        elif node.op_type in MULTIPLY_ACCUMULATE:
            reason = _why_float(node, weights)
            if reason:
                left[reason] = left.get(reason, 0) + 1
            else:
                chosen.add(node.name)
    return chosen, tuple(f"{count} left float: {reason}" for reason, count in left.items())


def _why_float(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> str:
    weight = weights.get(node.input[1])
    if weight is None:
        return f"{node.op_type} of two activations"
    if weight.data_type != onnx.TensorProto.FLOAT or node.input[0] in weights:
        return f"{node.op_type} whose weights are not float32"
    if node.op_type == "MatMul" and len(weight.dims) != 2:
        return "MatMul whose weights are not a matrix"
    if any(a.name in ("alpha", "beta") and a.f != 1 for a in node.attribute):
        return f"{node.op_type} with a factor"
    if len(node.input) > 2 and node.input[2]:
        bias = weights.get(node.input[2])
        if bias is None or len(bias.dims) != 1 or bias.dims[0] != output_channels(node, weight):
            return f"{node.op_type} whose bias is not a constant vector"
    return ""


def _between(graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto], integer: set[str]) -> set[str]:
    """The largest set of BETWEEN nodes all of whose neighbours are in it or in ``integer``."""
    producers = {t: n for n in graph.node for t in n.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for tensor in (*node.input, *captured(node)):
            consumers.setdefault(tensor, []).append(node)
    outputs = {value.name for value in graph.output}
    chosen = {n.name for n in graph.node if n.op_type in BETWEEN}

    def inside(node: onnx.NodeProto | None) -> bool:
        return node is not None and (node.name in integer or node.name in chosen)

    def holds(node: onnx.NodeProto) -> bool:
        if any(t in outputs for t in node.output) or not activations(node, weights):
            return False
        if not all(inside(producers.get(t)) for t in activations(node, weights)):
            return False
        after = [c for t in node.output for c in consumers.get(t, [])]
        if after and all(inside(c) for c in after):
            return True
        return node.op_type in FOLDED and producers[node.input[0]].op_type not in EXACT

    while dropped := {n.name for n in graph.node if n.name in chosen and not holds(n)}:
        chosen -= dropped
    return chosen


def activations(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> list[str]:
    """The inputs that carry data: shapes, axes, sizes and bounds follow the first and do not."""
    count = len(node.input) if node.op_type in ("Add", "Mul", "Concat") else 1
    return [t for t in node.input[:count] if t and t not in weights]


def output_channels(node: onnx.NodeProto, weight: onnx.TensorProto) -> int:
    attributes = {a.name: a.i for a in node.attribute}
    if node.op_type == "Conv":
        return int(weight.dims[0])
    if node.op_type == "ConvTranspose":
        return int(weight.dims[1]) * int(attributes.get("group", 1))
    return int(weight.dims[0 if attributes.get("transB") else 1])


def multiply_accumulates(
    node: onnx.NodeProto,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
) -> int:
    """How many multiply-accumulates one run of the node takes.

    Each output element of a convolution sums over its kernel and the channels of its group (the weights'
    axes but the first), of a product over the shared axis; a transposed convolution spreads each *input*
    element over the weights' axes but the first.
    """
    if node.op_type == "Conv":
        return math.prod(output_shape) * math.prod(weight_shape[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(input_shape) * math.prod(weight_shape[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(output_shape) * input_shape[0 if transposed else -1]
