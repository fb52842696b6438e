"""What is here, and the doctor: each backend asked in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from planner.backends import backend
from planner.domain.model import BoundInput
from planner.profiling import check as check_module
from planner.profiling import doctor
from planner.profiling.check import Check, check, loadable
from planner.profiling.devices import here
from planner.profiling.nvml import Gpu, Gpus, MigDevice


def gpu(index: int, slices: tuple[MigDevice, ...] = (), mig: bool = False) -> Gpu:
    return Gpu(index, f"GPU-{index}", "NVIDIA H100", 1, 0, "9.0", *(None,) * 6, (), (), mig, slices)  # type: ignore[arg-type]


def test_the_devices_that_can_compute() -> None:
    """Whole GPUs, and slices instead of those that are split; one split into nothing cannot."""
    parts = tuple(MigDevice(f"MIG-{i}", "1g.10gb", 1, 0, ()) for i in range(2))
    seen = Gpus("575", "12.9", (gpu(0), gpu(1, parts, mig=True), gpu(2, mig=True)), None)
    asked: list[str] = []

    def ask(name: str) -> Check:
        asked.append(name)
        cpu = name == "onnxruntime"
        return Check(
            name, "cpu" if cpu else "nvidia-gpu", missing=None if cpu else "libcuda.so.1: cannot open"
        )

    found = here(names=("onnxruntime", "onnxruntime-cuda"), ask=ask, see=lambda: seen)
    assert [(g.index, part and part.uuid) for g, part in found.computing()] == [
        (0, None),
        (1, "MIG-0"),
        (1, "MIG-1"),
    ]
    assert sorted(asked) == ["onnxruntime", "onnxruntime-cuda"]
    assert found.running_on("cpu") == ("onnxruntime",)
    assert found.running_on("nvidia-gpu") == ()
    assert found.cpu.cores >= 1
    assert found.cpu.device


def test_a_backend_that_can_run_says_so() -> None:
    found = check("onnxruntime")
    assert found.can_run
    assert dict(found.libraries).keys() == {"onnxruntime"}


def test_a_failing_engine_is_a_failure_and_not_a_lack(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    found = check("onnxruntime", tmp_path / "no.onnx", {})
    assert found.missing is None
    assert "no.onnx" in (found.failure or "")
    assert not found.can_run


def test_a_crash_takes_down_its_own_process_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (tmp_path / "crashing").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "crashing"))
    assert check("onnxruntime").failure == "its process died (killed by signal 11)"


def test_a_hang_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hanging").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "hanging").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "hanging"))
    monkeypatch.setattr(check_module, "TIMEOUT_S", 0.2)
    assert "seems to hang" in (check("onnxruntime").failure or "")


def test_tensorrt_builds_its_engine_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import planner.backends.tensorrt as tensorrt

    ordered = []

    def engine_for(name: str, model: Path, order: tensorrt.Order, folder: Path) -> SimpleNamespace:
        ordered.append((name, model, order))
        return SimpleNamespace(engine=folder / "made.engine")

    monkeypatch.setattr(tensorrt, "engine_for", engine_for)
    model = tmp_path / "model.onnx"
    model.write_bytes(b"graph")
    feed = {"x": np.zeros((4, 3, 8, 8), np.float32)}
    assert loadable(backend("onnxruntime"), model, feed, tmp_path) == model
    assert loadable(backend("tensorrt"), model, feed, tmp_path) == tmp_path / "made.engine"
    ((name, source, order),) = ordered
    assert (name, source) == ("tensorrt", model)
    assert order.inputs == (BoundInput("x", "float32", (1, 3, 8, 8), 0),)
    assert order.batch_sizes == (4,)


def test_what_is_here_agrees_with_onnx() -> None:
    first, second = doctor.examine(("onnxruntime", "openvino"))
    assert first.agrees
    assert second.agrees
    assert not first.wrong
    assert first.error is not None
    assert first.error < 1e-5


def test_a_lower_precision_than_asked_for_is_noticed(tmp_path: Path) -> None:
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    doctor.write_model(tmp_path / "model.onnx")
    feed = {"x": np.random.default_rng(0).standard_normal((4, 3, 8, 8), dtype=np.float32)}
    compiled = openvino.Core().compile_model(
        str(tmp_path / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"}
    )
    careless = list(compiled(feed).values())
    expected = doctor.reference(tmp_path / "model.onnx", feed)
    with backend("openvino").load(tmp_path / "model.onnx", 1) as session:
        assert doctor.difference(session.infer(feed), expected) < doctor.TOLERANCE / 10
    assert doctor.difference(careless, expected) > doctor.TOLERANCE


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([np.array([1.0, -4.0])], 0.0),
        ([np.array([1.0, -3.0])], 0.25),
        ([np.array([1.0])], float("inf")),
        ([], float("inf")),
        ([np.array([1.0, np.nan])], float("inf")),
        ([np.array([np.inf, -4.0])], float("inf")),
    ],
)
def test_the_difference_is_a_share_of_the_largest_output(outputs: list[np.ndarray], expected: float) -> None:
    assert doctor.difference(outputs, [np.array([1.0, -4.0])]) == expected


def test_a_finding_that_is_wrong() -> None:
    lacking = Check("tensorrt", "nvidia-gpu", missing="no GPU")
    failing = Check("openvino", "cpu", failure="crashed")
    assert not doctor.Finding(lacking, None).wrong, "what cannot run here is not wrong"
    assert doctor.Finding(failing, None).wrong
    assert doctor.Finding(Check("openvino", "cpu"), 0.5).wrong
    assert not doctor.Finding(Check("openvino", "cpu"), 1e-6).wrong
    assert json.dumps(lacking.libraries) == "[]"
