"""The whole path on a model for which batching pays: real variants, real measurement, real plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import yaml

from planner import plan
from planner.report import PlanReport, read_engines

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture(scope="module")
def planned(mlp_model: LabelledModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PlanReport]:
    folder = tmp_path_factory.mktemp("whole")
    content: dict[str, Any] = {
        "model": str(mlp_model.model),
        "dimensions": {"N": "batch"},
        "data": {"calibration": str(mlp_model.calibration), "evaluation": str(mlp_model.evaluation)},
        "accuracy": {"metric": "accuracy", "max_drop": "3%"},
        "workload": {"name": "mlp", "rate_rps": 6000, "slo": {"percentile": 90, "latency": "250ms"}},
        "recipes": ["fp32", "int8", "fp16"],
        "batch_sizes": [1, 8],
        "threads": [1],
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(content))
    return folder / "plan", plan(folder / "plan.yaml")


@pytest.fixture(scope="module")
def everything(planned: tuple[Path, PlanReport]) -> PlanReport:
    """The same with every configuration measured: what batching gains is not left to what a plan needs."""
    folder, _ = planned
    return plan(folder.parent / "plan.yaml", exhaustive=True)


def test_the_plan_batches_and_saves(planned: tuple[Path, PlanReport], everything: PlanReport) -> None:
    # Without batching the rate takes several times the replicas, so that no noise makes that as cheap.
    _, report = planned
    chosen = {t.candidate_id for p in report.fleet.placements for t in p.traffic}
    batches = {c.max_batch_size for c in report.candidates if c.id in chosen}
    assert batches == {8}
    assert report.baseline.saving is not None
    assert report.baseline.saving > 0.3
    by_id = {c.id: c.capacity_rps for c in everything.candidates}
    for candidate in everything.candidates:
        if candidate.max_batch_size == 8:
            alone = by_id.get(candidate.id.removesuffix("b8") + "b1")
            assert alone is None or candidate.capacity_rps > 1.5 * alone


def test_every_replica_keeps_its_headroom_and_slo(planned: tuple[Path, PlanReport]) -> None:
    _, report = planned
    candidates = {c.id: c for c in report.candidates}
    for placement in report.fleet.placements:
        for traffic in placement.traffic:
            candidate = candidates[traffic.candidate_id]
            crowded = placement.extrapolated
            capacity = candidate.packed_capacity_rps if crowded else candidate.capacity_rps
            assert traffic.replica_rps <= capacity * (1 - report.workloads[0].slo.headroom) * (1 + 1e-9)
            assert traffic.predicted_sojourn_ms <= report.workloads[0].slo.budget_ms


def test_what_could_not_serve_says_why(planned: tuple[Path, PlanReport]) -> None:
    _, report = planned
    assert all(r.reason for r in report.rejections)
    gpus = {r.subject for r in report.rejections if r.stage == "fleet"}
    assert "L4" in gpus, "no profile, no offer: a rejection, not a guess"


def test_the_engines_reproduce_the_reported_accuracy(
    planned: tuple[Path, PlanReport], mlp_model: LabelledModel
) -> None:
    folder, report = planned
    with np.load(mlp_model.evaluation) as data:
        x, labels = data["x"], data["labels"]
    reported = {v.variant: v.quality.value for v in report.variants}
    engines = read_engines(folder / "engines")
    assert engines
    for engine in engines:
        session = onnxruntime.InferenceSession(str(engine.path), providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, {"x": x})
        assert np.mean(scores.argmax(axis=1) == labels) == pytest.approx(reported[engine.variant], abs=1e-9)


def test_nothing_in_the_report_names_this_machine_s_folders(planned: tuple[Path, PlanReport]) -> None:
    folder, _ = planned
    for path in (folder / "plan.json", folder / "engines" / "manifest.json"):
        assert str(folder.parent) not in path.read_text()
