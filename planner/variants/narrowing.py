"""A 16-bit float type written into a graph, numerically unsafe operators kept in float32.

A tensor ``t`` is always the float32 one, ``t.bf16`` (or ``t.fp16``) always the narrow one; a Cast makes
either from the other where a node reads it. Inner graphs (control flow) stay float32.

Pairs of QuantizeLinear and DequantizeLinear turn narrow with the graph, scales included, so that no Cast
tears them from the kernels that they are for; but only where a scale loses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from planner.variants.context import Array
from planner.variants.graph import captured
from planner.variants.opsets import MAIN_DOMAINS, opset_of
from planner.variants.weights import Sink, value

_PRODUCTS = ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")
# They carry a state from step to step, in which 8 bits of precision would pile up their errors.
_RECURRENT = ("GRU", "LSTM", "RNN")
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
    "PRelu", "Pad", "QuantizeLinear", "ReduceMax", "ReduceMin", "Relu", "Resize", "Selu", "Shape", "Sigmoid",
    "Size", "Softmax", "Softplus", "SpaceToDepth", "Split", "Tanh",
])  # fmt: skip
# Every value of these types is one of either narrow type too.
_EXACT_SOURCES = (TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True, slots=True)
class Narrow:
    """A 16-bit float type: ONNX's number and name for it, numpy's type, and its least positive value.

    ``also``: operators that are safe in this type only.
    """

    element: int
    name: str
    dtype: np.dtype[np.generic]
    suffix: str
    least: float
    also: tuple[str, ...] = ()

    def of(self, values: Array) -> Array:
        """The values rounded; what is above 0 stays so, as the 1e-12 that a division is guarded with."""
        rounded = values.astype(self.dtype)
        lost = (rounded == 0) & (values != 0)
        if lost.any():
            rounded[lost] = np.copysign(self.least, values[lost]).astype(self.dtype)
        return np.asarray(rounded)


BFLOAT16 = Narrow(TensorProto.BFLOAT16, "bfloat16", np.dtype(ml_dtypes.bfloat16), ".bf16", 2.0**-126)
FLOAT16 = Narrow(TensorProto.FLOAT16, "float16", np.dtype(np.float16), ".fp16", 2.0**-24, _RECURRENT)


@dataclass(slots=True)
class _Graph:
    """The graph being rewritten: ``types`` of its tensors, and which of them exist in which width."""

    half: Narrow
    types: Mapping[str, int]
    weights: Mapping[str, onnx.TensorProto]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    wide: set[str] = field(default_factory=set)
    narrow: set[str] = field(default_factory=set)

    def is_float(self, name: str) -> bool:
        return bool(self.types.get(name) == TensorProto.FLOAT)

    def as_narrow(self, name: str) -> str:
        made = name + self.half.suffix
        if name not in self.narrow:
            self.narrow.add(name)
            if name not in self.weights:
                cast = helper.make_node("Cast", [name], [made], f"{made}/cast", to=self.half.element)
                self.nodes.append(cast)
        return made

    def as_wide(self, name: str) -> None:
        if name not in self.wide:
            self.wide.add(name)
            if name not in self.weights and name in self.narrow:
                narrow = name + self.half.suffix
                cast = helper.make_node("Cast", [narrow], [name], f"{name}/cast", to=TensorProto.FLOAT)
                self.nodes.append(cast)


def narrowed(
    proto: onnx.ModelProto,
    types: Mapping[str, int],
    half: Narrow,
    sink: Sink,
    folder: Path,
    kept: Collection[str] = (),
) -> tuple[str, ...]:
    """Rewrites ``proto`` (tidied, ``types`` inferred) in place, weights from ``folder``; returns notes.

    Nodes of the names ``kept`` stay float32 in any case.
    """
    graph = proto.graph
    weights = {i.name: i for i in graph.initializer}
    chosen, notes = _Choice(proto, types, half, weights, folder, frozenset(kept)).made()
    state = _Graph(half, types, weights)
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
    return tuple(notes)


def _narrow_node(state: _Graph, node: onnx.NodeProto, opset: int) -> None:
    for i, name in enumerate(node.input):
        if state.is_float(name):
            if i in _narrow_positions(node, opset, state.half, inputs=True):
                node.input[i] = state.as_narrow(name)
            else:
                state.as_wide(name)
    state.nodes.append(node)
    if node.op_type == "Cast":
        node.attribute[0].i = state.half.element
    for i, name in enumerate(node.output):
        if state.is_float(name):
            state.narrow.add(name)
            node.output[i] = name + state.half.suffix


def _replace_weights(graph: onnx.GraphProto, state: _Graph, sink: Sink, folder: Path) -> None:
    kept = []
    for tensor in graph.initializer:
        if tensor.name in state.narrow:
            array = state.half.of(value(tensor, folder))
            kept.append(sink.tensor(tensor.name + state.half.suffix, array))
        if tensor.name not in state.narrow or tensor.name in state.wide:
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which nodes to narrow."""

    proto: onnx.ModelProto
    types: Mapping[str, int]
    half: Narrow
    weights: Mapping[str, onnx.TensorProto]
    folder: Path
    kept: frozenset[str]

    def made(self) -> tuple[set[int], list[str]]:
        """Indices of the nodes, and notes on those of float32 tensors that are not among them."""
        squares = _summed_squares(self.proto.graph)
        chosen: set[int] = set()
        exact: set[str] = set()
        unsafe: Counter[str] = Counter()
        unable: Counter[str] = Counter()
        for index, node in enumerate(self.proto.graph.node):
            if node.name in self.kept or not any(self._is_float(n) for n in (*node.input, *node.output)):
                continue
            if node.op_type in _UNSAFE or index in squares or self._follows(node, exact):
                exact.update(node.output)
                unsafe[node.op_type] += 1
            elif self._can_narrow(node):
                chosen.add(index)
            elif node.op_type != "Cast":
                unable[node.op_type] += 1
        notes = []
        if unsafe:
            notes.append(f"kept in float32 for precision: {_counted(unsafe)}")
        if unable:
            opset = opset_of(self.proto)
            notes.append(
                f"kept in float32, no such operator in {self.half.name} at opset {opset}: {_counted(unable)}"
            )
        return chosen, notes

    def _is_float(self, name: str) -> bool:
        return bool(self.types.get(name) == TensorProto.FLOAT)

    def _follows(self, node: onnx.NodeProto, exact: set[str]) -> bool:
        """A difference with an exact side cancels and stays exact; the rest follows where every side is."""
        sides = [n in exact for n in node.input if self._is_float(n) and n not in self.weights]
        if node.op_type == "Sub":
            return any(sides)
        return node.op_type in _FOLLOWING and bool(sides) and all(sides)

    def _can_narrow(self, node: onnx.NodeProto) -> bool:
        if node.domain not in MAIN_DOMAINS or node.op_type not in (*_NARROW, *self.half.also):
            return False
        if node.op_type == "Cast":
            return self._is_float(node.output[0]) and self.types.get(node.input[0]) in _EXACT_SOURCES
        if any(name and name not in self.types for name in node.input):
            return False
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not self._has_exact_scale(node):
            return False
        opset = opset_of(self.proto)
        floats = {i for i, n in enumerate(node.output) if self._is_float(n)}
        if not floats <= _narrow_positions(node, opset, self.half, inputs=False):
            return False
        read = {i for i, n in enumerate(node.input) if self._is_float(n)}
        return bool(read & _narrow_positions(node, opset, self.half, inputs=True))

    def _has_exact_scale(self, node: onnx.NodeProto) -> bool:
        """Whether the scale loses nothing in the narrow type; else what was quantized with it would shift."""
        tensor = self.weights.get(node.input[1])
        if tensor is None:
            return False
        scale = value(tensor, self.folder)
        with np.errstate(over="ignore"):
            return bool(np.array_equal(scale.astype(self.half.dtype).astype(np.float32), scale))


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {op}" for op, count in sorted(counts.items()))


def _summed_squares(graph: onnx.GraphProto) -> set[int]:
    """Squares that are summed: variances, small differences of such sums."""
    reduced = {n.input[0] for n in graph.node if n.op_type in _REDUCTIONS and n.input}
    return {
        index
        for index, n in enumerate(graph.node)
        if n.op_type == "Mul" and n.input[0] == n.input[1] and n.output[0] in reduced
    }


def _narrow_positions(node: onnx.NodeProto, opset: int, half: Narrow, inputs: bool) -> set[int]:
    """Which inputs or outputs may be of the narrow type, as the operator's definition has it."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return set()
    wanted = f"tensor({half.name})"
    allowed = {c.type_param_str for c in schema.type_constraints if wanted in c.allowed_type_strs}
    formal = [parameter.type_str in allowed for parameter in (schema.inputs if inputs else schema.outputs)]
    actual = node.input if inputs else node.output
    # The last parameter stands for all that follow it (variadic).
    return {i for i in range(len(actual)) if formal and formal[min(i, len(formal) - 1)]}


def narrow_tensors(types: Mapping[str, int], half: Narrow) -> Iterator[str]:
    return (name for name, element in types.items() if element == half.element)


def count_products(nodes: Iterable[onnx.NodeProto], names: set[str]) -> tuple[int, int]:
    """How many convolutions and products read one of ``names``, and how many there are."""
    products = [n for n in nodes if n.op_type in (*_PRODUCTS, *_RECURRENT)]
    return sum(any(i in names for i in n.input) for n in products), len(products)
