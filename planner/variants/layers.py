"""Layers whose constant weights a recipe may replace, each as a plain matrix of [inputs, outputs]."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from planner.variants.context import Array
from planner.variants.graph import captured
from planner.variants.opsets import MAIN_DOMAINS
from planner.variants.pruning.rows import weight_matrix, window_of
from planner.variants.weights import value


@dataclass(frozen=True, slots=True)
class Layer:
    """A MatMul, Gemm or ungrouped Conv of the main graph, and the only reader of its weight."""

    node: onnx.NodeProto
    weight: onnx.TensorProto
    bias: onnx.TensorProto | None
    inputs: int
    outputs: int
    window: int
    """Inputs a channel has: the size of a convolution's kernel, else 1."""
    folder: Path
    """Where external weights lie."""

    @property
    def source(self) -> str:
        return str(self.node.input[0])

    @property
    def target(self) -> str:
        return str(self.node.output[0])

    def values(self) -> Array:
        return value(self.weight, self.folder)

    def like(self) -> Array:
        """The weight's shape and type, without its values."""
        return _like(self.weight)

    def matrix(self) -> Array:
        return weight_matrix(self.node, self.values())


def _like(weight: onnx.TensorProto) -> Array:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)
    return np.broadcast_to(np.zeros((), dtype), tuple(weight.dims))


def layers_of(graph: onnx.GraphProto, folder: Path) -> tuple[list[Layer], Counter[str]]:
    """Layers in the order of the graph, and how many others there are, by reason.

    External weights lie in ``folder``.
    """
    weights = {i.name: i for i in graph.initializer}
    uses = Counter(name for node in graph.node for name in (*node.input, *captured(node)))
    found: list[Layer] = []
    left: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.domain not in MAIN_DOMAINS:
            continue
        weight = weights.get(node.input[1])
        if reason := _why_not(node, weight, weights, uses):
            left[reason] += 1
            continue
        assert weight is not None
        bias = weights[node.input[2]] if len(node.input) > 2 and node.input[2] else None
        like = _like(weight)
        inputs, outputs = weight_matrix(node, like).shape
        found.append(Layer(node, weight, bias, inputs, outputs, window_of(node, like), folder))
    return found, left


def _why_not(
    node: onnx.NodeProto,
    weight: onnx.TensorProto | None,
    weights: dict[str, onnx.TensorProto],
    uses: Counter[str],
) -> str:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if weight is None or node.input[0] in weights:
        return f"{node.op_type} of two activations"
    if weight.data_type != TensorProto.FLOAT:
        return f"{node.op_type} whose weights are not float32"
    if uses[weight.name] > 1:
        return f"{node.op_type} that shares its weights"
    if node.op_type == "ConvTranspose":
        return "ConvTranspose"
    if node.op_type == "Conv" and attributes.get("group", 1) > 1:
        return "Conv in groups"
    if node.op_type == "MatMul" and len(weight.dims) != 2:
        return "MatMul whose weights are not a matrix"
    plain = not attributes.get("transA", 0) and attributes.get("alpha", 1) == attributes.get("beta", 1) == 1
    if node.op_type == "Gemm" and not plain:
        return "Gemm with a factor or a transposed input"
    if len(node.input) > 2 and node.input[2]:
        bias = weights.get(node.input[2])
        if bias is None or len(bias.dims) != 1:
            return f"{node.op_type} whose bias is not a constant vector"
    return ""
