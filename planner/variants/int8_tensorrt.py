"""Static int8 as TensorRT wants it: symmetric, weights int8 per output channel, biases left float."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from planner.variants.context import Context
from planner.variants.eight_bit import eight_bit
from planner.variants.qdq import Grid, int8_reach

INT8 = Grid(np.dtype(np.int8), 127)


class Int8TensorRT:
    """The tensors between stay float32; ``int8-tensorrt+bf16`` halves those, scales included."""

    name = "int8-tensorrt"
    needs_calibration = True
    backends = frozenset(["tensorrt", "tensorrt-rtx"])
    # The first with integer tensor cores that TensorRT 10 still supports.
    min_compute_capability = (7, 5)
    # ONNX Runtime would fuse the pairs into kernels of its own; as written, the arithmetic is TensorRT's.
    evaluate_unoptimized = True

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        return eight_bit(self.name, source, target, context, INT8, int8_reach, _refuses)


def _refuses(node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]) -> str:
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    if node.op_type == "ConvTranspose" and group > 1:
        return "ConvTranspose in groups, whose output channels are no axis of its weights"
    return ""
