"""Which recipes are worth trying, from what a model is made of and what the fleet can run.

The rules are simple on purpose; what a recipe costs and gains is measured, not guessed here:

- fp32 always. Nothing else without a convolution or product of constant weights, nor for a model that is
  quantized already.
- 16-bit floats where a GPU or OpenVINO computes in them: ONNX Runtime on a CPU does not.
- int8 (and fp8 from Ada on) wherever there is a convolution or product; dynamic int8 only for products
  and LSTMs.
- int4 where large matrices hold at least half of the weights: such a model waits for its weights.
- 2:4 sparsity and low rank where a layer has 256 channels on both sides: below they rarely gain.
- prune-30, alone and with int8, where one layer follows another, so that there is something between them.
- For TensorRT, whatever is not 16 bits yet is in the widest half type: bfloat16, or float16 before Ampere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx

from planner.domain.model import Model
from planner.domain.variant import BASELINE_RECIPE
from planner.variants.context import Recipe
from planner.variants.recipes import recipe

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_DYNAMIC = ("Gemm", "LSTM", "MatMul")
_QUANTIZED = ("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear", "com.microsoft.MatMulNBits")
_LARGE_MATRIX = 1 << 18
_WIDE = 256
_ON_GPU = frozenset(["tensorrt", "tensorrt-rtx"])
_AMPERE = (8, 0)

Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Makeup:
    """What the rules look at; weights are counted, not read."""

    layers: int
    """Convolutions and products whose weights are constant."""
    dynamic: bool
    wide: bool
    matrices: float
    """Share of all weights that large matrices of products hold."""
    quantized: bool


def auto_recipes(
    model: Model, backends: Iterable[str], compute_capabilities: Iterable[Capability]
) -> tuple[str, ...]:
    """Names for ``recipe``, the baseline first.

    ``compute_capabilities`` are those of the fleet's NVIDIA GPUs, (8, 9) for instance; none without.
    """
    available, capabilities = frozenset(backends), tuple(compute_capabilities)
    half = "bf16" if all(c >= _AMPERE for c in capabilities) else "fp16"
    wanted = dict.fromkeys(_worth(_makeup(model), half))
    return (BASELINE_RECIPE, *(name for name in wanted if _runs(name, recipe(name), available, capabilities)))


def _worth(makeup: Makeup, half: str) -> Iterator[str]:
    if not makeup.layers or makeup.quantized:
        return
    yield from ("fp16", "bf16", "int8")
    if makeup.dynamic:
        yield "int8-dynamic"
    yield from (f"int8-tensorrt+{half}", "fp8+bf16")
    if makeup.matrices >= 0.5:
        yield from ("int4", "int4-tensorrt+bf16")
    if makeup.wide:
        yield from ("sparse-2:4+bf16", "lowrank-25")
    if makeup.layers > 1:
        yield from ("prune-30", "prune-30+int8", f"prune-30+int8-tensorrt+{half}")


def _runs(name: str, chosen: Recipe, backends: frozenset[str], capabilities: tuple[Capability, ...]) -> bool:
    """Whether some backend of the fleet runs the recipe, and gains by it."""
    usable = chosen.backends & backends
    least = chosen.min_compute_capability or (0, 0)
    has_gpu = any(c >= least for c in capabilities)
    if name in ("fp16", "bf16"):
        return "openvino" in usable or (has_gpu and bool(usable))
    return bool(usable - _ON_GPU) or (has_gpu and bool(usable))


def _makeup(model: Model) -> Makeup:
    operators = dict(model.operators)
    graph = onnx.load(model.path, load_external_data=False).graph
    weights = {i.name: tuple(i.dims) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            weights[node.output[0]] = tuple(node.attribute[0].t.dims)
    layers = [n for n in graph.node if n.op_type in _PRODUCTS and n.input[1] in weights]
    matrices = {n.input[1] for n in layers if n.op_type in ("Gemm", "MatMul")}
    large = [math.prod(weights[name]) for name in matrices if math.prod(weights[name]) >= _LARGE_MATRIX]
    return Makeup(
        layers=len(layers),
        dynamic=any(operators.get(op) for op in _DYNAMIC),
        wide=any(min(weights[n.input[1]][:2], default=0) >= _WIDE for n in layers),
        matrices=sum(large) / max(sum(math.prod(shape) for shape in weights.values()), 1),
        quantized=any(operators.get(op) for op in _QUANTIZED),
    )
