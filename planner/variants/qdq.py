"""Symmetric quantize/dequantize pairs as TensorRT reads them: no zero points, no quantized bias.

Data are quantized where an integer (or 8-bit float) kernel reads them, never where it writes them:
TensorRT moves a quantization up through what commutes with it and fuses the rest. In a residual addition
the branch that comes straight from a convolution or product stays as that accumulates it.
Source: NVIDIA, "TensorRT: Working with Quantized Types", sections on Q/DQ placement.

Scales are values of bfloat16, rounded up (0.8 % at most), so that a chain may turn the graph to half
precision, scales included, without shifting what was quantized with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from planner.variants.calibration import Histogram
from planner.variants.context import Array
from planner.variants.placement import MULTIPLY_ACCUMULATE

# Worth 8-bit inputs beside the multiply-accumulates; what else lies between them only moves data.
_ARITHMETIC = ("Add", "AveragePool", "GlobalAveragePool")
_INT8_LEVELS = 127
_LEAST_SCALE = np.float32(2.0**-40)


@dataclass(frozen=True, slots=True)
class Grid:
    """The values a quantized tensor can hold: those of ``dtype`` up to ``limit``, times a scale."""

    dtype: np.dtype[np.generic]
    limit: float

    def quantize(self, values: Array, scale: Array) -> Array:
        """To the nearest value of the grid, ties to even, as QuantizeLinear does."""
        scaled = np.clip(values / scale, -self.limit, self.limit)
        integer = np.issubdtype(self.dtype, np.integer)
        return np.asarray((np.rint(scaled) if integer else scaled).astype(self.dtype))


def bfloat16_above(values: Array) -> NDArray[np.float32]:
    """The least bfloat16 that is no less than each value (0 and above), as float32."""
    bits = np.maximum(np.asarray(values, np.float32), _LEAST_SCALE).view(np.uint32)
    return np.asarray((bits + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)).view(np.float32)


def read_by(graph: onnx.GraphProto, chosen: Sequence[str]) -> dict[str, list[int]]:
    """Which inputs of each ``chosen`` node (by name) to quantize: their activations; weights not counted."""
    weights = {i.name for i in graph.initializer}
    makers = {t: n for n in graph.node for t in n.output}
    uses = Counter(t for n in graph.node for t in n.input)
    found: dict[str, list[int]] = {}
    for node in graph.node:
        if node.name not in chosen:
            continue
        if node.op_type in MULTIPLY_ACCUMULATE:
            found[node.name] = [0]
        elif node.op_type in _ARITHMETIC:
            data = [i for i, t in enumerate(node.input) if t not in weights]
            sums = [i for i in data if _is_sum(makers.get(node.input[i])) and uses[node.input[i]] == 1]
            found[node.name] = [i for i in data if len(data) < 2 or i not in sums[:1]]
    return found


def _is_sum(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type in MULTIPLY_ACCUMULATE


def quantized(
    graph: onnx.GraphProto,
    inputs: Mapping[str, Sequence[int]],
    scales: Mapping[str, float],
    grid: Grid,
) -> None:
    """Puts the pairs into ``graph``, in place: ``inputs`` of nodes by name, with the scale of each tensor.

    Weights of multiply-accumulates are stored on the grid, one scale an output channel.
    """
    weights = {i.name: i for i in graph.initializer}
    done: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for i in inputs.get(node.name, ()):
            tensor = node.input[i]
            if tensor not in done:
                done.add(tensor)
                nodes += _pair(graph, tensor, scales[tensor], grid)
            node.input[i] = _dequantized(tensor)
        if node.name in inputs and node.op_type in MULTIPLY_ACCUMULATE:
            weight, axis = node.input[1], channel_axis(node)
            stem = f"{weight}@{axis}"
            if stem not in done:
                done.add(stem)
                nodes.append(_stored(graph, weights[weight], axis, stem, grid))
            node.input[1] = _dequantized(stem)
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def _dequantized(stem: str) -> str:
    return f"{stem}/dq"


def _pair(graph: onnx.GraphProto, tensor: str, scale: float, grid: Grid) -> list[onnx.NodeProto]:
    parameters = [f"{tensor}/scale", f"{tensor}/zero"]
    graph.initializer.append(numpy_helper.from_array(bfloat16_above(np.array(scale)), parameters[0]))
    graph.initializer.append(numpy_helper.from_array(np.zeros((), grid.dtype), parameters[1]))
    q, dq = f"{tensor}/q", _dequantized(tensor)
    return [
        helper.make_node("QuantizeLinear", [tensor, *parameters], [q], q),
        helper.make_node("DequantizeLinear", [q, *parameters], [dq], dq),
    ]


def _stored(
    graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int, stem: str, grid: Grid
) -> onnx.NodeProto:
    values = numpy_helper.to_array(weight).astype(np.float32)
    others = tuple(a for a in range(values.ndim) if a != axis)
    scale = bfloat16_above(np.abs(values).max(others, keepdims=True) / grid.limit)
    names = [f"{stem}/q", f"{stem}/scale", f"{stem}/zero"]
    arrays = [grid.quantize(values, scale), scale.reshape(-1), np.zeros(scale.size, grid.dtype)]
    graph.initializer.extend(numpy_helper.from_array(a, n) for a, n in zip(arrays, names, strict=True))
    dq = _dequantized(stem)
    return helper.make_node("DequantizeLinear", names, [dq], dq, axis=axis)


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a weight along which its node's output channels lie."""
    if node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute):
        return 0
    return 1


def int8_reach(histogram: Histogram) -> float:
    """The magnitude at which to clip for the least mean squared error on a symmetric 8-bit grid.

    As ``calibration.best_range``, with both ends equally far from 0.
    """
    widest = max(-histogram.low, histogram.high)
    occupied = histogram.counts > 0
    magnitudes, counts = np.abs(histogram.centres()[occupied]), histogram.counts[occupied]

    def error(reach: float) -> float:
        beyond = np.maximum(magnitudes - reach, 0)
        rounding = (reach / _INT8_LEVELS) ** 2 / 12
        return float(np.where(beyond == 0, rounding, beyond**2) @ counts)

    return float(min((widest * s for s in np.linspace(1.0, 0.02, 99)), key=error))


def full_reach(histogram: Histogram) -> float:
    """The largest magnitude seen: a float grid is as fine near 0 however far it reaches."""
    return max(-histogram.low, histogram.high)
