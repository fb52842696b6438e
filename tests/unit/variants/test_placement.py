"""Where integers go: multiply-accumulates, and what lies between them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from planner.variants.graph import _sort
from planner.variants.placement import multiply_accumulates, place


def graph(nodes: list[tuple[str, str, str]], output: str, **weights: tuple[int, ...]) -> GraphProto:
    """Nodes as (operator, inputs, output); names of nodes are their outputs."""
    return helper.make_graph(
        [helper.make_node(op, inputs.split(), [out], out) for op, inputs, out in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )


KERNEL = (4, 4, 3, 3)


def test_a_residual_block_is_integer_throughout() -> None:
    nodes = [
        ("Conv", "x w1", "c1"),
        ("Relu", "c1", "r1"),
        ("Conv", "r1 w2", "c2"),
        ("Add", "c2 r1", "sum"),
        ("Relu", "sum", "r2"),
        ("GlobalAveragePool", "r2", "pool"),
        ("Flatten", "pool", "flat"),
        ("Gemm", "flat w3", "scores"),
        ("Softmax", "scores", "y"),
    ]
    chosen = place(graph(nodes, "y", w1=KERNEL, w2=KERNEL, w3=(4, 2)))
    assert chosen.nodes == tuple(out for _, _, out in nodes[:-1])
    assert chosen.left_float == ()
    # The scores, which only the softmax reads, come out of the product as floats.
    assert set(chosen.tensors) == {"x", "c1", "r1", "c2", "sum", "r2", "pool", "flat"}


def test_what_is_kept_float_takes_its_neighbours_along() -> None:
    nodes = [
        ("Conv", "x w1", "c1"),
        ("Relu", "c1", "r1"),
        ("Conv", "r1 w2", "c2"),
        ("Add", "c2 r1", "sum"),
        ("Conv", "sum w3", "c3"),
    ]
    weights = {"w1": KERNEL, "w2": KERNEL, "w3": KERNEL}
    chosen = place(graph(nodes, "c3", **weights), kept_float={"c2"})
    assert chosen.nodes == ("c1", "r1", "c3")
    assert set(chosen.tensors) == {"x", "c1", "r1", "sum", "c3"}


def test_a_relu_between_a_product_and_float_stays_float() -> None:
    nodes = [("Gemm", "x w1", "g"), ("Relu", "g", "r"), ("Softmax", "r", "y")]
    assert place(graph(nodes, "y", w1=(4, 4))).nodes == ("g",)


def test_a_chain_that_reaches_float_stays_float() -> None:
    """A GELU or a LayerNorm spelled out: one float node in it turns all of it back."""
    nodes = [
        ("MatMul", "x w1", "product"),
        ("Add", "product b", "biased"),
        ("Mul", "biased biased", "square"),
        ("Tanh", "square", "tanh"),
        ("Mul", "biased tanh", "gelu"),
        ("MatMul", "gelu w2", "y"),
    ]
    assert place(graph(nodes, "y", w1=(4, 4), w2=(4, 4), b=(4,))).nodes == ("product", "y")


def test_a_relu_before_float_is_folded_all_the_same() -> None:
    nodes = [("Conv", "x w1", "c1"), ("Relu", "c1", "r1"), ("Softmax", "r1", "y")]
    assert place(graph(nodes, "y", w1=KERNEL)).nodes == ("c1", "r1")


def test_outputs_are_never_rounded_by_what_lies_between() -> None:
    nodes = [("Conv", "x w1", "c1"), ("Add", "c1 c1", "y")]
    assert place(graph(nodes, "y", w1=KERNEL)).nodes == ("c1",)


def test_what_is_left_float_is_said() -> None:
    nodes = [
        ("MatMul", "x w1", "q"),
        ("MatMul", "q q", "attention"),
        ("MatMul", "attention w3", "batched"),
        ("Gemm", "batched w1 matrix", "y"),
    ]
    chosen = place(graph(nodes, "y", w1=(4, 4), w3=(2, 4, 4), matrix=(4, 4)))
    assert chosen.nodes == ("q",)
    assert chosen.left_float == (
        "1 left float: MatMul of two activations",
        "1 left float: MatMul whose weights are not a matrix",
        "1 left float: Gemm whose bias is not a constant vector",
    )


def make(op: str, **attributes: int) -> NodeProto:
    return helper.make_node(op, ["x", "w"], ["y"], **attributes)


@pytest.mark.parametrize(
    ("node", "x", "w", "y", "macs"),
    [
        (make("Conv"), (1, 3, 8, 8), (16, 3, 3, 3), (1, 16, 6, 6), 16 * 36 * 27),
        (make("Conv", group=8), (1, 8, 8, 8), (8, 1, 3, 3), (1, 8, 6, 6), 8 * 36 * 9),
        (make("ConvTranspose"), (1, 3, 4, 4), (3, 5, 2, 2), (1, 5, 8, 8), 3 * 16 * 5 * 4),
        (make("MatMul"), (2, 7, 16), (16, 4), (2, 7, 4), 2 * 7 * 16 * 4),
        (make("Gemm", transA=1), (16, 7), (16, 4), (7, 4), 7 * 16 * 4),
    ],
)
def test_multiply_accumulates(
    node: NodeProto, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], macs: int
) -> None:
    assert multiply_accumulates(node, x, w, y) == macs


def test_sorting_sees_into_control_flow() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["late"], ["out"])],
        "b",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch),
        helper.make_node("Relu", ["early"], ["late"], "second"),
        helper.make_node("Relu", ["x"], ["early"], "first"),
    ]
    shuffled = helper.make_graph(nodes, "g", [], [])
    _sort(shuffled)
    assert [n.name for n in shuffled.node] == ["first", "second", "if"]
