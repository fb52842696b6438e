"""Products in dynamic int8, weight after weight: for models that ONNX Runtime's own tool would load whole.

What it writes is what that tool writes, so the same kernels run it: DynamicQuantizeLinear for an activation,
once however many products read it, MatMulInteger, and the sum times both scales.
Source: ONNX Runtime, "Quantize ONNX models"; ONNX, DynamicQuantizeLinear and MatMulInteger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from planner.variants.graph import drop_unused_initializers
from planner.variants.opsets import MAIN_DOMAINS
from planner.variants.weights import Sink, value

_LIMIT, _NARROW_LIMIT = 127, 64


def integer_products(proto: onnx.ModelProto, folder: Path, sink: Sink, narrow: bool) -> None:
    """Replaces in place every product of the main graph with a constant float32 matrix, from ``folder``.

    ``narrow``: weights in 7 bits.
    """
    graph = proto.graph
    work = _Work(graph, folder, sink, _NARROW_LIMIT if narrow else _LIMIT)
    weights = {i.name: i for i in graph.initializer}
    for node in list(graph.node):
        weight = weights.get(node.input[1]) if len(node.input) > 1 else None
        if weight is not None and _fits(node, weight):
            work.replace(node, weight)
        else:
            work.nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(work.nodes)
    drop_unused_initializers(graph)


def _fits(node: onnx.NodeProto, weight: TensorProto) -> bool:
    return (
        node.op_type in ("MatMul", "Gemm")
        and node.domain in MAIN_DOMAINS
        and weight.data_type == TensorProto.FLOAT
        and len(weight.dims) == 2
        and not any(a.name == "transA" and a.i for a in node.attribute)
        and all(a.f == 1 for a in node.attribute if a.name in ("alpha", "beta"))
    )


@dataclass(slots=True)
class _Work:
    """``nodes`` is the new list; ``made``: activations and weights that are quantized already."""

    graph: onnx.GraphProto
    folder: Path
    sink: Sink
    limit: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def replace(self, node: onnx.NodeProto, weight: TensorProto) -> None:
        source, output = node.input[0], node.output[0]
        stem = self._weight(weight, any(a.name == "transB" and a.i for a in node.attribute))
        q, scale, zero = (f"{source}/{part}" for part in ("q", "scale", "zero"))
        if q not in self.made:
            self.made.add(q)
            self._node("DynamicQuantizeLinear", [source], [q, scale, zero], q)
        has_bias = len(node.input) > 2 and bool(node.input[2])
        product = f"{output}/product" if has_bias else output
        self._node("MatMulInteger", [q, f"{stem}/q", zero, f"{stem}/zero"], [f"{output}/sum"], node.name)
        self._node("Cast", [f"{output}/sum"], [f"{output}/float"], f"{output}/cast", to=TensorProto.FLOAT)
        self._node("Mul", [scale, f"{stem}/scale"], [f"{output}/scales"], f"{output}/scales")
        self._node("Mul", [f"{output}/float", f"{output}/scales"], [product], f"{output}/scaled")
        if has_bias:
            self._node("Add", [product, node.input[2]], [output], f"{output}/biased")

    def _node(self, op: str, inputs: list[str], outputs: list[str], name: str, **attributes: int) -> None:
        self.nodes.append(helper.make_node(op, inputs, outputs, name, **attributes))

    def _weight(self, weight: TensorProto, transposed: bool) -> str:
        """Quantizes the matrix, one scale an output, and returns the stem of its names."""
        stem = f"{weight.name}/{'t' if transposed else 'n'}"
        if stem not in self.made:
            self.made.add(stem)
            matrix = value(weight, self.folder)
            matrix = matrix.T if transposed else matrix
            largest = np.maximum(matrix.max(0, initial=0), -matrix.min(0, initial=0))
            scale = np.where(largest > 0, largest / np.float32(self.limit), np.float32(1)).astype(np.float32)
            scaled = matrix / scale
            q = np.clip(np.rint(scaled, out=scaled), -self.limit, self.limit, out=scaled).astype(np.int8)
            for part, array in (("q", q), ("scale", scale), ("zero", np.zeros(scale.shape, np.int8))):
                self.graph.initializer.append(self.sink.tensor(f"{stem}/{part}", array))
        return stem
