"""The generated models are what they say: good ones run and are right, bad ones are bad in the way named."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest
from onnx_models import LabelledModel


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def accuracy(labelled: LabelledModel) -> float:
    data = np.load(labelled.evaluation)
    answers = session(labelled.model).run(["logits"], {"x": data["x"]})[0].argmax(axis=1)
    return float((answers == data["labels"]).mean())


@pytest.mark.parametrize("fixture", ["mlp_model", "tiny_model"])
def test_labelled_models_are_accurate_but_not_perfect(fixture: str, request: pytest.FixtureRequest) -> None:
    labelled: LabelledModel = request.getfixturevalue(fixture)
    calibration, evaluation = np.load(labelled.calibration), np.load(labelled.evaluation)
    assert 0.90 <= accuracy(labelled) <= 0.98
    assert calibration["x"].dtype == evaluation["x"].dtype == np.float32
    assert len(evaluation["x"]) == len(evaluation["labels"]) >= 400
    rows = np.concatenate([calibration["x"], evaluation["x"]])
    assert len(np.unique(rows, axis=0)) == len(rows), "calibration and evaluation share samples"
    assert set(calibration["labels"]) == set(evaluation["labels"])


def test_tiny_models_are_tiny_and_the_same_every_time(tmp_path: Path, tiny_model: LabelledModel) -> None:
    again = onnx_models.tiny(tmp_path / "model.onnx")
    assert again.model.read_bytes() == tiny_model.model.read_bytes()
    assert again.evaluation.read_bytes() == tiny_model.evaluation.read_bytes()
    assert again.model.stat().st_size < 50_000
    conv = onnx_models.tiny_conv(tmp_path / "conv.onnx")
    assert conv.stat().st_size < 50_000
    x = np.random.default_rng(0).standard_normal((3, 3, 12, 12), dtype=np.float32)
    assert session(conv).run(None, {"x": x})[0].shape == (3, 5)


def test_rows_of_a_batch_do_not_influence_each_other(mlp_model: LabelledModel) -> None:
    x = np.load(mlp_model.evaluation)["x"][:8]
    model = session(mlp_model.model)
    together = model.run(None, {"x": x})[0]
    alone = np.concatenate([model.run(None, {"x": row[np.newaxis]})[0] for row in x])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)


def test_batching_gain_is_shown(mlp_model: LabelledModel, capsys: pytest.CaptureFixture[str]) -> None:
    """Shown, not judged: time is not asserted on. The gain is the reason why this model exists."""
    x = np.load(mlp_model.evaluation)["x"]
    model = session(mlp_model.model)
    seconds: dict[int, float] = {}
    for batch_size in (1, 8):
        samples = []
        for _ in range(40):
            start = perf_counter()
            outputs = model.run(None, {"x": x[:batch_size]})
            samples.append(perf_counter() - start)
        assert outputs[0].shape == (batch_size, 10)
        seconds[batch_size] = float(np.median(samples))
    with capsys.disabled():
        gain = 8 * seconds[1] / seconds[8]
        print(
            f"\nmlp: batch 1 {seconds[1] * 1e3:.2f} ms, batch 8 {seconds[8] * 1e3:.2f} ms, gain {gain:.1f}x"
        )


def test_two_dynamic_dimensions_are_both_free(tmp_path: Path) -> None:
    model = session(onnx_models.two_dynamic_dimensions(tmp_path / "model.onnx"))
    assert model.get_inputs()[0].shape == ["N", "length", 8]
    for n, length in ((1, 5), (3, 2)):
        assert model.run(None, {"x": np.ones((n, length, 8), np.float32)})[0].shape == (n, length, 4)


def test_bad_models_are_bad_in_the_way_named(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(Exception, match=r"(?i)protobuf|parsing"):
        onnx.load(onnx_models.truncated(folder / "truncated.onnx"))

    missing = onnx_models.external_data_missing(folder / "missing.onnx")
    escaping = onnx_models.external_data_escaping(folder / "escaping.onnx")
    assert (tmp_path / "secret.bin").is_file()
    for path, location in ((missing, "weights.bin"), (escaping, "../secret.bin")):
        proto = onnx.load(path, load_external_data=False)  # the graph itself can be read
        (weight,) = proto.graph.initializer
        assert weight.external_data[0].value == location
    with pytest.raises((FileNotFoundError, onnx.checker.ValidationError)):
        onnx.load(missing)
