"""8-bit floats (E4M3, 4 bits of exponent and 3 of mantissa): int8's speed without its narrow range.

Source of the format: Micikevicius et al., "FP8 formats for deep learning", 2022; largest value 448.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx

from planner.variants.context import Context
from planner.variants.eight_bit import eight_bit
from planner.variants.qdq import Grid, full_reach

E4M3 = Grid(np.dtype(ml_dtypes.float8_e4m3fn), 448)
_CHANNELS = 16


class Fp8:
    """Ada, Hopper and newer. Convolutions only where tensor cores take their channels: multiples of 16."""

    name = "fp8"
    needs_calibration = True
    backends = frozenset(["tensorrt", "tensorrt-rtx"])
    min_compute_capability = (8, 9)
    # ONNX Runtime's extended optimizations know no 8-bit floats and fail on them.
    evaluate_unoptimized = True

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        return eight_bit(self.name, source, target, context, E4M3, full_reach, _refuses)


def _refuses(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> str:
    if node.op_type == "ConvTranspose":
        return "ConvTranspose has no 8-bit float kernel"
    if node.op_type != "Conv":
        return ""
    out, per_group = weights[node.input[1]].dims[:2]
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    if group > 1 or out % _CHANNELS or per_group % _CHANNELS:
        return f"Conv in groups, or whose channels are no multiple of {_CHANNELS}"
    return ""
