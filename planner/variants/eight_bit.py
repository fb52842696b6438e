"""8-bit integers and floats as TensorRT wants them: symmetric, weights per output channel, biases float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import onnx

from planner.variants.choice import choose, described
from planner.variants.context import Context
from planner.variants.opsets import raised
from planner.variants.placement import MULTIPLY_ACCUMULATE, place
from planner.variants.preparation import prepare
from planner.variants.qdq import E4M3, INT8, Grid, PairWriter, read_by
from planner.variants.reaches import REACHES
from planner.variants.reference import Reference, split
from planner.variants.session import quiet
from planner.variants.static import Fit, Search, calibrated, nothing_to_quantize
from planner.variants.weights import deliver, skeleton

# From here on a scale may be of a 16-bit type, and there are 8-bit floats.
_OPSET = 19
_FP8_CHANNELS = 16

Refuses = Callable[[onnx.NodeProto, onnx.TensorProto], str]
"""Why no kernel takes a node with this weight; empty where one does."""


@dataclass(frozen=True, slots=True)
class EightBit:
    """Where to quantize: ``placement`` and ``qdq``; how far grids reach: ``reaches`` and ``choice``; what
    stays float for the sake of accuracy: ``fallback``.

    The tensors between stay float32; a chain with ``fp16`` or ``bf16`` halves those, scales included.
    """

    name: str
    grid: Grid
    min_compute_capability: tuple[int, int]
    refuses: Refuses
    needs_calibration: ClassVar[bool] = True
    backends: ClassVar[frozenset[str]] = frozenset(["tensorrt", "tensorrt-rtx"])
    # ONNX Runtime would fuse integer pairs into kernels of its own, and its extended optimizations fail on
    # 8-bit floats; as written, the arithmetic is TensorRT's.
    evaluate_unoptimized: ClassVar[bool] = True

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        with TemporaryDirectory(dir=target.parent) as folder, quiet():
            prepared = Path(folder) / "float.onnx"
            notes = prepare(source, prepared, external=True)
            proto, converted = raised(skeleton(prepared), _OPSET, self.name)
            refused = self._refused(proto.graph)
            if not place(proto.graph, refused).nodes:
                raise nothing_to_quantize(self.name, proto.graph, next(iter(refused.values()), ""))
            best, more = self._search(proto, frozenset(refused), prepared, source, context)
            deliver(skeleton(best), best.parent, target, source)
        left = place(proto.graph).left_float
        reasons = Counter(refused.values())
        return (*notes, *converted, *more, *left, *(f"{n} left float: {r}" for r, n in reasons.items()))

    def _refused(self, graph: onnx.GraphProto) -> dict[str, str]:
        """Multiply-accumulates that could be quantized, were there a kernel, with the reason."""
        weights = {i.name: i for i in graph.initializer}
        chosen = set(place(graph).nodes)
        why = {
            node.name: self.refuses(node, weights[node.input[1]])
            for node in graph.node
            if node.name in chosen and node.op_type in MULTIPLY_ACCUMULATE
        }
        return {name: reason for name, reason in why.items() if reason}

    def _search(
        self, proto: onnx.ModelProto, refused: frozenset[str], prepared: Path, source: Path, context: Context
    ) -> tuple[Path, tuple[str, ...]]:
        graph, scratch = proto.graph, prepared.parent
        inputs = read_by(graph, place(graph, refused).nodes)
        tensors = {n.input[i] for n in graph.node for i in inputs.get(n.name, ())}
        to_calibrate, to_measure = split(context)
        calibration = calibrated(self.name, proto, sorted(tensors), to_calibrate, scratch)
        layers = {name: macs for name, macs in calibration.macs.items() if name in inputs}
        reference = Reference.of(prepared, to_measure, optimized=False)
        writer = PairWriter(proto, scratch, self.grid)
        scales = {
            method: {t: reach(h) / self.grid.limit for t, h in calibration.histograms.items()}
            for method, reach in REACHES[self.grid].items()
        }

        def write_one(kept_float: frozenset[str], scales: Mapping[str, float], rounded: bool = True) -> Path:
            read = read_by(graph, place(graph, refused | kept_float).nodes)
            return writer.write(read, scales, scratch / "candidate.onnx", rounded)

        def fit(kept_float: frozenset[str]) -> Fit:
            method, errors = choose(scales, lambda m: write_one(kept_float, scales[m]), reference)
            note = described(method, errors, len(reference.feeds))
            return Fit(
                lambda kept: write_one(kept, scales[method]),
                lambda kept: write_one(kept, scales[method], rounded=False),
                (note,),
            )

        search = Search(layers, sum(calibration.macs.values()), fit, reference, context, source)
        return search.best(self.grid.dtype.name)


def _no_fp8_kernel(node: onnx.NodeProto, weight: onnx.TensorProto) -> str:
    """Convolutions only where tensor cores take their channels."""
    if node.op_type == "ConvTranspose":
        return "ConvTranspose has no 8-bit float kernel"
    if node.op_type != "Conv":
        return ""
    out, per_group = weight.dims[:2]
    if _group(node) > 1 or out % _FP8_CHANNELS or per_group % _FP8_CHANNELS:
        return f"Conv in groups, or whose channels are no multiple of {_FP8_CHANNELS}"
    return ""


def _no_int8_kernel(node: onnx.NodeProto, weight: onnx.TensorProto) -> str:
    if node.op_type == "ConvTranspose" and _group(node) > 1:
        return "ConvTranspose in groups, whose output channels are no axis of its weights"
    return ""


def _group(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


# Ada, Hopper and newer.
FP8 = EightBit("fp8", E4M3, (8, 9), _no_fp8_kernel)
# The first with integer tensor cores that TensorRT 10 still supports.
INT8_TENSORRT = EightBit("int8-tensorrt", INT8, (7, 5), _no_int8_kernel)
