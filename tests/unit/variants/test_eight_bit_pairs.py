"""int8 and fp8 pairs for TensorRT: symmetric, one scale a channel, on the grid, and close to the model."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import network_models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from planner.errors import VariantError
from planner.variants import Context, bind, read_model, recipe
from planner.variants.calibration import Histogram
from planner.variants.qdq import E4M3, INT8, bfloat16_above
from planner.variants.reaches import best_reach


def run(path: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 16, 16)).astype(np.float32)


def tokens(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, (count, 12))


@pytest.fixture(scope="module", params=["residual", "transformer"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Path, context, and inputs to judge by."""
    folder = tmp_path_factory.mktemp(request.param)
    path = getattr(network_models, request.param)(folder / "m.onnx")
    samples = images if request.param == "residual" else tokens
    used = Context(bind(read_model(path), {"N": "batch"}), {"x": samples(32)})
    return path, used, samples(64, seed=1)


@pytest.mark.parametrize(
    ("name", "element", "bound"),
    [("int8-tensorrt", TensorProto.INT8, 0.03), ("fp8", TensorProto.FLOAT8E4M3FN, 0.1)],
)
def test_pairs_are_symmetric_and_the_result_close(network, tmp_path: Path, name, element, bound) -> None:
    source, used, x = network
    made = tmp_path / "model.onnx"
    recipe(name).apply(source, made, used)
    onnx.checker.check_model(str(made))
    graph = onnx.load(made).graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kinds = {t.name: t.data_type for t in graph.initializer}
    pairs = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs and all(kinds[n.input[2]] == element and not arrays[n.input[2]].any() for n in pairs)
    for node in pairs:
        scale = arrays[node.input[1]]
        assert np.array_equal(scale.astype(ml_dtypes.bfloat16).astype(np.float32), scale)
        if node.input[0] in arrays:  # a weight: one scale a channel
            assert kinds[node.input[0]] == element
            assert scale.shape == (arrays[node.input[0]].shape[node.attribute[0].i],)
    assert TensorProto.INT32 not in kinds.values()  # no quantized bias
    expected = run(source, x)
    assert np.sqrt(np.square(run(made, x) - expected).mean()) < bound * expected.std()
    before = onnx.load(source).graph
    assert (list(before.input), list(before.output)) == (list(graph.input), list(graph.output))


def test_a_residual_branch_is_quantized_and_the_sum_it_joins_is_not(tmp_path: Path) -> None:
    source = network_models.residual(tmp_path / "m.onnx")
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": images(8)})
    recipe("int8-tensorrt").apply(source, tmp_path / "out.onnx", used)
    graph = onnx.load(tmp_path / "out.onnx").graph
    makers = {t: n.op_type for n in graph.node for t in n.output}
    (add,) = [n for n in graph.node if n.op_type == "Add"]
    assert sorted(makers[t] for t in add.input) == ["Conv", "DequantizeLinear"]
    # What follows a convolution is left to be fused with it.
    assert all(
        makers[n.input[0]] == "Conv" or n.input[0] == add.output[0] for n in graph.node if n.op_type == "Relu"
    )


def test_fp8_leaves_convolutions_without_kernels(tmp_path: Path) -> None:
    source = network_models.residual(tmp_path / "m.onnx")
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": images(8)})
    notes = recipe("fp8").apply(source, tmp_path / "out.onnx", used)
    assert "2 left float: Conv in groups, or whose channels are no multiple of 16" in notes


def test_grids_round_to_the_nearest_value() -> None:
    every = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    values = np.random.default_rng(0).normal(0, 150, 3000).astype(np.float32)
    for grid, points in ((E4M3, np.unique(every[np.isfinite(every)])), (INT8, np.arange(-127, 128))):
        got = grid.quantize(values * 2, np.float32(2)).astype(np.float32)
        assert set(got) <= set(points.astype(np.float32))
        distances = np.abs(points - np.clip(values, -grid.limit, grid.limit)[:, None])
        assert np.abs(got - np.clip(values, -grid.limit, grid.limit)) == pytest.approx(distances.min(1))


def test_bfloat16_above_is_the_next_one_up() -> None:
    values = np.exp(np.random.default_rng(0).normal(0, 5, 1000)).astype(np.float32)
    above = bfloat16_above(values)
    assert np.array_equal(above.astype(ml_dtypes.bfloat16).astype(np.float32), above)
    below = (above.view(np.uint32) - 0x10000).view(np.float32)
    assert np.all((below < values) & (values <= above))
    assert np.array_equal(bfloat16_above(above), above) and bfloat16_above(np.zeros(1))[0] > 0


def test_clipping_an_outlier_pays() -> None:
    histogram, plain = Histogram(), Histogram()
    values = np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32)
    plain.add(values)
    values[0] = 60
    histogram.add(values)
    reach = best_reach(histogram, INT8)
    assert 3 < best_reach(plain, INT8) < reach < 60

    def error(end: float) -> float:
        return float(np.square(np.clip(np.rint(values * 127 / end), -127, 127) * end / 127 - values).sum())

    assert error(reach) < 0.8 * error(60)
    assert error(reach) < 1.05 * min(error(float(end)) for end in np.linspace(2, 60, 200))


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    source = network_models.residual(tmp_path / "m.onnx", channels=24)
    inputs = bind(read_model(source), {"N": "batch"})
    bad = images(4)
    bad[0] = np.nan
    with pytest.raises(VariantError, match="is not finite on the calibration samples"):
        recipe("int8-tensorrt").apply(source, tmp_path / "out.onnx", Context(inputs, {"x": bad}))
