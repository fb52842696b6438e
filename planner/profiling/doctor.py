"""A tiny model through every backend that is here, its outputs against ONNX's own definition."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from planner.backends import backend_names
from planner.backends.base import Feed
from planner.profiling.check import Check, check
from planner.profiling.devices import in_parallel

TOLERANCE = 1e-3
"""Of the largest output. Float32 stays far below, TF32 (ten bits) below; bfloat16 (seven bits) does not."""
BATCH = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """``error`` is the largest difference from the reference, as a share of the largest reference output;
    None where there were no outputs to compare, for ``check`` says why."""

    check: Check
    error: float | None

    @property
    def agrees(self) -> bool:
        return self.error is not None and self.error <= TOLERANCE

    @property
    def wrong(self) -> bool:
        """It should have run, and failed, or came to other outputs."""
        return self.check.missing is None and not self.agrees


def examine(names: Sequence[str] | None = None) -> tuple[Finding, ...]:
    """Run the model through each backend, all known ones if ``names`` is None."""
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        path = Path(folder) / "doctor.onnx"
        write_model(path)
        x = np.random.default_rng(0).standard_normal((BATCH, 3, 8, 8), dtype=np.float32)
        feed = {"x": x}
        expected = reference(path, feed)
        ask = partial(check, engine=path, feed=feed)
        return tuple(
            Finding(found, difference(found.outputs, expected) if found.can_run else None)
            for found in in_parallel(ask, backend_names() if names is None else names)
        )


def difference(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """The largest, as a share of the largest expected value; infinite where shapes or counts differ, or a
    value is not finite."""
    if [o.shape for o in outputs] != [e.shape for e in expected]:
        return float("inf")
    worst = 0.0
    for output, wanted in zip(outputs, expected, strict=True):
        off = np.abs(output.astype(np.float64) - wanted).max() / np.abs(wanted).max()
        worst = max(worst, float(off)) if np.isfinite(off) else float("inf")
    return worst


def reference(path: Path, feed: Feed) -> list[np.ndarray]:
    """The outputs by ONNX's reference implementation, in plain NumPy."""
    from onnx.reference import ReferenceEvaluator

    outputs: list[np.ndarray] = ReferenceEvaluator(str(path)).run(None, dict(feed))
    return outputs


def write_model(path: Path) -> None:
    """x float32 [N, 3, 8, 8] -> convolution, mean, product -> logits float32 [N, 5], and the means [N, 8]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    weights = {
        "kernel": rng.standard_normal((8, 3, 3, 3), dtype=np.float32) / np.float32(np.sqrt(27)),
        "bias": rng.standard_normal(8, dtype=np.float32),
        "weight": rng.standard_normal((8, 5), dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["convolved"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["convolved"], ["rectified"], "relu"),
        helper.make_node("GlobalAveragePool", ["rectified"], ["averaged"], "pool"),
        helper.make_node("Flatten", ["averaged"], ["pooled"], "flatten"),
        helper.make_node("MatMul", ["pooled", "weight"], ["logits"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "doctor",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5]),
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["N", 8]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    # An opset and a format that every release of the backends reads.
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
