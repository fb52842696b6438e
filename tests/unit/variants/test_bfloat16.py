"""bf16: real types in the graph, unsafe operators left, and an emulation that rounds as ml_dtypes does."""

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
from planner.variants.emulation import emulated

NOTHING = Context((), None)
BF16 = ml_dtypes.bfloat16


def rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(BF16).astype(np.float32)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def saved(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], opset: int = 17) -> Path:
    """A graph from x [N, 16] to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def test_the_emulation_rounds_after_every_operator(tmp_path: Path) -> None:
    """Oracle: the same in NumPy with ml_dtypes, which rounds to nearest, ties to even."""
    weights = {"a": normal(16, 24), "b": normal(24, seed=1), "c": normal(24, 8, seed=2)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["i"]),
        helper.make_node("Relu", ["i"], ["j"]),
        helper.make_node("MatMul", ["j", "c"], ["y"]),
    ]
    made = tmp_path / "model.onnx"
    recipe("bf16").apply(saved(tmp_path / "m.onnx", nodes, weights), made, NOTHING)
    assert emulated(made, tmp_path / "evaluation.onnx")
    x = normal(50, 16, seed=3)
    a, b, c = (rounded(w) for w in weights.values())
    expected = rounded(np.maximum(rounded(rounded(rounded(x) @ a) + b), 0) @ c)
    for optimized in (True, False):
        got = run(tmp_path / "evaluation.onnx", x, optimized=optimized)
        assert np.array_equal(got, rounded(got))
        # The order of summation may turn a tie: one step of a bfloat16 apart, and rarely.
        assert np.mean(got == expected) > 0.98 and got == pytest.approx(expected, rel=2**-7, abs=2**-6)


def test_weights_are_stored_in_two_bytes(tmp_path: Path) -> None:
    source = saved(
        tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "a"], ["y"])], {"a": normal(16, 512)}
    )
    notes = recipe("bf16").apply(source, tmp_path / "out.onnx", NOTHING)
    assert notes == ("1 of 1 convolutions and products in bfloat16", "converted from opset 17 to 22")
    (weight,) = onnx.load(tmp_path / "out.onnx").graph.initializer
    assert weight.data_type == TensorProto.BFLOAT16
    assert np.array_equal(numpy_helper.to_array(weight).astype(np.float32), rounded(normal(16, 512)))


@pytest.mark.parametrize("opset", [11, 17])
def test_networks_stay_close_and_keep_their_interface(tmp_path: Path, opset: int) -> None:
    source = network_models.residual(tmp_path / "m.onnx", opset=opset)
    made = tmp_path / "model.onnx"
    notes = recipe("bf16").apply(source, made, NOTHING)
    assert notes[0] == "6 of 6 convolutions and products in bfloat16"
    onnx.checker.check_model(str(made), full_check=True)
    before, after = onnx.load(source).graph, onnx.load(made).graph
    assert (list(before.input), list(before.output)) == (list(after.input), list(after.output))
    kinds = {n.op_type for n in after.node}
    assert sum(n.op_type == "Cast" for n in after.node) == 2 and "BatchNormalization" in kinds
    x = normal(16, 3, 16, 16)
    assert emulated(made, tmp_path / "evaluation.onnx")
    off = run(tmp_path / "evaluation.onnx", x) - run(source, x)
    assert 0 < np.abs(off).mean() < 0.02


def test_a_variance_as_a_difference_stays_float32(tmp_path: Path) -> None:
    """In bfloat16 throughout, 900.1 - 900 would be 0 or 4 and the result useless."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "far"], ["z"]),
        helper.make_node("ReduceMean", ["z"], ["mean"], axes=[1]),
        helper.make_node("Mul", ["z", "z"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["second"], axes=[1]),
        helper.make_node("Mul", ["mean", "mean"], ["first"]),
        helper.make_node("Sub", ["second", "first"], ["variance"]),
        helper.make_node("Sqrt", ["variance"], ["deviation"]),
        helper.make_node("Sub", ["z", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["unit"]),
        helper.make_node("MatMul", ["unit", "v"], ["y"]),
    ]
    weights = {"w": normal(16, 64), "far": np.full(64, 30, np.float32), "v": normal(64, 8)}
    source = saved(tmp_path / "m.onnx", nodes, weights)
    made = tmp_path / "model.onnx"
    notes = recipe("bf16").apply(source, made, NOTHING)
    assert notes[-1] == "kept in float32 for precision: 1 Div, 2 Mul, 2 ReduceMean, 1 Sqrt, 2 Sub"
    assert emulated(made, tmp_path / "evaluation.onnx")
    x = normal(100, 16)
    expected = run(source, x)
    assert np.abs(run(tmp_path / "evaluation.onnx", x) - expected).mean() < 0.03 * expected.std()


def test_control_flow_stays_float32(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["h"], [f"{op}_out"])
        output = helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, None)
        return helper.make_graph([node], op, [], [output])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["i"], then_branch=branch("Relu"), else_branch=branch("Neg")),
        helper.make_node("MatMul", ["i", "v"], ["y"]),
    ]
    weights = {"w": normal(16, 16), "v": normal(16, 4), "zero": np.array(0, np.float32)}
    source, made = saved(tmp_path / "m.onnx", nodes, weights), tmp_path / "model.onnx"
    notes = recipe("bf16").apply(source, made, NOTHING)
    assert notes[0] == "2 of 2 convolutions and products in bfloat16"
    assert emulated(made, tmp_path / "evaluation.onnx")
    x = normal(20, 16)
    assert run(tmp_path / "evaluation.onnx", x) == pytest.approx(run(source, x), abs=0.2)


def test_a_weight_read_in_both_types_is_kept_in_both(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Exp", ["w"], ["e"]),
        helper.make_node("MatMul", ["h", "e"], ["y"]),
    ]
    source = saved(tmp_path / "m.onnx", nodes, {"w": normal(16, 16)})
    recipe("bf16").apply(source, tmp_path / "model.onnx", NOTHING)
    kinds = {t.name: t.data_type for t in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert kinds == {"w": TensorProto.FLOAT, "w.bf16": TensorProto.BFLOAT16}


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    source = saved(tmp_path / "m.onnx", [helper.make_node("Exp", ["x"], ["y"])], {})
    with pytest.raises(VariantError, match="bf16: nothing to do"):
        recipe("bf16").apply(source, tmp_path / "out.onnx", NOTHING)


def test_what_runs_itself_needs_no_emulation(tmp_path: Path) -> None:
    source = network_models.residual(tmp_path / "m.onnx")
    assert not emulated(source, tmp_path / "evaluation.onnx")
    assert not (tmp_path / "evaluation.onnx").exists()
