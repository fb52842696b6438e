"""Equal vectors that an exporter stores once do not tie layers together that share nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.variants.pruning import prune
from planner.variants.pruning.groups import Group, groups
from planner.variants.pruning.normalize import normalized
from planner.variants.pruning.pruned import traced

WIDTH = 32
ACTIVE = (slice(0, WIDTH // 2), slice(WIDTH // 2, None))
"""The channels of each block's layer that do anything."""


def two_blocks(shared: tuple[str, ...]) -> onnx.ModelProto:
    """Two blocks of Conv, Add (bias) and BatchNormalization; the parameters in ``shared`` are stored once."""
    rng = np.random.default_rng(0)
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    vectors = {
        "bias": zeros, "slope": zeros.reshape(-1, 1, 1), "scale": ones, "shift": zeros, "mean": zeros,
        "variance": ones,
    }  # fmt: skip
    constants = {"head": rng.normal(size=(3, 4, 1, 1)).astype(np.float32)}
    nodes = []
    source, width = "x", 3
    for k in range(2):
        names = {v: v if v in shared else f"{v}{k}" for v in vectors}
        constants |= {names[v]: array for v, array in vectors.items()}
        conv = np.zeros((WIDTH, width, 3, 3), np.float32)
        conv[ACTIVE[k]] = rng.normal(size=(WIDTH // 2, width, 3, 3))
        constants[f"conv{k}"] = conv
        constants[f"mix{k}"] = (rng.normal(size=(4, WIDTH, 1, 1)) / WIDTH**0.5).astype(np.float32)
        norm = [names[v] for v in ("scale", "shift", "mean", "variance")]
        nodes += [
            helper.make_node("Conv", [source, f"conv{k}", names["bias"]], [f"c{k}"], pads=[1] * 4),
            helper.make_node("PRelu", [f"c{k}", names["slope"]], [f"p{k}"]),
            helper.make_node("BatchNormalization", [f"p{k}", *norm], [f"n{k}"]),
            helper.make_node("Conv", [f"n{k}", f"mix{k}"], [f"m{k}"]),
        ]
        source, width = f"m{k}", 4
    nodes.append(helper.make_node("Conv", [source, "head"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "blocks",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def wide_groups(model: onnx.ModelProto) -> list[Group]:
    return [g for g in groups(traced(normalized(model))) if len(g.units) == WIDTH]


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize(
    "shared", [(), ("bias",), ("slope",), ("scale", "variance"), ("bias", "slope", "scale", "shift", "mean")]
)
def test_layers_that_share_only_vectors_are_groups_of_their_own(shared: tuple[str, ...]) -> None:
    found = wide_groups(two_blocks(shared))
    assert [len(g.made_by) for g in found] == [1, 1]
    assert not set(found[0].units) & set(found[1].units)


def test_each_of_them_loses_what_it_can_best_spare() -> None:
    """What the one block needs, the other does not: with common channels half of each would be lost."""
    model = two_blocks(("bias", "slope", "scale", "shift", "mean", "variance"))
    x = np.random.default_rng(1).normal(size=(64, 3, 6, 6)).astype(np.float32)
    pruned = prune(model, 0.5, {"x": x}, reconstruct=False)
    assert [(g.before, g.after) for g in pruned.removed] == [(WIDTH, WIDTH // 2)] * 2
    weights = {t.name: numpy_helper.to_array(t) for t in pruned.model.graph.initializer}
    whole = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for k in range(2):
        np.testing.assert_array_equal(weights[f"conv{k}"], whole[f"conv{k}"][ACTIVE[k]])
    np.testing.assert_allclose(outputs(pruned.model, x), outputs(model, x), rtol=1e-4, atol=1e-4)


def test_a_vector_that_is_a_weight_or_too_large_stays_shared() -> None:
    def readers_apart(length: int, *nodes: onnx.NodeProto) -> bool:
        graph = helper.make_graph(
            list(nodes),
            "readers",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", length])],
            [helper.make_tensor_value_info(n.output[0], TensorProto.FLOAT, None) for n in nodes],
            [numpy_helper.from_array(np.ones((length, 1), np.float32), "column"),
             numpy_helper.from_array(np.ones(length, np.float32), "row")],
        )  # fmt: skip
        model = normalized(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
        first, second = model.graph.node
        return bool(first.input[1] != second.input[1])

    def adds(length: int) -> bool:
        return readers_apart(length, *(helper.make_node("Add", ["x", "row"], [name]) for name in "ab"))

    assert adds(16) and adds(1 << 14)
    assert not adds((1 << 14) + 1)
    assert not readers_apart(16, *(helper.make_node("MatMul", ["x", "column"], [name]) for name in "ab"))
