"""What a recipe's search is judged by: calibration data, and graphs as their backend computes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_models
import pytest

from planner.domain.quality import AccuracyFloor
from planner.errors import BackendError
from planner.pipeline.inputs import Entry
from planner.pipeline.search import search_context
from planner.quality import load_data, metric
from planner.variants import Context, bind, make_variant, read_model

FLOOR = AccuracyFloor("accuracy", minimum=None, max_drop=0.02)


@pytest.fixture
def entry(tiny_model: onnx_models.LabelledModel) -> Entry:
    model = read_model(tiny_model.model)
    inputs = bind(model, {model.inputs[0].shape[0]: "batch"})
    data = [
        load_data(str(path), path.parent, inputs, need_labels=True)
        for path in (tiny_model.calibration, tiny_model.evaluation)
    ]
    return Entry("", model, inputs, *data, recipes=("fp32", "fp8"), by_class=(("", inputs),))


def context_of(entry: Entry, name: str = "accuracy") -> Context:
    workload = SimpleNamespace(floor=FLOOR)
    prepared = SimpleNamespace(spec=SimpleNamespace(workload=workload), metric=metric(name))
    return search_context(prepared, entry)  # type: ignore[arg-type]


def test_the_judge_runs_a_graph_as_it_is_written_when_told_to(entry: Entry, tmp_path: Path) -> None:
    """ONNX Runtime's optimizations refuse 8-bit floats, and would turn integer pairs to other arithmetic."""
    used = context_of(entry)
    assert used.judge is not None and used.tolerated_drop == 0.01
    assert used.judge(entry.model.path) == used.judge(entry.model.path, optimized=False) == 0
    fp8 = make_variant(entry.model, "fp8", used, tmp_path)
    with pytest.raises(BackendError):
        used.judge(fp8.path)
    assert -0.05 < used.judge(fp8.path, optimized=False) < 0.05
    assert any("of the multiply-accumulates" in note for note in fp8.notes)


def test_the_evaluation_data_stay_out_of_it(entry: Entry, tmp_path: Path) -> None:
    """Whatever they hold, the same variant is made."""
    evaluation = {name: np.full_like(x, 1e30) for name, x in entry.evaluation.inputs.items()}
    other = replace(entry, evaluation=replace(entry.evaluation, inputs=evaluation, labels=None))
    made = [
        make_variant(e.model, "int8-tensorrt", context_of(e), tmp_path / str(i))
        for i, e in enumerate((entry, other))
    ]
    assert made[0].sha256 == made[1].sha256 and made[0].notes == made[1].notes
