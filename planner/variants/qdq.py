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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from planner.variants.context import Array
from planner.variants.graph import save_with
from planner.variants.placement import MULTIPLY_ACCUMULATE
from planner.variants.weights import Sink, value

# Worth 8-bit inputs beside the multiply-accumulates; what else lies between them only moves data.
_ARITHMETIC = ("Add", "AveragePool", "GlobalAveragePool")
_E4M3_LEAST_EXPONENT, _E4M3_MANTISSA_BITS = -6, 3
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

    def steps(self, magnitudes: Array) -> Array:
        """How far apart the values of the grid lie around ``magnitudes``, at scale 1."""
        if np.issubdtype(self.dtype, np.integer):
            return np.ones_like(magnitudes)
        exponents = np.floor(np.log2(np.maximum(magnitudes, 2.0**_E4M3_LEAST_EXPONENT)))
        return np.asarray(np.exp2(exponents - _E4M3_MANTISSA_BITS))


INT8 = Grid(np.dtype(np.int8), 127)
E4M3 = Grid(np.dtype(ml_dtypes.float8_e4m3fn), 448)
"""4 bits of exponent and 3 of mantissa: int8's speed without its narrow range.

Source: Micikevicius et al., "FP8 formats for deep learning", 2022; largest value 448.
"""


def bfloat16_above(values: Array) -> NDArray[np.float32]:
    """The least bfloat16 that is no less than each value (0 and above), as float32."""
    bits = np.maximum(np.asarray(values, np.float32), _LEAST_SCALE).view(np.uint32)
    return np.asarray((bits + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)).view(np.float32)


def read_by(graph: onnx.GraphProto, chosen: Collection[str]) -> dict[str, list[int]]:
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


@dataclass(frozen=True, slots=True)
class _Stored:
    """A weight on the grid: values, scale and zero point, and as the floats that these stand for."""

    pair: tuple[onnx.TensorProto, ...]
    rounded: onnx.TensorProto


@dataclass(slots=True)
class PairWriter:
    """Writes versions of ``source``, a skeleton whose external weights lie in ``folder``, with pairs.

    What it writes goes to ``folder`` too and shares those weights. Weights of multiply-accumulates are stored
    on the grid, one scale an output channel; each is quantized once, however many versions there are.
    """

    source: onnx.ModelProto
    folder: Path
    grid: Grid
    _stored: dict[str, _Stored] = field(default_factory=dict)
    _sink: Sink = field(init=False)

    def __post_init__(self) -> None:
        self._sink = Sink(self.folder / "pairs", external=True)

    def write(
        self,
        inputs: Mapping[str, Sequence[int]],
        scales: Mapping[str, float],
        path: Path,
        rounded: bool = False,
    ) -> Path:
        """``inputs``: which ones of nodes, by name, to quantize; ``scales`` of the tensors that these are.

        ``rounded``: weights as the floats that their pairs stand for. The outputs are the same; weights need
        not be dequantized at every run.
        """
        proto = onnx.ModelProto()
        proto.CopyFrom(self.source)
        graph = proto.graph
        return save_with(proto, list(self._nodes(graph, inputs, scales, rounded)), path)

    def _nodes(
        self,
        graph: onnx.GraphProto,
        inputs: Mapping[str, Sequence[int]],
        scales: Mapping[str, float],
        rounded: bool,
    ) -> Iterator[onnx.NodeProto]:
        weights = {i.name: i for i in graph.initializer}
        done: set[str] = set()
        for node in graph.node:
            for i in inputs.get(node.name, ()):
                tensor = node.input[i]
                if tensor not in done:
                    done.add(tensor)
                    yield from self._pair(graph, tensor, scales[tensor])
                node.input[i] = _dequantized(tensor)
            if node.name in inputs and node.op_type in MULTIPLY_ACCUMULATE:
                weight, axis = node.input[1], channel_axis(node)
                stem = f"{weight}@{axis}"
                if stem not in done:
                    done.add(stem)
                    stored = self._quantized(weights[weight], axis, stem)
                    if rounded:
                        graph.initializer.append(stored.rounded)
                    else:
                        graph.initializer.extend(stored.pair)
                        names = [tensor.name for tensor in stored.pair]
                        dq = _dequantized(stem)
                        yield helper.make_node("DequantizeLinear", names, [dq], dq, axis=axis)
                node.input[1] = _dequantized(stem)
            yield node

    def _pair(self, graph: onnx.GraphProto, tensor: str, scale: float) -> list[onnx.NodeProto]:
        parameters = [f"{tensor}/scale", f"{tensor}/zero"]
        arrays = [_scale_above(np.array(scale)), np.zeros((), self.grid.dtype)]
        graph.initializer.extend(
            numpy_helper.from_array(a, n) for a, n in zip(arrays, parameters, strict=True)
        )
        q, dq = f"{tensor}/q", _dequantized(tensor)
        return [
            helper.make_node("QuantizeLinear", [tensor, *parameters], [q], q),
            helper.make_node("DequantizeLinear", [q, *parameters], [dq], dq),
        ]

    def _quantized(self, weight: onnx.TensorProto, axis: int, stem: str) -> _Stored:
        if stem not in self._stored:
            values = value(weight, self.folder).astype(np.float32, copy=False)
            others = tuple(a for a in range(values.ndim) if a != axis)
            scale = _scale_above(np.abs(values).max(others, keepdims=True) / self.grid.limit)
            q = self.grid.quantize(values, scale)
            zero = np.zeros(scale.size, self.grid.dtype)
            named = ((f"{stem}/q", q), (f"{stem}/scale", scale.reshape(-1)), (f"{stem}/zero", zero))
            self._stored[stem] = _Stored(
                tuple(self._sink.tensor(name, array) for name, array in named),
                self._sink.tensor(_dequantized(stem), q.astype(np.float32) * scale),
            )
        return self._stored[stem]


def _scale_above(scale: Array) -> NDArray[np.float32]:
    """1 where all that is scaled is 0: half precision cannot hold the least scale."""
    return np.asarray(np.where(scale > 0, bfloat16_above(scale), np.float32(1)))


def _dequantized(stem: str) -> str:
    return f"{stem}/dq"


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a weight along which its node's output channels lie."""
    if node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute):
        return 0
    return 1
