"""bfloat16: the range of float32 with 8 bits of precision, so nothing overflows. Inputs and outputs stay."""

from __future__ import annotations

from pathlib import Path

from planner.errors import VariantError
from planner.variants.context import Context
from planner.variants.narrowing import BFLOAT16, count_products, narrow_tensors, narrowed
from planner.variants.opsets import element_types, raised, tidied
from planner.variants.session import quiet
from planner.variants.weights import sink_like, skeleton

# Convolutions and poolings take bfloat16 from here on.
_OPSET = 22


class Bf16:
    """ONNX Runtime's CPU kernels lack it: what judges accuracy there runs ``emulation.emulated``."""

    name = "bf16"
    needs_calibration = False
    backends = frozenset(["openvino", "tensorrt", "tensorrt-rtx"])
    min_compute_capability = (8, 0)
    evaluate_unoptimized = False

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        proto = skeleton(source)
        sink = sink_like(proto, target)
        with quiet():
            try:
                proto, notes = raised(proto, _OPSET, self.name)
            except VariantError as error:
                notes = (str(error).removeprefix(f"{self.name}: "),)
            notes += narrowed(tidied(proto), element_types(proto), BFLOAT16, sink, source.parent)
            types = element_types(proto)
            sink.save(proto, source)
        some, all_ = count_products(proto.graph.node, set(narrow_tensors(types, BFLOAT16)))
        if not some:
            raise VariantError(f"{self.name}: nothing to do: no convolution or product of float32 tensors")
        return (f"{some} of {all_} convolutions and products in bfloat16", *notes)
