"""int8 and fp8 for TensorRT: what falls back, which method sets the ranges, and on what both are judged."""

from __future__ import annotations

from pathlib import Path

import network_models
import numpy as np
import onnx
import pytest
import sessions
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from planner.domain.model import Model
from planner.variants import Context, bind, make_variant, read_model
from planner.variants.calibration import Histogram
from planner.variants.qdq import E4M3, INT8, Grid
from planner.variants.reaches import REACHES, best_reach, full_reach

Array = np.ndarray
# A channel so much larger than the others that the rest falls below what the grid can tell from 0.
OUTLIER = {"int8-tensorrt": 1e3, "fp8": 1e6}


def run(path: Path, x: Array, optimized: bool = False) -> Array:
    return sessions.run(path, x, optimized)


def samples(count: int, seed: int, width: int = 32) -> Array:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def fragile(path: Path, name: str, culprit: int) -> Model:
    return read_model(network_models.layered(path, culprit, layers=4, outlier=OUTLIER[name]))


def left_float(notes: tuple[str, ...]) -> set[str]:
    found = [note for note in notes if "left float for accuracy" in note]
    return set(found[0].rpartition(": ")[2].split(", ")) if found else set()


def relative(got: Array, expected: Array) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected - expected.mean(0)))


def float_products(path: Path) -> set[str]:
    """Products whose weights and data are as the model has them."""
    graph = onnx.load(path).graph
    made = {t for n in graph.node if n.op_type == "DequantizeLinear" for t in n.output}
    return {n.name for n in graph.node if n.op_type == "Gemm" and not made & {*n.input}}


@pytest.mark.parametrize("name", ["int8-tensorrt", "fp8"])
@pytest.mark.parametrize("culprit", [1, 2])
@pytest.mark.parametrize("judged", [False, True])
def test_exactly_the_fragile_layer_stays_float(tmp_path: Path, name: str, culprit: int, judged: bool) -> None:
    model = fragile(tmp_path / "m.onnx", name, culprit)
    inputs = bind(model, {"N": "batch"})
    searched, fresh = samples(300, 1), samples(300, 2)
    expected = run(model.path, searched)
    asked: list[bool] = []

    def judge(path: Path, optimized: bool = True) -> float:
        asked.append(optimized)
        return relative(run(path, searched, optimized), expected)

    used = Context(
        inputs,
        {"x": samples(400, 0)},
        judge=judge if judged else None,
        tolerated_drop=0.12 if judged else None,
    )
    variant = make_variant(model, name, used, tmp_path / "out")
    assert left_float(variant.notes) == {f"layer{culprit}"} == float_products(variant.path)
    kind = "int8" if name == "int8-tensorrt" else "float8_e4m3fn"
    assert f"75% of the multiply-accumulates of convolutions and products in {kind}" in variant.notes
    assert relative(run(variant.path, fresh), run(model.path, fresh)) < 0.12
    assert bool(asked) == judged and not any(asked)  # never with graph optimizations

    loose = Context(inputs, {"x": samples(400, 0)}, judge=lambda path, optimized=True: 0.0)
    all_narrow = make_variant(model, name, loose, tmp_path / "loose")
    assert left_float(all_narrow.notes) == float_products(all_narrow.path) == set()
    assert relative(run(all_narrow.path, fresh), run(model.path, fresh)) > 0.15


def product(path: Path) -> Model:
    """One product of 64 inputs, the first of which nothing depends on."""
    weight = samples(64, 0, 64)
    weight[0] = 0
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return read_model(path)


@pytest.mark.parametrize(("name", "spike"), [("int8-tensorrt", 40), ("fp8", 1e6)])
def test_ranges_are_chosen_by_the_error_they_leave(tmp_path: Path, name: str, spike: float) -> None:
    model = product(tmp_path / "m.onnx")
    plain = np.random.default_rng(1).uniform(-1, 1, (400, 64)).astype(np.float32)
    spiked = plain.copy()
    spiked[::40, 0] = spike
    chosen = []
    for kind, x in (("plain", plain), ("spiked", spiked)):
        used = Context(bind(model, {"N": "batch"}), {"x": x})
        variant = make_variant(model, name, used, tmp_path / kind)
        (note,) = [n for n in variant.notes if n.startswith("ranges by ")]
        chosen.append(note.removeprefix("ranges by ").partition(":")[0])
        assert ("entropy" in note) == (name == "int8-tensorrt") and "MSE" in note and "percentile" in note
        assert relative(run(variant.path, plain), run(model.path, plain)) < (0.01 if name != "fp8" else 0.05)
    assert chosen[0] == "min-max" != chosen[1]


@pytest.mark.parametrize("grid", [INT8, E4M3])
@settings(max_examples=30)
@given(st.integers(0, 20), st.floats(0.001, 1000), st.booleans())
def test_reaches_lie_within_the_data_and_take_both_signs_alike(
    grid: Grid, seed: int, scale: float, positive: bool
) -> None:
    values = np.random.default_rng(seed).standard_t(3, 2000).astype(np.float32) * np.float32(scale)
    values = np.abs(values) if positive else values
    one, other = Histogram(), Histogram()
    one.add(values)
    other.add(-values)
    for method, reach in REACHES[grid].items():
        # A value on the edge of two bins falls into the upper one, whatever its sign.
        assert reach(one) == pytest.approx(reach(other), rel=0.05), method
        assert 0 < reach(one) <= full_reach(one) * (1 + 1e-6)
    assert REACHES[grid]["min-max"](one) == np.abs(values).max()
    clipped = REACHES[grid]["percentile 99.9"](one)
    assert (np.abs(values) > clipped * 1.001).mean() <= 0.001


def test_the_steps_of_a_float_grid_are_those_between_its_values() -> None:
    every = np.arange(0x7F, dtype=np.uint8).view(E4M3.dtype).astype(np.float64)
    middles = (every[1:] + every[:-1]) / 2
    assert np.array_equal(E4M3.steps(middles), np.diff(every))
    assert np.array_equal(INT8.steps(middles), np.ones_like(middles))


@pytest.mark.parametrize("power", [1, 3, 6])
def test_the_best_reach_on_the_float_grid(power: int) -> None:
    """Against quantizing the values themselves: from mild tails, which are kept, to those worth clipping."""
    values = samples(1 << 14, 4, 1).reshape(-1).astype(np.float64) ** power
    histogram = Histogram()
    histogram.add(values.astype(np.float32))

    def error(reach: float) -> float:
        scale = reach / E4M3.limit
        return float(np.square(E4M3.quantize(values, np.float64(scale)).astype(float) * scale - values).sum())

    widest = full_reach(histogram)
    least = min(error(widest * share) for share in np.linspace(1, 0.02, 99))
    assert error(best_reach(histogram, E4M3)) < 1.15 * least


def test_a_channel_of_zeros_gets_a_scale_that_half_precision_holds(tmp_path: Path) -> None:
    model = product(tmp_path / "m.onnx")
    proto = onnx.load(model.path)
    weight = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weight[:, 3] = 0
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(proto, model.path)
    model = read_model(model.path)
    used = Context(bind(model, {"N": "batch"}), {"x": samples(64, 0, 64)})
    for name in OUTLIER:
        variant = make_variant(model, name, used, tmp_path)
        scales = [i for i in onnx.load(variant.path).graph.initializer if i.name.endswith("/scale")]
        assert all((numpy_helper.to_array(s).astype(np.float16) > 0).all() for s in scales)
        assert not run(variant.path, samples(8, 1, 64))[:, 3].any()
