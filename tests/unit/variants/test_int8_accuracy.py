"""int8 where it is hard: outliers in activations and weights, floors to hold, kernels to fit."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import network_models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from sessions import run

from planner.domain.model import Model
from planner.variants import Context, bind, make_variant, read_model
from planner.variants.calibration import calibrate
from planner.variants.context import single_feeds
from planner.variants.correction import mean_shifts
from planner.variants.int8 import Int8
from planner.variants.integers import IntegerWriter, affine
from planner.variants.placement import place
from planner.variants.reference import Reference, split

Array = np.ndarray
Node = onnx.NodeProto


def kernels(path: Path, tmp_path: Path) -> Counter[str]:
    """Operators that ONNX Runtime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "kernels.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(tmp_path / "kernels.onnx").graph.node)


def saved(path: Path, nodes: list[Node], weights: dict[str, Array], shape: list[int], out: str) -> Model:
    """A model from ``x`` [N, *shape] to ``out`` of the same rank."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", *[None] * len(shape)])],
        [numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return read_model(path)


def calibrated(model: Model, x: Array, **more: object) -> Context:
    return Context(bind(model, {model.inputs[0].shape[0]: "batch"}), {"x": x}, **more)  # type: ignore


def layered(path: Path, culprit: int | None) -> Model:
    return read_model(network_models.layered(path, culprit))


def samples(count: int, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def left_float(variant_notes: tuple[str, ...]) -> set[str]:
    found = [note for note in variant_notes if "left float for accuracy" in note]
    return set(found[0].rpartition(": ")[2].split(", ")) if found else set()


def relative(got: Array, expected: Array) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected - expected.mean(0)))


@pytest.mark.parametrize("culprit", [2, 4])
@pytest.mark.parametrize("judged", [False, True])
def test_exactly_the_layer_that_ruins_it_stays_float(tmp_path: Path, culprit: int, judged: bool) -> None:
    model = layered(tmp_path / "m.onnx", culprit)
    searched, fresh = samples(300, 32, seed=1), samples(300, 32, seed=2)
    classes = run(model.path, searched).argmax(1)
    asked: list[Path] = []

    def judge(path: Path) -> float:
        asked.append(path)
        return float((run(path, searched).argmax(1) != classes).mean())

    if not judged:
        used = calibrated(model, samples(400, 32))
    else:
        used = calibrated(model, samples(400, 32), judge=judge, tolerated_drop=0.05, search_digest="1")
    variant = make_variant(model, "int8", used, tmp_path / "out")
    assert left_float(variant.notes) == {f"layer{culprit}"}
    assert "83% of the multiply-accumulates of convolutions and products in int8" in variant.notes
    weights = {i.name for i in onnx.load(variant.path).graph.initializer}
    assert f"w{culprit}" in weights and f"w{culprit - 1}" not in weights
    assert relative(run(variant.path, fresh), run(model.path, fresh)) < 0.1
    if judged:
        assert judge(variant.path) <= 0.05
        assert model.path in asked and len(asked) < 12

    loose = calibrated(model, samples(400, 32), judge=lambda path: 0.0, tolerated_drop=0.0)
    all_int8 = make_variant(model, "int8", loose, tmp_path / "loose")
    assert left_float(all_int8.notes) == set()
    assert relative(run(all_int8.path, fresh), run(model.path, fresh)) > 0.2


def test_a_harmless_model_is_int8_throughout(tmp_path: Path) -> None:
    model = layered(tmp_path / "m.onnx", None)
    variant = make_variant(model, "int8", calibrated(model, samples(400, 32)), tmp_path / "out")
    assert "100% of the multiply-accumulates of convolutions and products in int8" in variant.notes
    assert kernels(variant.path, tmp_path).keys() <= {"QuantizeLinear", "QGemm"}


def test_at_least_half_stays_int8_even_if_that_does_not_hold(tmp_path: Path) -> None:
    """The first layer has nine tenths of the multiply-accumulates and all of the error."""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((256, 32)) / 16
    weights = {"w0": wide, "w1": rng.standard_normal((32, 16)) / 5, "w2": rng.standard_normal((16, 8)) / 4}
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h0"], "first"),
        helper.make_node("MatMul", ["h0", "w1"], ["h1"], "second"),
        helper.make_node("MatMul", ["h1", "w2"], ["h2"], "third"),
    ]
    model = saved(tmp_path / "m.onnx", nodes, weights, [256], "h2")
    x = samples(64, 256)
    x[:, :4] *= 3000
    weights_down = dict(weights, w0=np.concatenate([wide[:4] / 3000, wide[4:]]))
    model = saved(tmp_path / "m.onnx", nodes, weights_down, [256], "h2")
    variant = make_variant(model, "int8", calibrated(model, x), tmp_path / "out")
    assert "first" not in left_float(variant.notes)
    assert int(variant.notes[0].partition("%")[0]) >= 50


def chosen_method(notes: tuple[str, ...]) -> str:
    return (
        next(note for note in notes if note.startswith("ranges by "))
        .removeprefix("ranges by ")
        .partition(":")[0]
    )


def test_ranges_are_chosen_by_the_error_they_leave(tmp_path: Path) -> None:
    """Outliers in an input that nothing depends on are worth clipping; without any, nothing is."""
    weight = np.random.default_rng(0).standard_normal((64, 16))
    weight[0] = 0
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    model = saved(tmp_path / "m.onnx", [node], {"w": weight}, [64], "y")
    plain = np.random.default_rng(1).uniform(-1, 1, (400, 64)).astype(np.float32)
    assert chosen_method(Int8().apply(model.path, tmp_path / "a.onnx", calibrated(model, plain))) == "min-max"
    spiked = plain.copy()
    spiked[::40, 0] = 40
    notes = Int8().apply(model.path, tmp_path / "b.onnx", calibrated(model, spiked))
    assert chosen_method(notes) != "min-max"
    assert relative(run(tmp_path / "b.onnx", plain), run(model.path, plain)) < 0.01


def shift_model(path: Path, kind: str) -> tuple[Model, Array]:
    """One layer whose weights round unevenly, with inputs that are all positive."""
    rng = np.random.default_rng(5)
    if kind == "conv":
        w = rng.uniform(0, 0.004, (6, 2, 3, 3))
        w[:, 0, 0, 0] = 1
        nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "layer", group=2)]
        return saved(path, nodes, {"w": w}, [4, 9, 9], "y"), abs(samples(40, 4, 9, 9)) + 1
    w = rng.uniform(0, 0.004, (32, 6))
    w[0] = 1
    x = abs(samples(40, 32)) + 1
    if kind == "gemm":
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer", transB=1)]
        return saved(path, nodes, {"w": w.T, "b": np.ones(6)}, [32], "y"), x
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "layer"),
        helper.make_node("Add", ["b", "h"], ["y"], "bias"),
    ]
    return saved(path, nodes, {"w": w, "b": np.ones((1, 6))}, [32], "y"), x


@pytest.mark.parametrize("kind", ["conv", "gemm", "matmul"])
def test_biases_take_back_what_rounding_shifts(tmp_path: Path, kind: str) -> None:
    model, x = shift_model(tmp_path / "m.onnx", kind)
    used = calibrated(model, x)
    proto = onnx.load(model.path)
    placement = place(proto.graph)
    ranges = calibrate(proto, placement.tensors, single_feeds(used.inputs, {"x": x}), tmp_path).ranges(
        "min-max"
    )
    writer = IntegerWriter(proto, tmp_path, narrow=False)
    shifts = mean_shifts(writer, placement, ranges, single_feeds(used.inputs, {"x": x}), tmp_path)
    plain = run(writer.write(placement, ranges, tmp_path / "plain.onnx"), x)
    corrected = run(writer.write(placement, ranges, tmp_path / "corrected.onnx", shifts), x)
    expected = run(model.path, x)
    others = tuple(a for a in range(x.ndim) if a != 1)
    measured = (plain - expected).mean(others)
    step = affine(ranges.get("y", (0.0, 0.0))).scale.item()  # a convolution rounds its output, too
    most = float(np.abs(measured).max())
    assert most > step
    assert shifts["layer"] == pytest.approx(measured, abs=0.02 * most + 0.2 * step)
    assert np.abs((corrected - expected).mean(others)).max() < 0.2 * most

    notes = Int8().apply(model.path, tmp_path / "int8.onnx", used)
    assert any(note.startswith("biases corrected") for note in notes)
    assert relative(run(tmp_path / "int8.onnx", x), expected) < relative(plain, expected)


def test_what_lies_between_runs_on_integers(tmp_path: Path) -> None:
    """A ReLU read twice, bounds, sums, products with constants, concatenation and pooling."""
    rng = np.random.default_rng(2)
    weights = {f"w{i}": rng.standard_normal((8, 8, 3, 3)) / 8 for i in range(3)}
    weights |= {"c": rng.standard_normal((1, 8, 1, 1)), "zero": np.array(0.0), "six": np.array(6.0)}
    weights |= {"last": rng.standard_normal((4, 16, 1, 1)), "low": np.array(-0.5)}
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "conv0", **pads),
        helper.make_node("Clip", ["a", "zero", "six"], ["b"], "relu6"),
        helper.make_node("Conv", ["b", "w1"], ["d"], "conv1", **pads),
        helper.make_node("Add", ["d", "b"], ["e"], "residual"),
        helper.make_node("Relu", ["e"], ["f"], "relu"),
        helper.make_node("Mul", ["f", "c"], ["g"], "scaled"),
        helper.make_node("Conv", ["g", "w2"], ["h"], "conv2", **pads),
        helper.make_node("Concat", ["h", "f"], ["i"], "both", axis=1),
        helper.make_node("MaxPool", ["i"], ["j"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["j", "last"], ["k"], "head"),
        helper.make_node("Sigmoid", ["k"], ["y"], "sigmoid"),
    ]
    model = saved(tmp_path / "m.onnx", nodes, weights, [8, 8, 8], "y")
    x = samples(100, 8, 8, 8)
    variant = make_variant(model, "int8", calibrated(model, x), tmp_path / "out")
    assert relative(run(variant.path, x), run(model.path, x)) < 0.05
    as_written = run(variant.path, x, optimized=False)
    assert relative(run(variant.path, x), as_written) < 0.02
    found = kernels(variant.path, tmp_path)
    assert (
        found["QLinearConv"] == 4
        and found["QLinearAdd"] == found["QLinearMul"] == found["QLinearConcat"] == 1
    )
    assert found["DequantizeLinear"] == found["QuantizeLinear"] == 1
    assert not {"Conv", "Add", "Mul", "Relu", "Clip", "Concat"} & found.keys()


def test_a_bound_above_zero_is_not_folded(tmp_path: Path) -> None:
    weights = {f"w{i}": samples(6, 6, 3, 3, seed=i) / 6 for i in range(2)}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "conv0"),
        helper.make_node("Clip", ["a", "low", "high"], ["b"], "clip"),
        helper.make_node("Conv", ["b", "w1"], ["y"], "conv1"),
    ]
    bounds = {"low": np.array(0.5), "high": np.array(2.0)}
    model = saved(tmp_path / "m.onnx", nodes, weights | bounds, [6, 8, 8], "y")
    x = samples(64, 6, 8, 8)
    variant = make_variant(model, "int8", calibrated(model, x), tmp_path / "out")
    assert relative(run(variant.path, x), run(model.path, x)) < 0.05


def test_a_bias_far_larger_than_its_sums_is_kept(tmp_path: Path) -> None:
    weights = {"w": samples(16, 8) * 1e-7, "b": np.linspace(-3000, 3000, 8)}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer")
    model = saved(tmp_path / "m.onnx", [node], weights, [16], "y")
    x = samples(32, 16) * 1e-4
    variant = make_variant(model, "int8", calibrated(model, x), tmp_path / "out")
    assert run(variant.path, x) == pytest.approx(run(model.path, x), rel=1e-5, abs=1e-3)


def test_a_transposed_convolution_has_no_integer_kernel(tmp_path: Path) -> None:
    weights = {"w": samples(4, 4, 3, 3), "u": samples(4, 4, 2, 2, seed=1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("ConvTranspose", ["a", "u"], ["y"], "up", strides=[2, 2]),
    ]
    model = saved(tmp_path / "m.onnx", nodes, weights, [4, 8, 8], "y")
    variant = make_variant(model, "int8", calibrated(model, samples(32, 4, 8, 8)), tmp_path / "out")
    assert "1 left float: ConvTranspose has no integer kernel in ONNX Runtime" in variant.notes


def test_the_samples_to_measure_with_are_not_those_to_calibrate_with(tmp_path: Path) -> None:
    model = layered(tmp_path / "m.onnx", None)
    x = samples(100, 32)
    one, other = (
        set(c.calibration["x"][:, 0].tolist()) for c in split(calibrated(model, x)) if c.calibration
    )
    assert (len(one), len(other), len(one & other)) == (50, 50, 0)
    more = split(calibrated(model, samples(200, 32)))
    assert [len(c.calibration["x"]) for c in more if c.calibration] == [136, 64]
    few = split(calibrated(model, x[:10]))
    assert all(c.calibration and len(c.calibration["x"]) == 10 for c in few)
    many = split(calibrated(model, samples(2000, 32)))
    assert [len(c.calibration["x"]) for c in many if c.calibration] == [512, 64]


def test_the_error_is_noise_over_signal(tmp_path: Path) -> None:
    """y = x + 1 against y = x + 1.5: noise 0.25 a value, signal that of x."""
    paths = []
    for offset in (1.0, 1.5):
        node = helper.make_node("Add", ["x", "c"], ["y"], "add")
        paths.append(saved(tmp_path / f"{offset}.onnx", [node], {"c": np.array(offset)}, [50], "y"))
    x = samples(64, 50)
    used = calibrated(paths[0], x)
    reference = Reference.of(paths[0].path, used)
    assert reference.error(paths[0].path) == 0
    assert reference.error(paths[1].path) == pytest.approx(np.sqrt(0.25 / x.var(0).mean()), rel=1e-3)
    assert reference.error(paths[1].path, 8) == pytest.approx(np.sqrt(0.25 / x[:8].var(0).mean()), rel=1e-3)


def test_another_judge_or_tolerance_makes_the_variant_anew(tmp_path: Path) -> None:
    model = layered(tmp_path / "m.onnx", None)
    keys = []
    for digest, tolerated in (("a", 0.1), ("b", 0.1), ("b", 0.2)):
        used = calibrated(
            model, samples(32, 32), judge=lambda path: 0.0, tolerated_drop=tolerated, search_digest=digest
        )
        make_variant(model, "int8", used, tmp_path / "out")
        keys.append(json.loads((tmp_path / "out" / "int8" / "variant.json").read_text())["key"])
    assert keys[0] != keys[1] != keys[2]
