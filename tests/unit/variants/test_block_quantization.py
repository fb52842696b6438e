"""int4 in blocks: against brute force, against NumPy, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import network_models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sessions import run

from planner.errors import VariantError
from planner.variants import Context, recipe
from planner.variants.blocks import asymmetric, packed, symmetric
from planner.variants.weights import skeleton, value

NOTHING = Context((), None)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gemm_and_product(path: Path, inputs: int = 96) -> Path:
    """x [N, inputs] through a Gemm (transposed, with bias), then two MatMuls that share a weight."""
    weights = {"a": normal(64, inputs), "b": normal(64), "c": normal(64, 64, seed=1)}
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"], transB=1),
        helper.make_node("MatMul", ["h", "c"], ["i"]),
        helper.make_node("MatMul", ["i", "c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("quantize", "levels"), [(symmetric, (-8, 7)), (asymmetric, (0, 15))])
def test_blocks_round_to_their_grid_and_beat_the_plain_scale(quantize, levels) -> None:
    weight = np.exp(normal(100, 8)) * np.sign(normal(100, 8, seed=1))  # heavy tails; 100 is not 4 * 32
    blocks = quantize(weight, 32)
    assert blocks.codes.shape == (100, 8) and blocks.scales.shape == blocks.zeros.shape == (4, 8)
    assert levels[0] <= blocks.codes.min() and blocks.codes.max() <= levels[1]
    made = blocks.values()
    for i in range(4):
        for j in range(8):
            rows = slice(32 * i, min(32 * i + 32, 100))
            grid = (np.arange(levels[0], levels[1] + 1) - int(blocks.zeros[i, j])) * blocks.scales[i, j]
            nearest = grid[np.abs(weight[rows, j, None] - grid).argmin(1)]
            assert made[rows, j] == pytest.approx(nearest, abs=1e-6)  # the codes are the best for their scale
    plain = np.abs(np.pad(weight, ((0, 28), (0, 0)))).reshape(4, 32, 8).max(1) / 7
    scales = np.repeat(plain, 32, 0)[:100]
    by_largest = np.clip(np.rint(weight / scales), -8, 7) * scales
    assert np.square(made - weight).sum() < 0.95 * np.square(by_largest - weight).sum()


def test_scales_are_values_of_bfloat16() -> None:
    scales = symmetric(normal(128, 16), 64).scales
    assert np.array_equal(scales.astype(ml_dtypes.bfloat16).astype(np.float32), scales)


def test_a_block_of_zeros_stays_zero() -> None:
    for quantize in (symmetric, asymmetric):
        blocks = quantize(np.zeros((32, 2), np.float32), 32)
        assert np.isfinite(blocks.scales).all() and not blocks.values().any()


def test_two_codes_a_byte() -> None:
    assert packed(np.array([[1, 15, 0, 8]], np.int8)).tolist() == [[0xF1, 0x80]]


def test_onnx_runtime_reads_what_was_packed(tmp_path: Path) -> None:
    """With float arithmetic the kernel must give what NumPy gives on the dequantized weights."""
    source = gemm_and_product(tmp_path / "m.onnx", inputs=80)  # the last block of 32 is not full
    target = tmp_path / "out.onnx"
    notes = recipe("int4").apply(source, target, NOTHING)
    assert notes == ("weights of 3 products in 4 bits",)
    proto = onnx.load(target)
    assert [n.op_type for n in proto.graph.node] == ["MatMulNBits", "Add", "MatMulNBits", "MatMulNBits"]
    assert {t.name for t in proto.graph.initializer} >= {"b"} and "a" not in proto.graph.initializer
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1  # float32
    onnx.save(proto, target)
    x = normal(5, 80, seed=3)
    a, b, c = normal(64, 80), normal(64), normal(64, 64, seed=1)
    a, c = asymmetric(a.T, 32).values(), asymmetric(c, 32).values()
    assert run(target, x) == pytest.approx((x @ a + b) @ c @ c, rel=1e-3, abs=1e-2)


def test_blocked_dequantize_for_tensorrt(tmp_path: Path) -> None:
    source = gemm_and_product(tmp_path / "m.onnx")
    target = tmp_path / "out.onnx"
    notes = recipe("int4-tensorrt").apply(source, target, NOTHING)
    assert notes == ("converted from opset 17 to 21", "weights of 3 products in 4 bits")
    graph = onnx.load(target).graph
    sizes = {n.input[0]: n.attribute[1].i for n in graph.node if n.op_type == "DequantizeLinear"}
    assert sizes == {"a/t/q": 32, "c/n/q": 64}  # the largest that divides 96 and 64
    assert {t.data_type for t in graph.initializer if t.name in sizes} == {TensorProto.INT4}
    x = normal(5, 96, seed=3)
    a, c = symmetric(normal(64, 96).T, 32).values(), symmetric(normal(64, 64, seed=1), 64).values()
    expected = (x @ a + normal(64)) @ c @ c
    assert run(target, x, optimized=False) == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_what_is_left_alone_is_said(tmp_path: Path) -> None:
    source = network_models.transformer(tmp_path / "m.onnx")
    notes = recipe("int4").apply(source, tmp_path / "out.onnx", NOTHING)
    assert notes[0] == "weights of 12 products in 4 bits"
    assert set(notes[1:]) == {
        "4 left float: MatMul of two activations",
        "1 left float: Gemm with few weights",
    }
    with pytest.raises(VariantError, match="int4: nothing to quantize: no MatMul or Gemm"):
        recipe("int4").apply(network_models.residual(tmp_path / "r.onnx"), tmp_path / "no.onnx", NOTHING)
    source = gemm_and_product(tmp_path / "odd.onnx", inputs=100)
    notes = recipe("int4-tensorrt").apply(source, tmp_path / "odd-out.onnx", NOTHING)
    assert "1 left float: Gemm whose inputs do not divide into blocks of 32" in notes


def test_constants_as_nodes_are_weights_too(tmp_path: Path) -> None:
    proto = onnx.load(gemm_and_product(tmp_path / "m.onnx"))
    tensors = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*constants, *nodes])
    onnx.save(proto, tmp_path / "constants.onnx")
    notes = recipe("int4").apply(tmp_path / "constants.onnx", tmp_path / "out.onnx", NOTHING)
    assert notes == ("weights of 3 products in 4 bits",)


def test_small_external_tensors_are_read_and_large_ones_are_not(tmp_path: Path) -> None:
    source = external(gemm_and_product(tmp_path / "m.onnx"), tmp_path / "external.onnx")
    proto = skeleton(source)
    kinds = {t.name: t.data_location for t in proto.graph.initializer}
    assert kinds == {"a": TensorProto.EXTERNAL, "b": TensorProto.DEFAULT, "c": TensorProto.EXTERNAL}
    a = next(t for t in proto.graph.initializer if t.name == "a")
    assert np.array_equal(value(a, tmp_path), normal(64, 96)) and not a.raw_data


@pytest.mark.parametrize("name", ["int4", "int4-tensorrt", "bf16"])
def test_external_data_stay_external(tmp_path: Path, name: str) -> None:
    plain = gemm_and_product(tmp_path / "m.onnx", inputs=320)
    source = external(plain, tmp_path / "external.onnx")
    before = source.read_bytes()
    for path, folder in ((plain, "one"), (source, "two")):
        (tmp_path / folder).mkdir()
        recipe(name).apply(path, tmp_path / folder / "model.onnx", NOTHING)
    assert source.read_bytes() == before
    files = {p.name for p in (tmp_path / "two").iterdir()}
    assert files == {"model.onnx", "model.onnx.weights"}
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["model.onnx"]
    one, two = (onnx.load(tmp_path / folder / "model.onnx").graph for folder in ("one", "two"))
    assert {t.name: numpy_helper.to_array(t).tobytes() for t in one.initializer} == {
        t.name: numpy_helper.to_array(t).tobytes() for t in two.initializer
    }


def external(source: Path, target: Path) -> Path:
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(source), target, **options)
    return target
