"""Gates on a real model: made again as it was, and with something wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from changed_models import damaged, slower
from plan_files import write_plan

from planner import pipeline
from planner.gate import CANNOT_TELL, FAILED, PASSED, Gated, gate, read_policy, significance
from planner.gate import latency as by_turns
from planner.profiling import bench

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well percentiles are known is not what is tested here."""
    monkeypatch.setattr(bench, "SECONDS", 0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledModel:
    import onnx_models

    path = tmp_path_factory.mktemp("small") / "model.onnx"
    return onnx_models.mlp(path, features=64, hidden=256, layers=3, noise=2.0)


def content(data: LabelledModel) -> dict[str, Any]:
    return {
        "model": str(data.model),
        "dimensions": {"N": "batch"},
        "data": {"calibration": str(data.calibration), "evaluation": str(data.evaluation)},
        "accuracy": {"metric": "accuracy", "max_drop": 0.05},
        "workload": {"rate_rps": 100, "slo": {"percentile": 90, "latency": "500ms"}},
        "recipes": ["fp32"],
        "batch_sizes": [1],
        "threads": [1],
    }


@pytest.fixture(scope="module")
def present(data: LabelledModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with plan.yaml, and the present plan in ``plan``."""
    folder = tmp_path_factory.mktemp("present")
    fleet = pipeline.load_spec(write_plan(folder / "plan.yaml", content(data)))
    pipeline.publish(pipeline.plan(fleet), fleet)
    return folder


def gated(
    present: Path, folder: Path, data: LabelledModel, model: Path, baseline: Path | None = None
) -> Gated:
    folder.mkdir(exist_ok=True)
    fleet = pipeline.load_spec(write_plan(folder / "plan.yaml", content(data), model=str(model)))
    return gate(fleet, baseline or present / "plan", read_policy(None))


def by_rule(found: Gated) -> dict[str, str]:
    return {outcome.rule: outcome.verdict for outcome in found.outcomes}


def test_an_unchanged_model_passes_every_rule(present: Path, tmp_path: Path, data: LabelledModel) -> None:
    # Everything is made and measured anew: nothing is in this folder.
    found = gated(present, tmp_path, data, data.model)
    assert not found.violated, [outcome.words for outcome in found.violated]
    assert by_rule(found)["accuracy"] == by_rule(found)["latency"] == PASSED
    assert by_rule(found)["verification"] != FAILED
    assert found.new is not None
    assert found.new.folder == tmp_path / "plan" / "gate"


def test_a_model_that_is_worse_and_much_slower_is_caught_by_both_rules(
    present: Path, tmp_path: Path, data: LabelledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twenty times the work, so that few launches show it, whatever else the machine does.
    monkeypatch.setattr(significance, "LOOKS", (3, 6))
    wrong = slower(damaged(data.model, tmp_path / "worse.onnx", 1.0), tmp_path / "wrong.onnx", 19.0)
    found = gated(present, tmp_path / "new", data, wrong)
    assert {"accuracy", "latency"} <= {outcome.rule for outcome in found.violated}
    (accuracy,) = [outcome for outcome in found.outcomes if outcome.rule == "accuracy"]
    assert "sample by sample" in accuracy.words


def test_without_the_baseline_s_engines_accuracy_is_judged_by_reports(
    present: Path, tmp_path: Path, data: LabelledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_turns, "launch", None)  # nothing is measured
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("plan.json", "problem.json"):
        shutil.copyfile(present / "plan" / name, alone / name)
    worse = damaged(data.model, tmp_path / "worse.onnx", 2.0)
    found = gated(present, tmp_path / "new", data, worse, alone)
    assert by_rule(found)["accuracy"] == FAILED
    assert by_rule(found)["latency"] == CANNOT_TELL
    assert "manifest" in next(o.words for o in found.outcomes if o.rule == "latency")
