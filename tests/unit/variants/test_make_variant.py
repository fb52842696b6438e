"""Recipes on real graphs: what they make is valid, close to the model, whole, and reused."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.domain.model import Model
from planner.errors import SpecError, VariantError
from planner.variants import Context, bind, make_variant, read_model, recipe, recipe_names
from planner.variants.context import ALL_BACKENDS, random_samples
from planner.variants.recipes import _RECIPES

RECIPES = ("fp32", "int8", "int8-dynamic", "fp16", "int8-dynamic+fp16")


def context(model: Model, samples: int = 24, seed: int = 0, **sizes: int) -> Context:
    inputs = bind(model, {"N": "batch", **sizes})
    return Context(inputs, random_samples(inputs, samples, seed))


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def saved(path: Path, graph: onnx.GraphProto, opset: int = 17) -> Model:
    domains = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return read_model(path)


def dense(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], opset: int = 17) -> Model:
    """A graph from x [N, 16] to y [N, 8]."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return saved(path, graph, opset)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return read_model(onnx_models.tiny_conv(tmp_path_factory.mktemp("conv") / "model.onnx"))


@pytest.mark.parametrize("name", RECIPES)
def test_variants_stay_close_and_touch_nothing_else(conv: Model, tmp_path: Path, name: str) -> None:
    before = conv.path.read_bytes()
    used = context(conv)
    variant = make_variant(conv, name, used, tmp_path)
    assert conv.path.read_bytes() == before
    assert variant.path == tmp_path / name / "model.onnx"
    assert (variant.recipe, variant.model_sha256) == (name, conv.sha256)
    made = read_model(variant.path)
    assert (made.inputs, made.outputs) == (conv.inputs, conv.outputs)
    assert (made.sha256, made.size_bytes) == (variant.sha256, variant.size_bytes)
    x = random_samples(used.inputs, 100, 1)["x"]
    expected = outputs(conv.path, x)
    off = np.abs(outputs(variant.path, x) - expected) / expected.std()
    assert off.mean() < 0.03 and off.max() < 0.3
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_int8_covers_all_products_without_float_between(conv: Model, tmp_path: Path) -> None:
    variant = make_variant(conv, "int8", context(conv), tmp_path)
    assert "100% of the multiply-accumulates of convolutions and products in int8" in variant.notes
    graph = onnx.load(variant.path).graph
    kinds = {i.name: i.data_type for i in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in kinds]
    assert {kinds[n.input[0]] for n in weights} == {TensorProto.INT8, TensorProto.INT32}
    scales = {i.name: i.dims for i in graph.initializer}
    assert all(len(scales[n.input[1]]) == 1 for n in weights)  # one scale a channel
    assert "Relu" not in {n.op_type for n in graph.node}


def test_fp32_is_the_model_byte_for_byte(conv: Model, tmp_path: Path) -> None:
    variant = make_variant(conv, "fp32", context(conv), tmp_path)
    assert variant.path.read_bytes() == conv.path.read_bytes()
    assert variant.sha256 == conv.sha256


@pytest.mark.parametrize("name", ["fp32", "int8", "fp16"])
def test_external_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "source").mkdir()
    proto = onnx.load(onnx_models.tiny_conv(tmp_path / "inline.onnx"))
    path = tmp_path / "source" / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = read_model(path)
    used = context(model)
    variant = make_variant(model, name, used, tmp_path / "out")
    x = random_samples(used.inputs, 4, 1)["x"]
    assert outputs(variant.path, x) == pytest.approx(outputs(path, x), abs=0.1)
    if name == "fp32":
        assert (variant.sha256, variant.size_bytes) == (model.sha256, model.size_bytes)
        assert (variant.path.parent / "weights.bin").read_bytes() == (
            path.parent / "weights.bin"
        ).read_bytes()


def test_a_result_is_reused_only_for_the_same_inputs(conv: Model, tmp_path: Path) -> None:
    def made(seed: int = 0) -> int:
        return make_variant(conv, "int8", context(conv, seed=seed), tmp_path).path.stat().st_mtime_ns

    first = make_variant(conv, "int8", context(conv), tmp_path)
    stamp = first.path.stat().st_mtime_ns
    assert make_variant(conv, "int8", context(conv), tmp_path) == first and made() == stamp
    other = made(seed=1)
    assert other != stamp
    content = first.path.read_bytes()
    first.path.write_bytes(content[:-10])  # damaged since
    assert made(seed=1) != other and len(first.path.read_bytes()) == len(content)
    (first.path.parent / "variant.json").write_text("{")
    assert make_variant(conv, "int8", context(conv), tmp_path) == first


def test_two_runs_write_the_same_bytes(conv: Model, tmp_path: Path) -> None:
    for name in ("int8", "int8-dynamic", "fp16"):
        one, two = (make_variant(conv, name, context(conv), tmp_path / folder) for folder in "ab")
        assert one.sha256 == two.sha256


def test_old_opsets_are_converted(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"], axis=1)]
    model = dense(tmp_path / "m.onnx", nodes, {"w": normal(16, 8)}, opset=11)
    variant = make_variant(model, "int8", context(model), tmp_path)
    assert "converted from opset 11 to 13" in variant.notes
    x = normal(10, 16)
    assert outputs(variant.path, x) == pytest.approx(outputs(model.path, x), abs=0.06)


def test_bias_rows_and_shared_weights_are_survived(tmp_path: Path) -> None:
    """ONNX Runtime fuses the first pair into a Gemm with a bias [1, n], and w is shared by three nodes."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m1"]),
        helper.make_node("Add", ["m1", "row"], ["h1"]),
        helper.make_node("Gemm", ["h1", "w", "b"], ["h2"]),
        helper.make_node("Gemm", ["h1", "w", "b"], ["h3"]),
        helper.make_node("Sub", ["h2", "h3"], ["d"]),
        helper.make_node("Add", ["d", "h2"], ["h4"]),
        helper.make_node("Gemm", ["h4", "v", "c"], ["y"]),
    ]
    weights = {
        "w": normal(16, 16) / 4,
        "row": normal(1, 16),
        "b": normal(16),
        "v": normal(16, 8),
        "c": normal(8),
    }
    model = dense(tmp_path / "m.onnx", nodes, weights)
    variant = make_variant(model, "int8", context(model), tmp_path)
    assert not any("left float: " in note for note in variant.notes)
    x = normal(200, 16)
    expected = outputs(model.path, x)
    assert np.abs(outputs(variant.path, x) - expected).mean() < 0.05 * expected.std()


def test_decomposed_normalization_keeps_its_accuracy(tmp_path: Path) -> None:
    """What all-operator quantization destroys: a variance as a difference of large numbers."""
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
    weights = {"w": normal(16, 16), "far": np.full(16, 30, np.float32), "v": normal(16, 8)}
    model = dense(tmp_path / "m.onnx", nodes, weights)
    x = normal(100, 16)
    expected = outputs(model.path, x)
    for name in ("int8", "fp16"):
        got = outputs(make_variant(model, name, context(model), tmp_path).path, x)
        assert np.abs(got - expected).mean() < 0.05 * expected.std(), name
    half = onnx.load(tmp_path / "fp16" / "model.onnx").graph
    assert Counter(n.op_type for n in half.node)["Cast"] > 2  # the sums stay in float32


@pytest.mark.parametrize("name", ["int8", "int8-dynamic"])
def test_a_fixed_batch(tmp_path: Path, name: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 8])],
        [numpy_helper.from_array(normal(16, 8), "w")],
    )
    model = saved(tmp_path / "m.onnx", graph)
    for samples in (normal(10, 16), normal(6, 4, 16)):  # rows, and whole inputs
        used = Context(bind(model, {}), {"x": samples})
        variant = make_variant(model, name, used, tmp_path / str(samples.ndim))
        assert outputs(variant.path, normal(4, 16)) == pytest.approx(
            outputs(model.path, normal(4, 16)), abs=0.2
        )


@pytest.mark.parametrize("name", ["int8", "int8-dynamic"])
def test_nothing_to_quantize_is_said(tmp_path: Path, name: str) -> None:
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axes"], ["s"]),
        helper.make_node("Exp", ["s"], ["y"]),
    ]
    bounds = {k: np.array([v], np.int64) for k, v in (("from", 0), ("to", 8), ("axes", 1))}
    model = dense(tmp_path / "m.onnx", nodes, bounds)
    with pytest.raises(VariantError, match=f"{name}: nothing to quantize"):
        make_variant(model, name, context(model), tmp_path)
    assert not (tmp_path / name).exists()


def test_values_beyond_half_precision_stay_in_float32(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "big"], ["h"], "up"),
        helper.make_node("MatMul", ["h", "small"], ["k"], "down"),
        helper.make_node("MatMul", ["k", "w"], ["y"], "plain"),
    ]
    weights = {"big": normal(16, 16) * 30000, "small": normal(16, 16) / 30000, "w": normal(16, 8)}
    model = dense(tmp_path / "m.onnx", nodes, weights)
    variant = make_variant(model, "fp16", context(model), tmp_path)
    assert variant.notes == (
        "1 of 3 convolutions and products in float16",
        "2 nodes with values above 32752 kept in float32",
    )
    kinds = {i.name: i.data_type for i in onnx.load(variant.path).graph.initializer}
    assert kinds == {"big": TensorProto.FLOAT, "small": TensorProto.FLOAT, "w.fp16": TensorProto.FLOAT16}


class Faulty:
    """A recipe that goes wrong in the way it is told."""

    name = "faulty"
    needs_calibration = False
    backends = ALL_BACKENDS
    min_compute_capability = None
    evaluate_unoptimized = False

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def apply(self, source: Path, target: Path, used: Context) -> tuple[str, ...]:
        if self.fault == "raises":
            raise ValueError("first line\nsecond line")
        proto = onnx.load(source)
        if self.fault == "renames":
            proto.graph.node[-1].output[0] = proto.graph.output[0].name = "other"
        elif self.fault == "reshapes":
            proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
        elif self.fault == "divides by zero":
            proto.graph.node[1].op_type = "Log"
        elif self.fault == "unknown operator":
            proto.graph.node[1].op_type = "Reluu"
        elif self.fault == "not for the runtime":
            proto.graph.node[1].domain = "nobody.knows"
            proto.opset_import.append(helper.make_opsetid("nobody.knows", 1))
        target.write_bytes(proto.SerializeToString())
        return ()


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("raises", "faulty: failed on model.onnx: ValueError: first line$"),
        ("renames", "faulty: the model's outputs changed to other"),
        ("reshapes", r"faulty: output logits changed from float32 \['N', 5\] to float32 \[3, 5\]"),
        (
            "divides by zero",
            r"faulty: output logits is not finite \(NaN or infinity\), from tensor b on",
        ),
        ("unknown operator", "faulty: made an invalid model"),
        ("not for the runtime", "faulty: ONNX Runtime does not load what was made"),
    ],
)
def test_what_a_recipe_makes_is_checked(
    conv: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, match: str
) -> None:
    monkeypatch.setitem(_RECIPES, "faulty", Faulty(fault))
    with pytest.raises(VariantError, match=match) as caught:
        make_variant(conv, "faulty", context(conv), tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_earlier_result(
    conv: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_RECIPES, "faulty", Faulty("none"))
    kept = make_variant(conv, "faulty", context(conv), tmp_path)
    monkeypatch.setitem(_RECIPES, "faulty", Faulty("raises"))
    with pytest.raises(VariantError):
        make_variant(conv, "faulty", Context(context(conv).inputs, None, seed=9), tmp_path)
    assert kept.path.is_file()


@pytest.mark.parametrize(
    "name", ["int8", "int8-tensorrt", "fp8", "sparse-2:4", "lowrank-50", "prune-30+fp16"]
)
def test_calibration_is_asked_for(conv: Model, tmp_path: Path, name: str) -> None:
    assert recipe(name).needs_calibration
    with pytest.raises(VariantError, match=f"{re.escape(name)}: needs calibration samples"):
        make_variant(conv, name, Context(context(conv).inputs, None), tmp_path)
    assert make_variant(conv, "fp16", Context(context(conv).inputs, None), tmp_path).path.is_file()


def test_recipes_by_name() -> None:
    assert set(recipe_names()) >= {"fp32", "int8", "int8-dynamic", "fp16"}
    assert recipe("int8").needs_calibration and not recipe("fp16").needs_calibration
    assert recipe("fp16+int8").needs_calibration
    for name, match in (("int-8", "did you mean int8"), ("fp32+int8", "cannot hold fp32"), ("int8+", "''")):
        with pytest.raises(SpecError, match=match):
            recipe(name)


def test_nothing_prints(conv: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.getLogger().handlers)
    for name in RECIPES:
        make_variant(conv, name, context(conv), tmp_path)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers and logging.getLogger().manager.disable == logging.NOTSET
