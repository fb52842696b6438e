"""A variant is judged on every backend that may serve it, and serves only where it holds the floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from plan_files import tiny_plan, write_plan

from planner import pipeline
from planner.backends.openvino import OpenVino
from planner.domain.profile import Configuration
from planner.pipeline.inputs import Prepared, environment_of
from planner.pipeline.steps import configurations


@pytest.fixture
def prepared(tiny_model: onnx_models.LabelledModel, tmp_path: Path) -> Prepared:
    path = write_plan(
        tmp_path / "plan.yaml",
        tiny_plan(tiny_model),
        workload={"rate_rps": 10},
        recipes=["fp32", "int8", "int8-dynamic", "fp8"],
        backends=["openvino", "onnxruntime", "openvino"],
        batch_sizes=[1, 2],
    )
    return pipeline.prepare(pipeline.load_spec(path).only)


def on(judged: pipeline.Judged) -> list[tuple[str, str]]:
    return [(j.variant.name, j.backend) for j in judged.judgements]


def spoil(monkeypatch: pytest.MonkeyPatch, spoiled: Any) -> list[int]:
    """OpenVINO sessions whose outputs go through ``spoiled``; returns what counts its inferences."""
    make = OpenVino._session
    count: list[int] = []

    class Spoiled:
        def __init__(self, session: Any) -> None:
            self._session = session

        def infer(self, feed: Any) -> list[np.ndarray]:
            count.append(1)
            return [spoiled(output) for output in self._session.infer(feed)]

    monkeypatch.setattr(OpenVino, "_session", lambda self, compiled: Spoiled(make(self, compiled)))
    return count


def test_each_variant_on_the_backends_that_run_it(prepared: Prepared) -> None:
    judged = pipeline.judge(prepared)
    assert on(judged) == [
        ("fp32", "onnxruntime"),
        ("fp32", "openvino"),
        ("int8", "onnxruntime"),
        ("int8", "openvino"),
        ("int8-dynamic", "onnxruntime"),
        ("fp8", "onnxruntime"),
    ]
    assert [v.name for v, _ in judged.variants] == ["fp32", "int8", "int8-dynamic", "fp8"]
    assert [v.name for v in judged.serving(prepared, "openvino")] == ["fp32", "int8"]
    by = {(j.variant.name, j.backend): j.quality for j in judged.judgements}
    fp32 = by["fp32", "openvino"]
    assert (fp32.drop_low, fp32.drop_high) == (0, 0), "fp32 is the baseline on any engine that computes it"


def test_its_own_quality_where_the_outputs_differ(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda output: -output)
    judged = pipeline.judge(prepared)
    by = {(j.variant.name, j.backend): j.quality for j in judged.judgements}
    assert by["int8", "openvino"].value < 0.5 < by["int8", "onnxruntime"].value
    assert judged.serving(prepared, "openvino") == []
    assert "int8" in [v.name for v in judged.serving(prepared, "onnxruntime")]
    rejected = {r.subject: r for r in judged.rejections}
    assert rejected["int8 on openvino"].stage == "quality"
    assert "the floor asks for" in rejected["fp32 on openvino"].reason
    assert "int8" not in rejected


def test_a_small_difference_without_consequence_is_still_judged_by_its_own_samples(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer changes, yet the engine computes something else: its doubt is what its samples leave."""
    spoil(monkeypatch, lambda output: output * np.float32(1.01))
    judged = pipeline.judge(prepared)
    by = {(j.variant.name, j.backend): j.quality for j in judged.judgements}
    assert by["fp32", "openvino"].drop == 0
    assert by["fp32", "openvino"].drop_high > 0


def test_what_was_judged_is_not_judged_again(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    count = spoil(monkeypatch, lambda output: output)
    first = pipeline.judge(prepared)
    inferences = len(count)
    assert inferences > 0
    assert pipeline.judge(prepared).judgements == first.judgements
    assert len(count) == inferences


def test_an_engine_that_fails_costs_only_its_own_candidates(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.errors import BackendError

    def refuse(self: OpenVino, compiled: Any) -> Any:
        raise BackendError("out of memory")

    monkeypatch.setattr(OpenVino, "_session", refuse)
    judged = pipeline.judge(prepared)
    assert {backend for _, backend in on(judged)} == {"onnxruntime"}
    assert {r.subject for r in judged.rejections} >= {"fp32 on openvino", "int8 on openvino"}
    assert all("out of memory" in r.reason for r in judged.rejections if r.subject.endswith("openvino"))
    assert judged.serving(prepared, "openvino") == []


def test_a_profile_belongs_to_its_own_backends_libraries(prepared: Prepared) -> None:
    """So that profiles taken before another backend was asked for stay valid."""
    assert dict(prepared.environment.libraries).keys() == {"onnxruntime", "openvino"}
    alone = environment_of(prepared, "onnxruntime")
    assert dict(alone.libraries).keys() == {"onnxruntime"}
    assert environment_of(prepared, "openvino").id != alone.id


def test_the_grid_names_the_backend(prepared: Prepared) -> None:
    variants = [variant for variant, _ in pipeline.judge(prepared).variants]
    grids: list[Configuration] = []
    for name in prepared.spec.backends:
        cells = configurations(prepared, variants[:2], name, prepared.places[0])
        grids += [cell.configuration for cell in cells]
    assert len(set(grids)) == len(grids) == 2 * 2 * 2
    assert {c.backend for c in grids} == {"onnxruntime", "openvino"}
