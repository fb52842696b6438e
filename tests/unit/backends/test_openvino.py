"""OpenVINO against ONNX Runtime on the same files, in the precision that each file asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from planner.backends import backend
from planner.backends.openvino import OpenVino, OpenVinoThroughput
from planner.errors import BackendError
from planner.profiling.environment import usable_cores
from planner.variants import Context, bind, evaluation_of, make_variant, read_model

if TYPE_CHECKING:
    from onnx_models import LabelledModel

BACKENDS = ("openvino", "openvino-throughput")
RECIPES = ("fp32", "int8", "fp16", "prune-30+int8")


def run(name: str, path: Path, *feeds: dict[str, Any], threads: int = 2) -> list[list[np.ndarray]]:
    with backend(name).load(path, threads) as session:
        return [session.infer(feed) for feed in feeds]


def variant_of(model: Path, data: np.ndarray, recipe: str, folder: Path) -> Path:
    read = read_model(model)
    inputs = bind(read, {"N": "batch"})
    return make_variant(read, recipe, Context(inputs, {"x": data}), folder / "variants").path


def assert_same(outputs: list[np.ndarray], expected: list[np.ndarray], tolerance: float = 1e-5) -> None:
    assert [o.shape for o in outputs] == [e.shape for e in expected]
    for output, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_classifier_and_its_variants(recipe: str, tiny_model: LabelledModel, tmp_path: Path) -> None:
    with np.load(tiny_model.calibration) as data:
        x = data["x"]
    path = variant_of(tiny_model.model, x, recipe, tmp_path)
    feeds = [{"x": x[:size]} for size in (1, 3, 8)]
    expected = run("onnxruntime", path, *feeds)
    for name in BACKENDS:
        for outputs, wanted in zip(run(name, path, *feeds), expected, strict=True):
            assert_same(outputs, wanted)


def test_inputs_may_lie_in_memory_as_they_like(tiny_model: LabelledModel) -> None:
    """Contiguous ones are read where they are, others copied: strided, read-only, of another float type."""
    with np.load(tiny_model.calibration) as data:
        x = data["x"][:8]
    strided = np.repeat(x, 2, axis=0)[::2]
    frozen = x.copy()
    frozen.flags.writeable = False
    changed = x.copy()
    feeds = [{"x": array} for array in (x, strided, frozen, x.astype(np.float64), changed, x[:3], x)]
    (expected,) = run("onnxruntime", tiny_model.model, {"x": x})
    with backend("openvino").load(tiny_model.model, 1) as session:
        found = [session.infer(feed) for feed in feeds]
        changed[:] = 0
        again = session.infer({"x": x})
    for number, outputs in enumerate((*found, again)):
        assert_same(outputs, [wanted[:3] if number == 5 else wanted for wanted in expected])


@pytest.mark.parametrize("recipe", ["fp32", "int8"])
def test_convolutions(recipe: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((16, 3, 12, 12), dtype=np.float32)
    path = variant_of(onnx_models.tiny_conv(tmp_path / "conv.onnx"), x, recipe, tmp_path)
    (expected,) = run("onnxruntime", path, {"x": x})
    for name in BACKENDS:
        # A value on the border of two integers may round to either.
        assert_same(run(name, path, {"x": x})[0], expected, 0.02 if recipe == "int8" else 1e-5)


@pytest.mark.parametrize("name", BACKENDS)
def test_outputs_come_in_the_models_order(name: str, tmp_path: Path) -> None:
    """Also those that other nodes read, and an input handed through; dtypes as in the model."""
    path = tmp_path / "several.onnx"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 4])
    nodes = [
        helper.make_node("Relu", ["x"], ["z"]),
        helper.make_node("Neg", ["z"], ["a"]),
        helper.make_node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["a", "f"], ["m"]),
        helper.make_node("Add", ["ids", "ids"], ["twice"]),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in ("z", "m", "a")]
    twice = helper.make_tensor_value_info("twice", TensorProto.INT64, ["N", 4])
    graph = helper.make_graph(nodes, "several", [x, ids], [*outputs[:1], twice, *outputs[1:]])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    rng = np.random.default_rng(0)
    feed = {"ids": rng.integers(0, 9, (5, 4)), "x": rng.standard_normal((5, 4), dtype=np.float32)}
    (expected,) = run("onnxruntime", path, feed)
    (found,) = run(name, path, feed)
    assert [o.dtype for o in found] == [e.dtype for e in expected]
    assert_same(found, expected)


@pytest.mark.parametrize("name", BACKENDS)
def test_outputs_stay_as_they_were_when_the_next_come(name: str, tiny_model: LabelledModel) -> None:
    x = np.ones((4, 16), np.float32)
    with backend(name).load(tiny_model.model, 2) as session:
        (first,) = session.infer({"x": x})
        kept = first.copy()
        session.infer({"x": -5 * x})
    np.testing.assert_array_equal(first, kept)


def layer_precisions(model: Any) -> set[str]:
    found = set()
    for node in model.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in ("FullyConnected", "MatMul"):
            found.add(info["runtimePrecision"].astype(str))
    return found


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a session is made from, kept to be looked at."""
    seen: list[Any] = []

    def remembering(make: Callable[..., Any]) -> Callable[..., Any]:
        def remember(self: OpenVino, model: Any) -> Any:
            seen.append(model)
            return make(self, model)

        return remember

    for kind in (OpenVino, OpenVinoThroughput):
        monkeypatch.setattr(kind, "_session", remembering(kind._session))
    return seen


def test_float32_is_computed_in_float32(tiny_model: LabelledModel, compiled: list[Any]) -> None:
    """On CPUs with bfloat16, OpenVINO left alone would compute in that."""
    run("openvino", tiny_model.model)
    assert layer_precisions(compiled[0]) == {"f32"}


def test_a_bfloat16_variant_is_computed_in_bfloat16(
    tiny_model: LabelledModel, tmp_path: Path, compiled: list[Any]
) -> None:
    import openvino

    with np.load(tiny_model.calibration) as data:
        x = data["x"]
    path = variant_of(tiny_model.model, x, "bf16", tmp_path)
    (found,) = run("openvino", path, {"x": x})
    variant = make_variant(
        read := read_model(tiny_model.model),
        "bf16",
        Context(bind(read, {"N": "batch"}), {"x": x}),
        tmp_path / "variants",
    )
    (emulated,) = run("onnxruntime", evaluation_of(variant).path, {"x": x})
    assert_same(found, emulated, 0.02)
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert layer_precisions(compiled[0]) == {"bf16"}


def test_threads_and_hints_reach_the_device(tiny_model: LabelledModel, compiled: list[Any]) -> None:
    run("openvino", tiny_model.model, threads=1)
    run("openvino", tiny_model.model, threads=2)
    run("openvino-throughput", tiny_model.model, threads=2)
    asked = [(m.get_property("INFERENCE_NUM_THREADS"), m.get_property("NUM_STREAMS")) for m in compiled]
    if usable_cores() >= 2:
        assert asked == [(1, 1), (2, 1), (2, 2)]
    assert not any(m.get_property("ENABLE_CPU_PINNING") for m in compiled), (
        "replicas would pin the same cores"
    )


def one_line(raised: pytest.ExceptionInfo[BackendError], *expected: str) -> None:
    assert "\n" not in str(raised.value)
    for part in expected:
        assert part in str(raised.value)


def test_a_model_that_it_cannot_read(tmp_path: Path) -> None:
    path = onnx_models.truncated(tmp_path / "cut.onnx")
    with pytest.raises(BackendError) as raised, backend("openvino").load(path, 1):
        pass
    one_line(raised, "cut.onnx", "OpenVINO cannot load it")


def test_an_operator_that_it_does_not_know(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    node = helper.make_node("Unheard", ["x"], ["y"], domain="of.us")
    graph = helper.make_graph([node], "odd", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("of.us", 1)]
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    with pytest.raises(BackendError) as raised, backend("openvino").load(path, 1):
        pass
    one_line(raised, "odd.onnx", "Unheard")


@pytest.mark.parametrize("name", BACKENDS)
def test_a_feed_that_does_not_fit(name: str, tiny_model: LabelledModel) -> None:
    x = np.ones((2, 16), np.float32)
    with backend(name).load(tiny_model.model, 1) as session:
        session.infer({"x": x})
        with pytest.raises(BackendError, match="input x: missing"):
            session.infer({"y": x})
        with pytest.raises(BackendError) as raised:
            session.infer({"x": x[:, :3]})
        one_line(raised, "OpenVINO cannot infer", "incompatible")


def test_a_graph_as_it_is_written_is_refused(tiny_model: LabelledModel) -> None:
    with (
        pytest.raises(BackendError, match="use onnxruntime"),
        backend("openvino").load(tiny_model.model, 1, optimized=False),
    ):
        pass


def test_streams_need_a_batch_to_split(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "fixed", [x], [y])
    path = tmp_path / "fixed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with (
        pytest.raises(BackendError, match=r"fixed.onnx: .*first axis"),
        backend("openvino-throughput").load(path, 2),
    ):
        pass
    feed = {"x": np.ones((2, 4), np.float32)}
    assert_same(run("openvino", path, feed)[0], [feed["x"]])


def test_a_device_that_is_not_here() -> None:
    reason = backend("openvino-gpu").missing()
    if reason is None:
        pytest.skip("there is an Intel GPU")
    assert "finds no GPU here" in reason
