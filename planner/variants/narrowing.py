"""A 16-bit float type written into a graph, numerically unsafe operators kept in float32.

A tensor ``t`` is always the float32 one, ``t.bf16`` always the narrow one; a Cast makes either from the
other where a node reads it. Inner graphs (control flow) stay float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from planner.variants.graph import captured
from planner.variants.opsets import MAIN_DOMAINS, opset_of
from planner.variants.weights import Sink, value

NARROW = TensorProto.BFLOAT16
_DTYPE = np.dtype(ml_dtypes.bfloat16)
_SUFFIX = ".bf16"

_PRODUCTS = ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")
_REDUCTIONS = (
    "CumSum", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
# Functions that 8 bits of precision in their argument or result would spoil.
_UNSAFE = (
    *_REDUCTIONS, "Cos", "Exp", "Log", "LogSoftmax", "LpNormalization", "Pow", "Reciprocal", "Sin", "Sqrt",
)  # fmt: skip
# Stay float32 where all they read was made by an unsafe operator: a mean, a variance, a sum of exponents.
_FOLLOWING = (
    "Abs", "Add", "Clip", "Concat", "Div", "Expand", "Gather", "Identity", "Max", "Min", "Mul", "Neg",
    "Reshape", "Slice", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
_NARROW = frozenset([
    *_PRODUCTS, *_FOLLOWING,
    "AveragePool", "BatchNormalization", "Cast", "DepthToSpace", "DequantizeLinear", "Dropout", "Elu",
    "Equal", "Erf", "Flatten", "GatherElements", "GatherND", "Gelu", "GlobalAveragePool", "GlobalMaxPool",
    "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish",
    "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "MaxPool", "Mish",
    "PRelu", "Pad", "QuantizeLinear", "ReduceMax", "ReduceMin", "Relu", "Resize", "Selu", "Sigmoid",
    "Softmax", "Softplus", "SpaceToDepth", "Split", "Tanh",
])  # fmt: skip
# Every value of these types is a bfloat16 too.
_EXACT_SOURCES = (TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8)


@dataclass(slots=True)
class _Graph:
    """The graph being rewritten: ``types`` of its tensors, and which of them exist in which width."""

    types: Mapping[str, int]
    weights: Mapping[str, onnx.TensorProto]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    wide: set[str] = field(default_factory=set)
    narrow: set[str] = field(default_factory=set)

    def is_float(self, name: str) -> bool:
        return bool(self.types.get(name) == TensorProto.FLOAT)

    def as_narrow(self, name: str) -> str:
        made = name + _SUFFIX
        if name not in self.narrow:
            self.narrow.add(name)
            if name not in self.weights:
                self.nodes.append(helper.make_node("Cast", [name], [made], f"{name}/to_bf16", to=NARROW))
        return made

    def as_wide(self, name: str) -> None:
        if name not in self.wide:
            self.wide.add(name)
            if name not in self.weights and name in self.narrow:
                cast = helper.make_node(
                    "Cast", [name + _SUFFIX], [name], f"{name}/to_f32", to=TensorProto.FLOAT
                )
                self.nodes.append(cast)


def narrowed(proto: onnx.ModelProto, types: Mapping[str, int], sink: Sink, folder: Path) -> tuple[str, ...]:
    """Rewrites ``proto`` (tidied, ``types`` inferred) in place, weights from ``folder``; returns notes."""
    graph = proto.graph
    weights = {i.name: i for i in graph.initializer}
    chosen, kept = _choose(proto, types, weights, folder)
    state = _Graph(types, weights)
    state.wide.update(v.name for v in graph.input if v.name not in weights)
    for index, node in enumerate(graph.node):
        for name in captured(node):
            if state.is_float(name):
                state.as_wide(name)
        if index in chosen:
            _narrow_node(state, node, opset_of(proto))
        else:
            for name in node.input:
                if state.is_float(name):
                    state.as_wide(name)
            state.nodes.append(node)
            state.wide.update(node.output)
    for output in graph.output:
        if state.is_float(output.name):
            state.as_wide(output.name)
    nodes = list(state.nodes)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    _replace_weights(graph, state, sink, folder)
    return tuple(kept)


def _narrow_node(state: _Graph, node: onnx.NodeProto, opset: int) -> None:
    for i, name in enumerate(node.input):
        if state.is_float(name):
            if i in _narrow_positions(node, opset, inputs=True):
                node.input[i] = state.as_narrow(name)
            else:
                state.as_wide(name)
    state.nodes.append(node)
    if node.op_type == "Cast":
        node.attribute[0].i = NARROW
    for i, name in enumerate(node.output):
        if state.is_float(name):
            state.narrow.add(name)
            node.output[i] = name + _SUFFIX


def _replace_weights(graph: onnx.GraphProto, state: _Graph, sink: Sink, folder: Path) -> None:
    kept = []
    for tensor in graph.initializer:
        if tensor.name in state.narrow:
            array = value(tensor, folder).astype(_DTYPE)
            kept.append(sink.tensor(tensor.name + _SUFFIX, array))
        if tensor.name not in state.narrow or tensor.name in state.wide:
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _choose(
    proto: onnx.ModelProto, types: Mapping[str, int], weights: Mapping[str, onnx.TensorProto], folder: Path
) -> tuple[set[int], list[str]]:
    """Indices of the nodes to narrow, and notes on those of float32 tensors that are not."""
    squares = _summed_squares(proto.graph)
    opset = opset_of(proto)
    chosen: set[int] = set()
    exact: set[str] = set()
    unsafe: dict[str, int] = {}
    unable: dict[str, int] = {}
    for index, node in enumerate(proto.graph.node):
        floats = [n for n in (*node.input, *node.output) if types.get(n) == TensorProto.FLOAT]
        if not floats:
            continue
        if node.op_type in _UNSAFE or index in squares or _follows(node, exact, types, weights):
            exact.update(node.output)
            unsafe[node.op_type] = unsafe.get(node.op_type, 0) + 1
        elif _can_narrow(node, types, weights, opset, folder):
            chosen.add(index)
        elif node.op_type != "Cast":
            unable[node.op_type] = unable.get(node.op_type, 0) + 1
    notes = []
    if unsafe:
        notes.append(f"kept in float32 for precision: {_counted(unsafe)}")
    if unable:
        notes.append(f"kept in float32, no such operator in bfloat16 at opset {opset}: {_counted(unable)}")
    return chosen, notes


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {op}" for op, count in sorted(counts.items()))


def _follows(
    node: onnx.NodeProto, exact: set[str], types: Mapping[str, int], weights: Mapping[str, onnx.TensorProto]
) -> bool:
    """A difference with an exact side cancels and stays exact; the rest follows where every side is exact."""
    sides = [n in exact for n in node.input if types.get(n) == TensorProto.FLOAT and n not in weights]
    if node.op_type == "Sub":
        return any(sides)
    return node.op_type in _FOLLOWING and bool(sides) and all(sides)


def _summed_squares(graph: onnx.GraphProto) -> set[int]:
    """Squares that are summed: variances, small differences of such sums."""
    reduced = {n.input[0] for n in graph.node if n.op_type in _REDUCTIONS and n.input}
    return {
        index
        for index, n in enumerate(graph.node)
        if n.op_type == "Mul" and n.input[0] == n.input[1] and n.output[0] in reduced
    }


def _can_narrow(
    node: onnx.NodeProto,
    types: Mapping[str, int],
    weights: Mapping[str, onnx.TensorProto],
    opset: int,
    folder: Path,
) -> bool:
    if node.domain not in MAIN_DOMAINS or node.op_type not in _NARROW:
        return False
    if node.op_type == "Cast":
        return types.get(node.output[0]) == TensorProto.FLOAT and types.get(node.input[0]) in _EXACT_SOURCES
    if any(name and name not in types for name in node.input):
        return False
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not _exact_scale(node, weights, folder):
        return False
    floats = {i for i, n in enumerate(node.output) if types.get(n) == TensorProto.FLOAT}
    if not floats <= _narrow_positions(node, opset, inputs=False):
        return False
    read = {i for i, n in enumerate(node.input) if types.get(n) == TensorProto.FLOAT}
    return bool(read & _narrow_positions(node, opset, inputs=True))


def _exact_scale(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto], folder: Path) -> bool:
    """Whether the scale loses nothing in the narrow type; else what was quantized with it would shift."""
    tensor = weights.get(node.input[1])
    if tensor is None:
        return False
    scale = value(tensor, folder)
    return bool(np.array_equal(scale.astype(_DTYPE).astype(np.float32), scale))


def _narrow_positions(node: onnx.NodeProto, opset: int, inputs: bool) -> set[int]:
    """Which inputs or outputs may be of the narrow type, as the operator's definition has it."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return set()
    allowed = {c.type_param_str for c in schema.type_constraints if "tensor(bfloat16)" in c.allowed_type_strs}
    formal = [parameter.type_str in allowed for parameter in (schema.inputs if inputs else schema.outputs)]
    actual = node.input if inputs else node.output
    # The last parameter stands for all that follow it (variadic).
    return {i for i in range(len(actual)) if formal and formal[min(i, len(formal) - 1)]}


def narrow_tensors(types: Mapping[str, int]) -> Iterator[str]:
    return (name for name, element in types.items() if element == NARROW)


def count_products(nodes: Iterable[onnx.NodeProto], names: set[str]) -> tuple[int, int]:
    """How many convolutions and products read one of ``names``, and how many there are."""
    products = [n for n in nodes if n.op_type in _PRODUCTS]
    return sum(any(i in names for i in n.input) for n in products), len(products)
