"""Half precision, inputs and outputs kept as they are."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from planner.variants.context import ALL_BACKENDS, Context, random_samples, single_feeds
from planner.variants.graph import captured, name_nodes, save, with_shapes, write
from planner.variants.session import load_session, quiet

# Sums that overflow 65504, and functions whose small or large arguments half precision cannot tell apart.
# Softmax and LayerNormalization are absent: their kernels accumulate in float32.
_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
)  # fmt: skip
# Their float side is float32, or float16 only from opset 19 on.
_QUANTIZATION = ("DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeLinear", "QuantizeLinear")
_UNSAFE = ("Exp", "Log", "LogSoftmax", "LpNormalization", "Pow", "Reciprocal", "Sqrt", *_REDUCTIONS)
_KEPT = {*DEFAULT_OP_BLOCK_LIST, *_UNSAFE, *_QUANTIZATION}
_LARGE = 65504 / 2
_SAMPLES = 16


class Fp16:
    """What half precision would spoil stays float32: operators known for it, squares that are summed, and,
    as far as samples show, nodes whose values come within a factor of two of the largest half.
    """

    name = "fp16"
    needs_calibration = False
    backends = ALL_BACKENDS
    min_compute_capability = None
    evaluate_unoptimized = False

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        proto = onnx.load(source)
        name_nodes(proto.graph)
        names = {n.name for n in proto.graph.node}
        squares = _summed_squares(proto.graph)
        kept = sorted({n.op_type for n in proto.graph.node} & _KEPT)
        with TemporaryDirectory(dir=target.parent) as scratch, quiet():
            typed = with_shapes(proto, Path(scratch))
            large = _large(typed, context, Path(scratch))
            half = convert_float_to_float16(
                typed,
                keep_io_types=True,
                # Done above; the converter's own serializes the model, which protobuf refuses above 2 GiB.
                disable_shape_infer=True,
                op_block_list=sorted(_KEPT),
                node_block_list=sorted({*squares, *large}),
            )
            _straighten(half.graph, names)
            write(half, target, source)
        notes = [f"kept in float32: {', '.join(kept)}"] if kept else []
        notes += [f"{len(squares)} squares before a sum kept in float32"] if squares else []
        notes += [f"{len(large)} nodes with values above {_LARGE:.0f} kept in float32"] if large else []
        return tuple(notes)


def _large(proto: onnx.ModelProto, context: Context, scratch: Path) -> list[str]:
    """Nodes that read or write values above ``_LARGE`` on the first samples.

    ONNX Runtime on a CPU computes most of a float16 graph in float32, so running the result would not tell.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(proto)
    floats = {
        v.name for v in proto.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    floats &= {t for n in proto.graph.node for t in n.output}
    if not floats:
        return []
    watched = sorted(floats)
    for tensor in watched:
        magnitude, peak = f"{tensor}_magnitude", f"{tensor}_peak"
        graph.graph.node.append(onnx.helper.make_node("Abs", [tensor], [magnitude]))
        graph.graph.node.append(onnx.helper.make_node("ReduceMax", [magnitude], [peak], keepdims=0))
        graph.graph.output.append(onnx.ValueInfoProto(name=peak))
    save(graph, scratch / "peaks.onnx")
    session = load_session(scratch / "peaks.onnx")
    samples = context.calibration or random_samples(context.inputs, _SAMPLES, context.seed)
    peaks = [
        session.run([f"{tensor}_peak" for tensor in watched], feed)
        for feed in islice(single_feeds(context.inputs, samples), _SAMPLES)
    ]
    highest = np.max(np.array(peaks, np.float64), axis=0)
    large = {tensor for tensor, peak in zip(watched, highest, strict=True) if not peak <= _LARGE}
    return [n.name for n in proto.graph.node if large & {*n.input, *n.output}]


def _summed_squares(graph: onnx.GraphProto) -> list[str]:
    """Products of a tensor with itself that are summed: variances, which overflow from a value of 256 on."""
    reduced = {n.input[0] for n in graph.node if n.op_type in _REDUCTIONS and n.input}
    return [
        n.name
        for n in graph.node
        if n.op_type == "Mul" and n.input[0] == n.input[1] and n.output[0] in reduced
    ]


def _straighten(graph: onnx.GraphProto, original: set[str]) -> None:
    """Removes casts that the converter puts in twice, and those to half and back between two float32 nodes.

    The former (where a node reads a tensor twice) are invalid; the latter would round, or overflow, just
    what was to be kept in float32. ``original`` are the names of the nodes that were there before.
    """
    seen: set[tuple[str, str]] = set()
    for node in [n for n in graph.node if n.op_type == "Cast"]:
        ends = (node.input[0], node.output[0])
        if ends in seen:
            graph.node.remove(node)
        seen.add(ends)
    casts = {n.output[0]: n for n in graph.node if n.op_type == "Cast"}
    outputs = {value.name for value in graph.output}
    origin: dict[str, str] = {}
    for output, cast in casts.items():
        before = casts.get(cast.input[0])
        if before is None or before.name in original or output in outputs:
            continue
        if _target(cast) == onnx.TensorProto.FLOAT and _target(before) == onnx.TensorProto.FLOAT16:
            origin[output] = before.input[0]
    for node in graph.node:
        node.input[:] = [origin.get(name, name) for name in node.input]
    read = {name for node in graph.node for name in (*node.input, *captured(node))} | outputs
    for node in [n for n in graph.node if n.op_type == "Cast" and n.output[0] not in read]:
        graph.node.remove(node)


def _target(cast: onnx.NodeProto) -> int:
    return next(int(a.i) for a in cast.attribute if a.name == "to")
