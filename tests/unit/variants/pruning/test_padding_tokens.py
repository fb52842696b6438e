"""Padding does not count as calibration data where an input tells it from tokens."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.variants.pruning import prune
from planner.variants.pruning.graph import index
from planner.variants.pruning.rows import sample, token_mask

WIDTH, HIDDEN, LENGTH = 16, 32, 10


def pooled(mask_name: str, mask_type: int = TensorProto.INT64) -> onnx.ModelProto:
    """Two layers for every token, then the sum over those that the mask does not blank out."""
    rng = np.random.default_rng(0)
    constants = {
        "up": (rng.normal(size=(WIDTH, HIDDEN)) / WIDTH**0.5).astype(np.float32),
        "down": (rng.normal(size=(HIDDEN, 4)) / HIDDEN**0.5).astype(np.float32),
        "two": np.asarray([2]),
        "one": np.asarray([1]),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "down"], ["z"]),
        helper.make_node("Cast", [mask_name], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["real", "two"], ["blank"]),
        helper.make_node("Mul", ["z", "blank"], ["blanked"]),
        helper.make_node("ReduceSum", ["blanked", "one"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "pooled",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", LENGTH, WIDTH]),
            helper.make_tensor_value_info(mask_name, mask_type, ["batch", LENGTH]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens lie in 4 dimensions; padding, two thirds of all, is large and lies in all of them."""
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(128, LENGTH, 4)) @ np.random.default_rng(99).normal(size=(4, WIDTH))
    mask = (rng.random((128, LENGTH)) < 1 / 3).astype(np.int64)
    padding = 10 * rng.normal(size=tokens.shape)
    return np.where(mask[..., None] == 1, tokens, padding).astype(np.float32), mask


def error_of_pruned(mask_name: str) -> float:
    model = pooled(mask_name)
    x, mask = data(1)
    pruned = prune(model, 0.5, {"x": x, mask_name: mask})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    unseen, mask = data(2)
    whole, small = (
        onnxruntime.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
            None, {"x": unseen, mask_name: mask}
        )[0]
        for m in (model, pruned.model)
    )
    return float(np.linalg.norm(whole - small) / np.linalg.norm(whole))


def test_a_model_is_fitted_to_its_tokens() -> None:
    assert error_of_pruned("attention_mask") < 0.5 * error_of_pruned("weights_of_tokens")


def test_which_input_is_a_mask() -> None:
    assert token_mask(index(pooled("attention_mask"))) == "attention_mask"
    assert token_mask(index(pooled("model.Input_Mask", TensorProto.INT32))) == "model.Input_Mask"
    assert token_mask(index(pooled("token_type_ids"))) is None
    assert token_mask(index(pooled("padding_mask"))) is None, "whose 1 may well mean padding"
    assert token_mask(index(pooled("attention_mask", TensorProto.FLOAT))) is None


@pytest.mark.parametrize("limit", [3, 100])
def test_only_tokens_are_drawn(limit: int) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    mask = np.asarray([[1, 1, 0, 0], [1, 1, 1, 0]])
    rng = np.random.default_rng(0)
    picks = sample(node, np.zeros((2, 4, 5)), limit, rng, mask).picks.tolist()
    assert set(picks) <= {0, 1, 4, 5, 6} and len(set(picks)) == len(picks) == min(limit, 5)
    assert len(sample(node, np.zeros((2, 5)), limit, rng, mask).picks) == 2, "what is no token is not masked"
    assert len(sample(node, np.zeros((2, 4, 5)), 100, rng, 0 * mask).picks) == 8, "nothing but padding"
