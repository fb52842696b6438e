"""An engine in a process of its own, with ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from planner.errors import BackendError
from planner.serving.engine import EngineDied, EngineProcess

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture
def engine(tiny_model: LabelledModel) -> Iterator[EngineProcess]:
    made = EngineProcess(tiny_model.model, "onnxruntime", 1)
    yield made
    made.close()
    assert not psutil.pid_exists(made.pid)


def test_it_infers_and_tells_how_long_that_took(engine: EngineProcess) -> None:
    found = engine.infer({"x": np.ones((3, 16), np.float32)})
    assert [output.shape for output in found.outputs] == [(3, 4)]
    assert found.engine_ns > 0


def test_what_it_refuses_harms_nobody_else(engine: EngineProcess) -> None:
    with pytest.raises(BackendError, match="x") as refused:
        engine.infer({"x": np.ones((1, 3), np.float32)})
    assert not isinstance(refused.value, EngineDied)
    assert "\n" not in str(refused.value)
    assert engine.infer({"x": np.ones((1, 16), np.float32)}).outputs[0].shape == (1, 4)


def test_killed_in_the_middle_it_says_so(engine: EngineProcess) -> None:
    psutil.Process(engine.pid).suspend()
    killing = threading.Timer(0.1, engine.kill)
    killing.start()
    with pytest.raises(EngineDied, match="killed by signal 9"):
        engine.infer({"x": np.ones((1, 16), np.float32)})
    with pytest.raises(EngineDied):
        engine.infer({"x": np.ones((1, 16), np.float32)})


def test_what_is_no_engine_is_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(BackendError, match=r"broken\.onnx") as refused:
        EngineProcess(path, "onnxruntime", 1)
    assert "\n" not in str(refused.value)


def test_what_does_not_load_in_time_is_ended(tiny_model: LabelledModel) -> None:
    with pytest.raises(EngineDied, match="killed"):
        EngineProcess(tiny_model.model, "onnxruntime", 1, load_timeout_s=0.001)
