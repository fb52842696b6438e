"""What the two 8-bit presets for TensorRT share: prepare, choose, calibrate, insert pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from planner.errors import VariantError
from planner.variants.calibration import Histogram
from planner.variants.context import Array, Context, single_feeds
from planner.variants.graph import write
from planner.variants.observe import observed
from planner.variants.opsets import raised
from planner.variants.placement import MULTIPLY_ACCUMULATE, place
from planner.variants.preparation import prepare
from planner.variants.pruning.normalize import drop_unused_initializers
from planner.variants.qdq import Grid, quantized, read_by
from planner.variants.session import quiet

# From here on a scale may be of a 16-bit type, and there are 8-bit floats.
_OPSET = 19

Refuses = Callable[[onnx.NodeProto, Mapping[str, onnx.TensorProto]], str]


def eight_bit(
    name: str,
    source: Path,
    target: Path,
    context: Context,
    grid: Grid,
    reach: Callable[[Histogram], float],
    refuses: Refuses,
) -> tuple[str, ...]:
    """``reach``: the magnitude of a tensor that the grid ends at. ``refuses``: why no kernel takes a node."""
    if not context.calibration:
        raise VariantError(f"{name}: needs calibration samples; name them in the spec")
    with TemporaryDirectory(dir=target.parent) as folder, quiet():
        scratch = Path(folder)
        notes = prepare(source, scratch / "prepared.onnx")
        proto, converted = raised(onnx.load(scratch / "prepared.onnx"), _OPSET, name)
        graph = proto.graph
        placement = place(graph)
        weights = {i.name: i for i in graph.initializer}
        why = {n.name: refuses(n, weights) for n in graph.node if n.name in placement.nodes}
        reasons = [reason for reason in why.values() if reason]
        chosen = [name for name, reason in why.items() if not reason]
        products = [n for n in graph.node if n.op_type in MULTIPLY_ACCUMULATE]
        count = sum(n.name in chosen for n in products)
        if not count:
            raise VariantError(_nothing(name, graph, reasons))
        inputs = read_by(graph, chosen)
        tensors = {n.input[i] for n in graph.node for i in inputs.get(n.name, ())}
        histograms = {t: Histogram() for t in sorted(tensors)}
        for values in observed(
            proto, list(histograms), single_feeds(context.inputs, context.calibration), scratch
        ):
            for tensor, histogram in histograms.items():
                _add(name, histogram, tensor, values[tensor])
        scales = {t: reach(h) / grid.limit for t, h in histograms.items()}
        quantized(graph, inputs, scales, grid)
        drop_unused_initializers(graph)
        write(proto, target, source)
    notes += (*converted, f"{count} of {len(products)} convolutions and products in {grid.dtype.name}")
    left = tuple(f"{reasons.count(r)} left float: {r}" for r in dict.fromkeys(reasons))
    return (*notes, *placement.left_float, *left)


def _add(name: str, histogram: Histogram, tensor: str, values: Array) -> None:
    try:
        histogram.add(values)
    except ValueError:
        raise VariantError(f"{name}: tensor {tensor} is not finite on the calibration samples") from None


def _nothing(name: str, graph: onnx.GraphProto, reasons: list[str]) -> str:
    if reasons:
        return f"{name}: nothing to quantize: {reasons[0]}"
    operators = ", ".join(sorted({n.op_type for n in graph.node})) or "no nodes"
    return (
        f"{name}: nothing to quantize: no Conv, MatMul or Gemm with constant float32 weights "
        f"outside control flow (there are {operators})"
    )
