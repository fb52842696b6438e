"""A layer as rows times a matrix gives what ONNX Runtime computes, for every way to slide and to pad."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from planner.variants.pruning.rows import (
    input_rows,
    output_rows,
    output_width,
    sample,
    weight_matrix,
    weight_tensor,
    window_of,
)

LIMITED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(node: onnx.NodeProto, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


@st.composite
def sliding(draw: st.DrawFn) -> tuple[onnx.NodeProto, tuple[int, ...], tuple[int, ...]]:
    """A Conv or ConvTranspose over 1 or 2 axes, its input's shape and its weight's."""
    kind, rank = draw(st.sampled_from(("Conv", "ConvTranspose"))), draw(st.integers(1, 2))
    per_axis = st.integers(1, 3)
    kernel, strides, dilations = (draw(st.lists(per_axis, min_size=rank, max_size=rank)) for _ in range(3))
    attributes: dict[str, object] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    padding = draw(st.sampled_from(("none", "pads", "VALID", "SAME_UPPER", "SAME_LOWER", "output_padding")))
    if padding == "pads":
        attributes["pads"] = draw(st.lists(st.integers(0, 1), min_size=2 * rank, max_size=2 * rank))
    elif padding == "output_padding":
        assume(kind == "ConvTranspose")
        attributes["output_padding"] = [s - 1 for s in strides]
    elif padding != "none":
        # ONNX Runtime and the standard disagree on dilation and on strides beyond the window here.
        assume(all(d == 1 for d in dilations) and all(k >= s for k, s in zip(kernel, strides, strict=True)))
        attributes["auto_pad"] = padding
    groups = draw(st.integers(1, 2))
    node = helper.make_node(kind, ["x", "w"], ["y"], group=groups, **attributes)
    channels = (2 * groups, 3 if kind == "ConvTranspose" else 2)
    weight = (*channels, *kernel) if kind == "ConvTranspose" else (3 * groups, 2, *kernel)
    return node, (2, 2 * groups, *[9, 8][:rank]), weight


@LIMITED
@given(sliding(), st.integers(0, 99), st.sampled_from((5, 10_000)))
def test_sliding_layers(
    drawn: tuple[onnx.NodeProto, tuple[int, ...], tuple[int, ...]], seed: int, limit: int
) -> None:
    node, shape, weight_shape = drawn
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(np.float32)
    weight = rng.normal(size=weight_shape).astype(np.float32)
    y = run(node, x, weight)
    groups = next(a.i for a in node.attribute if a.name == "group")
    taken = sample(node, y, limit, rng)
    inputs = np.split(input_rows(node, x, weight, taken), groups, 1)
    parts = np.split(weight, groups, 0)
    made = np.hstack([i @ weight_matrix(node, w) for i, w in zip(inputs, parts, strict=True)])
    np.testing.assert_allclose(made, output_rows(node, y, taken), atol=1e-4)
    assert made.shape == (min(limit, y.size // y.shape[1]), output_width(node, weight, groups))
    assert inputs[0].shape[1] == window_of(node, weight) * shape[1] // groups
    for part in parts:
        assert (weight_tensor(node, weight_matrix(node, part), part) == part).all()


@LIMITED
@given(st.sampled_from(("MatMul", "Gemm", "Gemm turned")), st.integers(0, 99), st.integers(1, 3))
def test_products(kind: str, seed: int, rank: int) -> None:
    assume(rank == 1 or kind == "MatMul")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*[3, 4, 5][:rank], 6)).astype(np.float32)
    turned = kind == "Gemm turned"
    weight = rng.normal(size=(7, 6) if turned else (6, 7)).astype(np.float32)
    node = helper.make_node(kind.split()[0], ["x", "w"], ["y"], **({"transB": 1} if turned else {}))
    y = run(node, x, weight)
    taken = sample(node, y, 4, rng)
    made = input_rows(node, x, weight, taken) @ weight_matrix(node, weight)
    np.testing.assert_allclose(made, output_rows(node, y, taken), atol=1e-4)
    assert output_width(node, weight, 1) == 7
    assert (weight_tensor(node, weight_matrix(node, weight), weight) == weight).all()
