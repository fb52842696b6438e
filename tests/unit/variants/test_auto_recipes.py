"""Which recipes are tried by default, by model and fleet."""

from __future__ import annotations

from pathlib import Path

import network_models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import LabelledModel

from planner.variants import read_model, recipe
from planner.variants.auto import auto_recipes

CPU = ("onnxruntime",)
GPU = ("onnxruntime", "tensorrt")


def without_weights(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Exp", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_nothing_to_quantize_leaves_the_baseline(tmp_path: Path) -> None:
    assert auto_recipes(read_model(without_weights(tmp_path / "m.onnx")), GPU, [(8, 9)]) == ("fp32",)


def test_a_quantized_model_is_left_as_it_is(tmp_path: Path) -> None:
    from planner.variants import Context

    source = network_models.transformer(tmp_path / "m.onnx")
    recipe("int4").apply(source, tmp_path / "q.onnx", Context((), None))
    assert auto_recipes(read_model(tmp_path / "q.onnx"), GPU, [(8, 9)]) == ("fp32",)


def test_on_cpus(tmp_path: Path) -> None:
    model = read_model(network_models.residual(tmp_path / "m.onnx"))
    assert auto_recipes(model, CPU, []) == ("fp32", "int8", "int8-dynamic", "prune-30", "prune-30+int8")
    assert {"fp16", "bf16"} <= set(auto_recipes(model, ["openvino"], []))


def test_on_gpus(tmp_path: Path) -> None:
    model = read_model(network_models.residual(tmp_path / "m.onnx"))
    turing, ampere, ada = (auto_recipes(model, ["tensorrt"], [c]) for c in ((7, 5), (8, 6), (8, 9)))
    assert turing == ("fp32", "fp16", "int8-tensorrt+fp16", "prune-30", "prune-30+int8-tensorrt+fp16")
    assert "int8-tensorrt+bf16" in ampere and "fp8+bf16" not in ampere
    assert "fp8+bf16" in ada
    mixed = auto_recipes(model, ["tensorrt"], [(7, 5), (9, 0)])
    assert {"fp8+bf16", "int8-tensorrt+fp16"} <= set(mixed)
    # A GPU that no backend of the fleet drives makes nothing runnable.
    assert auto_recipes(model, ["tensorrt"], []) == ("fp32",)


def test_int4_where_large_matrices_dominate(mlp_model: LabelledModel, tiny_model: LabelledModel) -> None:
    large, small = read_model(mlp_model.model), read_model(tiny_model.model)
    assert "int4" in auto_recipes(large, CPU, []) and "int4" not in auto_recipes(small, CPU, [])
    assert "lowrank-25" in auto_recipes(large, CPU, []) and "lowrank-25" not in auto_recipes(small, CPU, [])
    assert {"sparse-2:4+bf16", "int4-tensorrt+bf16"} <= set(auto_recipes(large, GPU, [(8, 9)]))


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_all_are_known_recipes_that_the_fleet_runs(tmp_path: Path, capability: tuple[int, int]) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 512])],
        [numpy_helper.from_array(np.zeros((512, 512), np.float32), "w")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    names = auto_recipes(read_model(path), ["tensorrt"], [capability])
    assert len(set(names)) == len(names) > 3
    for name in names:
        chosen = recipe(name)
        assert "tensorrt" in chosen.backends
        assert (chosen.min_compute_capability or (0, 0)) <= capability
