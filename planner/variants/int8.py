"""Static int8 for ONNX Runtime's CPU kernels: ranges fixed by calibration, in QDQ form."""

from __future__ import annotations

import platform
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from planner.errors import VariantError
from planner.variants.calibration import Calibration, calibrate
from planner.variants.context import Context, single_feeds
from planner.variants.graph import prepare, write
from planner.variants.placement import BETWEEN, MULTIPLY_ACCUMULATE, Placement, place
from planner.variants.session import quiet

_CPU_INFO = Path("/proc/cpuinfo")


class Int8:
    """Activations uint8 with a zero point, weights int8 per output channel: the pair with the fastest
    kernels (U8S8). Where to quantize: ``placement``; ranges: ``calibration``.
    """

    name = "int8"
    needs_calibration = True

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        if not context.calibration:
            raise VariantError(f"{self.name}: needs calibration samples; name them in the spec")
        with TemporaryDirectory(dir=target.parent) as folder, quiet():
            scratch = Path(folder)
            notes = prepare(source, scratch / "prepared.onnx")
            proto = onnx.load(scratch / "prepared.onnx")
            placement = place(proto.graph)
            if not placement.nodes:
                raise VariantError(_nothing_to_quantize(proto))
            feeds = single_feeds(context.inputs, context.calibration)
            calibration = calibrate(proto, placement.tensors, feeds, scratch)
            narrow = saturates()
            write(_quantize(proto, placement, calibration, narrow), target, source)
        share = sum(calibration.macs.get(n, 0) for n in placement.nodes) / max(
            sum(calibration.macs.values()), 1
        )
        notes += (
            f"{share:.0%} of the multiply-accumulates of convolutions and products in int8",
            *placement.left_float,
        )
        return (*notes, "weights in 7 bits: this CPU has no VNNI and would saturate") if narrow else notes


def _nothing_to_quantize(proto: onnx.ModelProto) -> str:
    operators = sorted({n.op_type for n in proto.graph.node})
    return (
        "int8: nothing to quantize: no Conv, MatMul or Gemm with constant float32 weights "
        f"outside control flow (there are {', '.join(operators) or 'no nodes'})"
    )


def _quantize(
    proto: onnx.ModelProto, placement: Placement, calibration: Calibration, narrow: bool
) -> onnx.ModelProto:
    ranges = {t: tuple(np.array(end, np.float32) for end in r) for t, r in calibration.ranges.items()}
    quantizer = QDQQuantizer(
        proto,
        per_channel=True,
        reduce_range=narrow,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=list(placement.nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=[*MULTIPLY_ACCUMULATE, *BETWEEN],
        extra_options={"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    return quantizer.model.model


def saturates() -> bool:
    """Whether products of uint8 and int8 overflow 16 bits here: x86 before VNNI adds them in pairs.

    Source: ONNX Runtime, "Quantize ONNX models", on U8S8 and reduce_range.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not _CPU_INFO.is_file():
        return False
    flags = _CPU_INFO.read_text(errors="replace")
    return not any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
