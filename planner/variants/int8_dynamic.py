"""Dynamic int8: weights quantized ahead, the range of activations found at every run. No calibration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from planner.errors import VariantError
from planner.variants.context import Context
from planner.variants.graph import needs_external_data, nodes_in, write
from planner.variants.int8 import saturates
from planner.variants.preparation import prepare
from planner.variants.session import quiet

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
            prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
            notes = prepare(source, prepared)
            float_model = onnx.load(prepared, load_external_data=False)
            quantize_dynamic(
                prepared,
                quantized,
                op_types_to_quantize=["MatMul", "Gemm", "LSTM", "Attention"],
                per_channel=True,
                reduce_range=narrow,
                weight_type=QuantType.QInt8,
                use_external_data_format=needs_external_data(float_model),
                extra_options={"MatMulConstBOnly": True, "EnableSubgraph": True},
            )
            made = onnx.load(quantized)
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
