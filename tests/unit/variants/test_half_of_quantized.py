"""Chains that end in half precision: what is quantized stays next to its kernels, accuracy what it was."""

from __future__ import annotations

from pathlib import Path

import network_models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sessions import run

from planner.domain.variant import Variant
from planner.errors import VariantError
from planner.variants import Context, bind, evaluation_of, make_variant, read_model, recipe
from planner.variants.opsets import element_types

Array = np.ndarray
HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def evaluated(variant: Variant, x: Array) -> Array:
    how = evaluation_of(variant)
    return run(how.path, x, how.optimized)


def images(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, 3, 16, 16)).astype(np.float32)


def tokens(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 100, (count, 12))


def all_of_it(path: Path, optimized: bool = True) -> float:
    """A judge that nothing disappoints, so that every layer is quantized."""
    return 0.0


def network(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.onnx"
    if kind == "residual":
        return network_models.residual(path)
    return network_models.transformer(path, layers=1)


CHAINS = [
    *(("residual", n) for n in ("fp8+fp16", "int8-tensorrt+fp16", "fp8+bf16", "int8-tensorrt+bf16")),
    *(("residual", n) for n in ("sparse-2:4+fp16", "prune-30+fp16", "sparse-2:4+fp8+fp16")),
    *(("transformer", n) for n in ("fp8+fp16", "int8-tensorrt+fp16", "int4-tensorrt+fp16", "fp8+bf16")),
    *(("transformer", n) for n in ("sparse-2:4+fp16", "prune-30+fp16")),
]


@pytest.mark.parametrize(("kind", "name"), CHAINS)
def test_half_precision_costs_next_to_nothing(tmp_path: Path, kind: str, name: str) -> None:
    source, draw = network(kind, tmp_path), images if kind == "residual" else tokens
    model = read_model(source)
    used = Context(bind(model, {"N": "batch"}), {"x": draw(24)}, judge=all_of_it)
    first, _, half = name.rpartition("+")
    before, after = (make_variant(model, n, used, tmp_path) for n in (first, name))
    x = draw(64, 1)
    expected = run(source, x)

    def off(variant: Variant) -> float:
        return float(np.sqrt(np.square(evaluated(variant, x) - expected).mean()) / expected.std())

    assert off(after) < 1.2 * off(before) + (0.002 if half == "fp16" else 0.015)
    assert after.size_bytes < before.size_bytes
    assert evaluation_of(after).emulated == (half == "bf16")
    types = element_types(onnx.load(after.path))
    graph = onnx.load(after.path).graph
    products = [n for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    assert products and all(types[n.input[0]] == HALF[half] for n in products)


@pytest.mark.parametrize("half", ["fp16", "bf16"])
@pytest.mark.parametrize("first", ["int8-tensorrt", "fp8"])
def test_no_cast_tears_pairs_from_their_kernels(tmp_path: Path, first: str, half: str) -> None:
    """Their scales turn narrow, losing nothing."""
    source = network("residual", tmp_path)
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": images(16)}, judge=all_of_it)
    made = tmp_path / "model.onnx"
    recipe(f"{first}+{half}").apply(source, made, used)
    proto = onnx.load(made)
    types = element_types(proto)
    makers = {t: n for n in proto.graph.node for t in n.output}
    pairs = 0
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert {types[t] for t in node.input} == {HALF[half]}
            quantized = [makers[t] for t in node.input[:2] if t in makers]
            pairs += sum(n.op_type == "DequantizeLinear" for n in quantized)
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert types[node.input[1]] == HALF[half]
    assert pairs >= 8
    assert sum(n.op_type == "Cast" for n in proto.graph.node) == 2  # the model's input and its output


def saved(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Array]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16])],
        [numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def square(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((16, 16)) / 4


def test_constants_that_half_precision_lacks(tmp_path: Path) -> None:
    """A mask of -1e9 that no sample shows stays float32; the 1e-12 that guards a division stays above 0."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Less", ["x", "never"], ["hidden"], "compare"),
        helper.make_node("Cast", ["hidden"], ["flags"], "flags", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["flags", "huge"], ["mask"], "mask"),
        helper.make_node("Add", ["h", "mask"], ["scores"], "masked"),
        helper.make_node("Softmax", ["scores"], ["p"], "softmax", axis=-1),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Max", ["r", "tiny"], ["guard"], "guard"),
        helper.make_node("Div", ["r", "guard"], ["unit"], "divide"),
        helper.make_node("Add", ["p", "unit"], ["y"], "sum"),
    ]
    weights = {"w": square(0), "never": np.array(-90.0), "huge": np.array(-1e9), "tiny": np.array(1e-12)}
    source = saved(tmp_path / "m.onnx", nodes, weights)
    made = tmp_path / "model.onnx"
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": np.float32(square(1))})
    notes = recipe("fp16").apply(source, made, used)
    assert "2 nodes with values above 32752 kept in float32" in notes
    x = np.float32(square(2))
    x[3, 5] = -100
    got = run(made, x)
    assert np.isfinite(got).all() and got == pytest.approx(run(source, x), abs=0.01)


def test_recurrent_layers_turn_half(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["steps"], "steps"),
        helper.make_node("LSTM", ["steps", "w", "r", "b"], ["all"], "lstm", hidden_size=16),
        helper.make_node("Reshape", ["all", "shape"], ["y"], "rows"),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((1, 64, 16)) / 4,
        "r": rng.standard_normal((1, 64, 16)) / 4,
        "b": rng.standard_normal((1, 128)) / 4,
    }
    source = saved(tmp_path / "m.onnx", nodes, weights)
    proto = onnx.load(source)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1, 16]), "shape"))
    onnx.save(proto, source)
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": np.float32(square(1))})
    notes = recipe("fp16").apply(source, tmp_path / "half.onnx", used)
    assert notes == ("1 of 1 convolutions and products in float16",)
    assert run(tmp_path / "half.onnx", np.float32(square(2))) == pytest.approx(
        run(source, np.float32(square(2))), abs=0.01
    )
    with pytest.raises(VariantError, match="bf16: nothing to do"):
        recipe("bf16").apply(source, tmp_path / "wide.onnx", used)
