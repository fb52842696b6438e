"""Dynamic int8: weights quantized ahead, the range of activations found at every run. No calibration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from planner.errors import VariantError
from planner.variants.context import Context
from planner.variants.dynamic_products import integer_products
from planner.variants.graph import needs_external_data, nodes_in, write
from planner.variants.int8 import saturates
from planner.variants.preparation import prepare
from planner.variants.session import quiet
from planner.variants.weights import Sink, deliver, external_bytes, skeleton

# From here on weights are quantized one by one; below, nothing is gained over ONNX Runtime's tool.
_LARGE_BYTES = 1 << 28
_INTEGER = ("MatMulInteger", "DynamicQuantizeLSTM", "QAttention")


class Int8Dynamic:
    """Matrix products and LSTMs, also inside control flow.

    Convolutions stay float: ONNX Runtime's ConvInteger takes about twice as long as its float Conv.
    """

    name = "int8-dynamic"
    needs_calibration = False
    backends = frozenset(["onnxruntime"])
    min_compute_capability = None
    evaluate_unoptimized = False

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        narrow = saturates()
        with TemporaryDirectory(dir=target.parent) as folder, quiet():
            prepared = Path(folder) / "prepared.onnx"
            large = external_bytes(onnx.load(source, load_external_data=False)) > _LARGE_BYTES
            notes = prepare(source, prepared, external=True if large else None)
            made = skeleton(prepared)
            if large and not any(_needs_tool(node) for node in made.graph.node):
                sink = Sink(Path(folder) / "integers", external=True)
                integer_products(made, prepared.parent, sink, narrow)
                deliver(made, prepared.parent, target, source)
            else:
                made = _quantized(prepared, prepared.with_name("quantized.onnx"), narrow)
                write(made, target, source)
        counts = Counter(node.op_type for node in nodes_in(made))
        integer = sum(counts[op] for op in _INTEGER)
        if not integer:
            raise VariantError(
                "int8-dynamic: nothing to quantize: no MatMul, Gemm or LSTM with constant weights"
            )
        left = {op: counts[op] for op in ("Conv", "MatMul", "Gemm", "LSTM") if counts[op]}
        notes += (f"{integer} products in int8", *(f"{count} {op} left float" for op, count in left.items()))
        return (*notes, "weights in 7 bits: this CPU has no VNNI and would saturate") if narrow else notes


def _needs_tool(node: onnx.NodeProto) -> bool:
    """Whether only ONNX Runtime's tool quantizes it: it takes more memory, and does more."""
    return node.op_type in ("LSTM", "Attention") or any(a.HasField("g") for a in node.attribute)


def _quantized(prepared: Path, target: Path, narrow: bool) -> onnx.ModelProto:
    float_model = onnx.load(prepared, load_external_data=False)
    quantize_dynamic(
        prepared,
        target,
        op_types_to_quantize=["MatMul", "Gemm", "LSTM", "Attention"],
        per_channel=True,
        reduce_range=narrow,
        weight_type=QuantType.QInt8,
        use_external_data_format=needs_external_data(float_model),
        extra_options={"MatMulConstBOnly": True, "EnableSubgraph": True},
    )
    return onnx.load(target)
