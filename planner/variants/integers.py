"""Quantize/dequantize pairs as ONNX Runtime's CPU kernels (and OpenVINO) read them.

Activations uint8 with a zero point, weights int8 per output channel, biases int32 at the scale of the sums.
ONNX Runtime turns a node into an integer kernel where pairs surround it, so every tensor of the placement
carries one; nodes that only move data, and ReLUs that a range already clips, take no part in the arithmetic.
Source: ONNX Runtime, "Quantize ONNX models"; ONNX, QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from planner.variants.calibration import Range
from planner.variants.context import Array
from planner.variants.graph import captured, save_with
from planner.variants.placement import FOLDED, MULTIPLY_ACCUMULATE, Placement, activations
from planner.variants.qdq import channel_axis
from planner.variants.weights import Sink, value

# What they hand on is what they took: the same scale on both sides, so that they can move integers.
_MOVES = ("Flatten", "MaxPool", "Reshape", "Resize", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_LEVELS = 255
_WEIGHT_LIMIT, _NARROW_WEIGHT_LIMIT = 127, 63
_LARGEST_BIAS = 2.0**30
_LEAST_SCALE = np.float32(2.0**-100)


@dataclass(frozen=True, slots=True)
class Affine:
    """An integer q stands for ``(q - zero) * scale``."""

    scale: np.float32
    zero: int

    def rounded(self, values: Array) -> Array:
        """The values as they come back from uint8."""
        q = np.clip(np.rint(values / self.scale) + self.zero, 0, _LEVELS)
        return np.asarray((q - self.zero) * self.scale)


def affine(ends: Range) -> Affine:
    """The 8-bit grid over ``ends``, zero exactly on it."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    scale = max(np.float32((high - low) / _LEVELS), _LEAST_SCALE)
    return Affine(scale, round(min(-low / float(scale), _LEVELS)))


@dataclass(slots=True)
class IntegerWriter:
    """Writes integer versions of ``source``, a skeleton whose external weights lie in ``folder``.

    What it writes goes to ``folder`` too and shares those weights. ``shifts`` are taken off the outputs of
    nodes by way of their biases. ``narrow`` keeps weights to 7 bits. Weights are quantized once.
    """

    source: onnx.ModelProto
    folder: Path
    narrow: bool
    _stored: dict[tuple[str, int], tuple[onnx.TensorProto, NDArray[np.float32]]] = field(default_factory=dict)
    _sink: Sink = field(init=False)

    def __post_init__(self) -> None:
        self._sink = Sink(self.folder / "integers", external=True)

    def write(
        self,
        placement: Placement,
        ranges: Mapping[str, Range],
        path: Path,
        shifts: Mapping[str, Array] | None = None,
    ) -> Path:
        proto = onnx.ModelProto()
        proto.CopyFrom(self.source)
        graph = proto.graph
        if shifts:
            self._shift(graph, {n: s for n, s in shifts.items() if n in placement.nodes})
        chosen = set(placement.nodes)
        paired = set(placement.tensors) - _fold(graph, chosen)
        grids = _grids(graph, chosen, {t: affine(ranges[t]) for t in placement.tensors})
        return save_with(proto, list(self._nodes(graph, chosen, paired, grids)), path)

    def _nodes(
        self, graph: onnx.GraphProto, chosen: set[str], paired: set[str], grids: Mapping[str, Affine]
    ) -> Iterator[onnx.NodeProto]:
        weights = {i.name: i for i in graph.initializer}
        made = {t for n in graph.node if n.name in chosen for t in n.output}
        done: set[str] = set()
        for node in graph.node:
            if node.name not in chosen:
                yield node
                continue
            data = activations(node, weights)
            bias = _bias(node, weights)
            if node.op_type in MULTIPLY_ACCUMULATE:
                yield from self._constants(graph, node, weights, bias, grids[data[0]].scale, done)
            for i, tensor in enumerate(node.input):
                if tensor in data and tensor in paired and tensor not in made:
                    node.input[i] = f"{tensor}/dq"
                    if tensor not in done:
                        done.add(tensor)
                        yield from _pair(graph, tensor, tensor, f"{tensor}/dq", grids[tensor])
                elif tensor in weights and node.op_type in ("Add", "Mul", "Concat"):
                    node.input[i] = f"{tensor}/dq"
                    if tensor not in done:
                        done.add(tensor)
                        yield self._operand(graph, weights[tensor])
            outputs = [t for t in node.output if t in paired]
            for i, tensor in enumerate(node.output):
                if tensor in paired:
                    node.output[i] = f"{tensor}/raw"
            yield node
            for tensor in outputs:
                yield from _pair(graph, tensor, f"{tensor}/raw", tensor, grids[tensor])

    def _constants(
        self,
        graph: onnx.GraphProto,
        node: onnx.NodeProto,
        weights: Mapping[str, onnx.TensorProto],
        bias: onnx.TensorProto | None,
        data_scale: np.float32,
        done: set[str],
    ) -> Iterator[onnx.NodeProto]:
        axis = channel_axis(node)
        stem = f"{node.input[1]}@{axis}"
        q, scale = self._quantized(weights[node.input[1]], axis)
        offset = None if bias is None else value(bias, self.folder).astype(np.float64)
        if offset is not None:
            needed = (np.abs(offset) / (data_scale * _LARGEST_BIAS)).astype(np.float32)
            if (needed > scale).any():  # too large for 32 bits at this scale
                scale = np.maximum(scale, needed)
                stem = f"{stem}@{node.name}"
                again = _on_grid(self._values(weights[node.input[1]]), axis, scale, self._limit)
                q = numpy_helper.from_array(again)
        if stem not in done:
            done.add(stem)
            yield _dequantize(graph, stem, q, scale, axis)
        node.input[1] = f"{stem}/dq"
        if offset is not None:
            sums = data_scale * scale
            stem = f"{node.name}/bias"
            whole = numpy_helper.from_array(np.rint(offset / sums).astype(np.int32))
            yield _dequantize(graph, stem, whole, sums, 0)
            node.input[2] = f"{stem}/dq"

    @property
    def _limit(self) -> int:
        return _NARROW_WEIGHT_LIMIT if self.narrow else _WEIGHT_LIMIT

    def _values(self, weight: onnx.TensorProto) -> Array:
        return value(weight, self.folder).astype(np.float32)

    def _quantized(self, weight: onnx.TensorProto, axis: int) -> tuple[onnx.TensorProto, NDArray[np.float32]]:
        key = (weight.name, axis)
        if key not in self._stored:
            values = self._values(weight)
            others = tuple(a for a in range(values.ndim) if a != axis)
            largest = np.abs(values).max(others, initial=0)
            scale = np.where(largest > 0, np.maximum(largest / self._limit, _LEAST_SCALE), 1)
            scale = scale.astype(np.float32)
            q = _on_grid(values, axis, scale, self._limit)
            self._stored[key] = self._sink.tensor(f"{weight.name}@{axis}/q", q), scale
        return self._stored[key]

    def dequantized(self, node: onnx.NodeProto) -> Array:
        """The weight of a multiply-accumulate as its int8 values stand for."""
        weight = next(i for i in self.source.graph.initializer if i.name == node.input[1])
        axis = channel_axis(node)
        q, scale = self._quantized(weight, axis)
        integers = value(q, self.folder)
        return np.asarray(integers * _along(scale, axis, integers.ndim))

    def _operand(self, graph: onnx.GraphProto, weight: onnx.TensorProto) -> onnx.NodeProto:
        values = self._values(weight)
        grid = affine((float(values.min(initial=0)), float(values.max(initial=0))))
        q = np.clip(np.rint(values / grid.scale) + grid.zero, 0, _LEVELS).astype(np.uint8)
        parameters = _parameters(graph, weight.name, grid)
        graph.initializer.append(numpy_helper.from_array(q, f"{weight.name}/q"))
        dq = f"{weight.name}/dq"
        return helper.make_node("DequantizeLinear", [f"{weight.name}/q", *parameters], [dq], dq)

    def _shift(self, graph: onnx.GraphProto, shifts: Mapping[str, Array]) -> None:
        weights = {i.name: i for i in graph.initializer}
        for node in list(graph.node):
            if node.name not in shifts:
                continue
            target, index = biased_by(graph, node)
            if index is None:
                continue
            name = f"{node.name}/corrected"
            shift = shifts[node.name].astype(np.float32)
            if index < len(target.input) and target.input[index]:
                corrected = value(weights[target.input[index]], self.folder) - shift
                target.input[index] = name
            else:
                corrected = -shift
                target.input.append(name)
            graph.initializer.append(numpy_helper.from_array(corrected.astype(np.float32), name))


def biased_by(graph: onnx.GraphProto, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int | None]:
    """The node that adds a constant to each channel of what ``node`` makes, and which of its inputs that is.

    The node itself; for a MatMul the addition that alone reads it, and None where there is none.
    """
    if node.op_type != "MatMul":
        return node, 2
    weights = {i.name: i for i in graph.initializer}
    readers = [n for n in graph.node if node.output[0] in (*n.input, *captured(n))]
    if len(readers) == 1 and readers[0].op_type == "Add" and weights[node.input[1]].dims:
        channels = weights[node.input[1]].dims[-1]
        for i, tensor in enumerate(readers[0].input):
            dims = weights[tensor].dims if tensor in weights else ()
            if dims and dims[-1] == channels and all(d == 1 for d in dims[:-1]):
                return readers[0], i
    return node, None


def _bias(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> onnx.TensorProto | None:
    if node.op_type in MULTIPLY_ACCUMULATE and len(node.input) > 2 and node.input[2]:
        return weights[node.input[2]]
    return None


def _fold(graph: onnx.GraphProto, chosen: set[str]) -> set[str]:
    """Cuts out the ReLUs and Clips that do no more than the range they write to; returns what they read."""
    weights = {i.name: i for i in graph.initializer}
    producers = {t: n for n in graph.node for t in n.output}
    uses: dict[str, int] = {}
    for node in graph.node:
        for tensor in (*node.input, *captured(node)):
            uses[tensor] = uses.get(tensor, 0) + 1
    outputs = {v.name for v in graph.output}
    folded: set[str] = set()
    for node in list(graph.node):
        tensor = node.input[0] if node.input else ""
        before = producers.get(tensor)
        alone = uses.get(tensor) == 1 and tensor not in outputs
        if (
            node.name in chosen
            and node.op_type in FOLDED
            and alone
            and before is not None
            and before.name in chosen
            and before.op_type not in _MOVES
            and _keeps_zero(node, weights)
        ):
            folded.add(tensor)
            before.output[list(before.output).index(tensor)] = node.output[0]
            producers[node.output[0]] = before
            chosen.discard(node.name)
            graph.node.remove(node)
    return folded


def _keeps_zero(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> bool:
    """A range always holds zero, so it may not stand in for bounds that do not."""
    if node.op_type == "Relu":
        return True
    bounds = [weights.get(t) for t in node.input[1:] if t]
    if any(bound is None for bound in bounds):
        return False
    low, high = (
        float(numpy_helper.to_array(weights[t])) if t else 0.0 for t in [*node.input[1:], "", ""][:2]
    )
    return low <= 0 <= high


def _grids(graph: onnx.GraphProto, chosen: set[str], grids: Mapping[str, Affine]) -> dict[str, Affine]:
    shared = dict(grids)
    for node in graph.node:
        if node.name in chosen and node.op_type in _MOVES:
            shared[node.output[0]] = shared[node.input[0]]
    return shared


def _parameters(graph: onnx.GraphProto, stem: str, grid: Affine) -> list[str]:
    names = [f"{stem}/scale", f"{stem}/zero"]
    graph.initializer.append(numpy_helper.from_array(np.array(grid.scale), names[0]))
    graph.initializer.append(numpy_helper.from_array(np.array(grid.zero, np.uint8), names[1]))
    return names


def _pair(graph: onnx.GraphProto, stem: str, source: str, target: str, grid: Affine) -> list[onnx.NodeProto]:
    parameters = _parameters(graph, stem, grid)
    q = f"{stem}/q"
    return [
        helper.make_node("QuantizeLinear", [source, *parameters], [q], q),
        helper.make_node("DequantizeLinear", [q, *parameters], [target], f"{stem}/dq"),
    ]


def _dequantize(
    graph: onnx.GraphProto, stem: str, q: onnx.TensorProto, scale: NDArray[np.float32], axis: int
) -> onnx.NodeProto:
    names = [f"{stem}/q", f"{stem}/scale", f"{stem}/zero"]
    zero = np.zeros(scale.shape, onnx.helper.tensor_dtype_to_np_dtype(q.data_type))
    graph.initializer.append(q)
    graph.initializer[-1].name = names[0]
    graph.initializer.extend(
        numpy_helper.from_array(a, n) for a, n in zip((scale, zero), names[1:], strict=True)
    )
    return helper.make_node("DequantizeLinear", names, [f"{stem}/dq"], f"{stem}/dq", axis=axis)


def _on_grid(values: Array, axis: int, scale: NDArray[np.float32], limit: int) -> Array:
    scaled = np.rint(values / _along(scale, axis, values.ndim))
    return np.asarray(np.clip(scaled, -limit, limit).astype(np.int8))


def _along(scale: Array, axis: int, rank: int) -> Array:
    return scale.reshape([-1 if a == axis else 1 for a in range(rank)])
