"""TensorRT takes what the recipes for it make: parsed and built ahead of time, which needs no GPU.

Kernels are compiled where an engine is loaded, so this proves that graphs are accepted for an architecture,
not how fast they are there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import network_models
import numpy as np
import onnx
import pytest

from planner.backends.tensorrt import BuildOptions, Order, import_library
from planner.backends.tensorrt.build import build
from planner.errors import BackendError
from planner.variants import Context, bind, read_model, recipe

pytest.importorskip("tensorrt_rtx")

RTX = "tensorrt-rtx"


def refusal(path: Path, capability: str, *, sparse: bool = False) -> str:
    """Why TensorRT builds no engine of ``path`` for ``capability`` (8.9, ...); empty where it does."""
    options = BuildOptions(sparse_weights=sparse, capabilities=(capability,))
    order = Order("", bind(read_model(path), {"N": "batch"}), (1, 4, 8), options)
    try:
        built = build(import_library(RTX), path, order, order.options.capabilities)
    except BackendError as error:
        return str(error)
    assert built.plan and built.outputs == ("logits",)
    return ""


@pytest.fixture(scope="module", params=["residual", "transformer"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Context]:
    path = tmp_path_factory.mktemp(request.param) / "m.onnx"
    rng = np.random.default_rng(0)
    if request.param == "residual":
        network_models.residual(path)
        samples = rng.standard_normal((16, 3, 16, 16)).astype(np.float32)
    else:
        network_models.transformer(path, layers=1)
        samples = rng.integers(0, 100, (16, 12))
    return path, Context(bind(read_model(path), {"N": "batch"}), {"x": samples}, judge=content)


def content(path: Path, /, optimized: bool = True) -> float:
    """A judge that nothing disappoints, so that every layer is quantized."""
    return 0.0


@pytest.mark.parametrize(
    "name",
    [
        "fp32",
        "fp16",
        "bf16",
        "int8-tensorrt",
        "fp8",
        "sparse-2:4",
        "lowrank-25",
        "prune-30",
        "int8-tensorrt+fp16",
        "int8-tensorrt+bf16",
        "fp8+fp16",
        "fp8+bf16",
        "sparse-2:4+fp16",
        "prune-30+fp16",
        "lowrank-25+fp16",
        "sparse-2:4+fp8",
        "prune-30+int8-tensorrt+bf16",
    ],
)
def test_engines_build(network: tuple[Path, Context], tmp_path: Path, name: str) -> None:
    source, used = network
    recipe(name).apply(source, tmp_path / "model.onnx", used)
    assert refusal(tmp_path / "model.onnx", "8.9", sparse="sparse" in name) == ""


@pytest.mark.parametrize("half", ["", "+fp16", "+bf16"])
@pytest.mark.parametrize("name", ["int8-tensorrt", "fp8"])
def test_engines_with_some_layers_left_float_build(
    network: tuple[Path, Context], tmp_path: Path, name: str, half: str
) -> None:
    source, used = network
    least = 3

    def judge(path: Path, /, optimized: bool = True) -> float:
        """Asks for some products that read no quantized data."""
        graph = onnx.load(path).graph
        made = {t for n in graph.node if n.op_type == "DequantizeLinear" for t in n.output}
        products = [n for n in graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
        constant = {i.name for i in graph.initializer} | made
        plain = sum(not made & {*n.input} and n.input[1] in constant for n in products)
        return 0.0 if plain >= least else 1.0

    notes = recipe(name + half).apply(source, tmp_path / "model.onnx", replace(used, judge=judge))
    assert any("left float for accuracy" in note for note in notes)
    assert judge(tmp_path / "model.onnx") == 0.0
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert any(n.op_type == "QuantizeLinear" for n in graph.node)
    assert refusal(tmp_path / "model.onnx", "8.9") == ""


@pytest.mark.parametrize(
    "name", ["int4-tensorrt", "int4-tensorrt+fp16", "int4-tensorrt+bf16", "prune-30+sparse-2:4+int8-tensorrt"]
)
def test_engines_of_a_transformer_build(tmp_path: Path, name: str) -> None:
    source = network_models.transformer(tmp_path / "m.onnx", layers=1)
    tokens = np.random.default_rng(0).integers(0, 100, (16, 12))
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": tokens})
    recipe(name).apply(source, tmp_path / "model.onnx", used)
    assert refusal(tmp_path / "model.onnx", "8.9", sparse="sparse" in name) == ""


def test_old_opsets_build(tmp_path: Path) -> None:
    source = network_models.residual(tmp_path / "m.onnx", opset=11)
    images = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": images})
    for name in ("fp16", "bf16", "int8-tensorrt", "int8-tensorrt+fp16", "fp8"):
        recipe(name).apply(source, tmp_path / "model.onnx", used)
        assert refusal(tmp_path / "model.onnx", "8.9") == "", name


@pytest.mark.parametrize(
    ("name", "capability", "below"),
    [
        ("bf16", "8.0", "7.5"),
        ("int8-tensorrt+fp16", "7.5", None),
        ("fp8", "8.9", "8.6"),
        ("int4-tensorrt", "8.0", "7.5"),
    ],
)
def test_the_least_capability_is_the_one_that_builds(
    tmp_path: Path, name: str, capability: str, below: str | None
) -> None:
    source = network_models.transformer(tmp_path / "m.onnx", layers=1)
    tokens = np.random.default_rng(0).integers(0, 100, (8, 12))
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": tokens})
    chosen = recipe(name)
    chosen.apply(source, tmp_path / "model.onnx", used)
    least = chosen.min_compute_capability
    assert least is not None and capability == f"{least[0]}.{least[1]}"
    assert refusal(tmp_path / "model.onnx", capability) == ""
    assert below is None or refusal(tmp_path / "model.onnx", below) != ""
