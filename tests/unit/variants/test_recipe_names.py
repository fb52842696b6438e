"""Recipes by name: families with a number, chains, and what each can run on."""

from __future__ import annotations

from pathlib import Path

import network_models
import numpy as np
import onnx
import onnxruntime
import pytest

from planner.errors import SpecError, VariantError
from planner.variants import Context, bind, read_model, recipe, recipe_names


def test_every_recipe_says_what_it_can_run_on() -> None:
    known = {"onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"}
    for name in recipe_names():
        chosen = recipe(name.replace("-N", "-30"))
        assert chosen.name == name.replace("-N", "-30")
        assert chosen.backends and chosen.backends <= known
        assert chosen.min_compute_capability is None or chosen.min_compute_capability >= (7, 0)


def test_a_chain_runs_where_all_its_steps_do() -> None:
    assert recipe("prune-30+int8").backends == {"onnxruntime", "openvino"}
    assert recipe("sparse-2:4+fp8").backends == {"tensorrt", "tensorrt-rtx"}
    assert recipe("sparse-2:4+fp8").min_compute_capability == (8, 9)
    assert recipe("prune-30+lowrank-25").min_compute_capability is None
    assert recipe("fp8+bf16").evaluate_unoptimized and not recipe("prune-30+int8").evaluate_unoptimized


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("prune-95", "'prune-95': the share in percent has to be 5 to 90"),
        ("lowrank-0", "'lowrank-0': the share in percent has to be 5 to 90"),
        ("prune", "unknown recipe 'prune'; did you mean prune-N"),
        ("prune-x", "did you mean prune-N"),
        ("prune--30", "did you mean prune-N"),
        ("sparse-2-4", "did you mean sparse-2:4"),
        ("quantum", "there are fp32, int8"),
        ("prune-30+prune-50", "nor a recipe twice"),
        ("int8+int8-tensorrt", "no backend runs all of its steps; int8 runs on onnxruntime and openvino"),
    ],
)
def test_names_that_make_no_sense(name: str, match: str) -> None:
    with pytest.raises(SpecError, match=match) as caught:
        recipe(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["prune-30+int8", "lowrank-25+fp16", "sparse-2:4+fp8", "prune-30+sparse-2:4+int8-tensorrt"]
)
def test_chains(tmp_path: Path, name: str) -> None:
    source = network_models.transformer(tmp_path / "m.onnx", layers=1)
    rng = np.random.default_rng(0)
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": rng.integers(0, 100, (24, 12))})
    notes = recipe(name).apply(source, tmp_path / "out.onnx", used)
    for step in name.split("+"):
        assert any(note.startswith(f"{step}: ") for note in notes)
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    x = rng.integers(0, 100, (64, 12))

    def run(path: Path) -> np.ndarray:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if recipe(name).evaluate_unoptimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"x": x})[0])

    expected = run(source)
    assert np.sqrt(np.square(run(tmp_path / "out.onnx") - expected).mean()) < 0.2 * expected.std()


def test_pruning_removes_what_it_says(tmp_path: Path) -> None:
    source = network_models.residual(tmp_path / "m.onnx")
    images = np.random.default_rng(0).standard_normal((16, 3, 16, 16)).astype(np.float32)
    inputs = bind(read_model(source), {"N": "batch"})
    notes = recipe("prune-30").apply(source, tmp_path / "out.onnx", Context(inputs, {"x": images}))
    assert notes[0] == "72 of 256 channels removed"
    before, after = onnx.load(source).graph, onnx.load(tmp_path / "out.onnx").graph
    assert (list(before.input), list(before.output)) == (list(after.input), list(after.output))
    assert sum(np.prod(t.dims) for t in after.initializer) < 0.7 * sum(
        np.prod(t.dims) for t in before.initializer
    )
    with pytest.raises(VariantError, match="prune-30: needs calibration samples"):
        recipe("prune-30").apply(source, tmp_path / "out.onnx", Context(inputs, None))


def test_samples_that_are_whole_inputs_or_rows(tmp_path: Path) -> None:
    """A fixed batch of 4: samples are rows of it, or inputs of 4 rows; both prune alike."""
    proto = onnx.load(network_models.residual(tmp_path / "m.onnx", channels=16))
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(proto, tmp_path / "fixed.onnx")
    inputs = bind(read_model(tmp_path / "fixed.onnx"), {})
    images = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)
    made = []
    for k, samples in enumerate((images, images.reshape(2, 4, 3, 16, 16))):
        target = tmp_path / f"{k}.onnx"
        recipe("prune-30").apply(tmp_path / "fixed.onnx", target, Context(inputs, {"x": samples}))
        made.append(target.read_bytes())
    assert made[0] == made[1]
