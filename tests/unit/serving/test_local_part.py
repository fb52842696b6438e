"""Which part of a plan with several workloads and devices a machine holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_plans import C7I, mixed_fleet, write_plan

from planner.errors import InputError
from planner.serving.local import LocalPart, deployed_part, local_part
from planner.serving.protocol import TensorSpec


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By day three instances of four vCPUs, each with three replicas of search and one of rank."""
    return write_plan(tmp_path_factory.mktemp("mixed"), mixed_fleet())


def replicas(part: LocalPart) -> dict[str, int]:
    return {model.workload: model.replicas for model in part.models}


def test_each_candidate_gets_one_replica_before_any_gets_a_second(plan: Path) -> None:
    threads = {m.workload: m.candidate.threads for m in local_part(plan, 100).models}
    both = sum(threads.values())
    assert replicas(local_part(plan, both)) == {"search": 1, "rank": 1}
    assert replicas(local_part(plan, both + threads["search"])) == {"search": 2, "rank": 1}
    assert replicas(local_part(plan, 100)) == {"search": 3, "rank": 1}


def test_the_instance_s_price_is_divided_by_threads(plan: Path) -> None:
    whole = local_part(plan, 100)
    assert whole.offer.id == C7I.id
    assert sum(m.usd_per_hour * m.replicas for m in whole.models) == pytest.approx(C7I.usd_per_hour)
    assert [m.planned for m in whole.models] == [9, 3]
    assert [m.share for m in whole.models] == [1.0, 1.0]


def test_one_workload_only(plan: Path) -> None:
    only = local_part(plan, 100, "rank")
    assert replicas(only) == {"rank": 1}
    assert only.notes == ()


def test_what_does_not_fit_is_told(plan: Path) -> None:
    threads = min(m.candidate.threads for m in local_part(plan, 100).models)
    (note,) = local_part(plan, threads).notes
    assert note.endswith("nothing of it runs here.")


def test_inputs_and_outputs_come_from_the_engine(plan: Path) -> None:
    rank = next(m for m in local_part(plan, 100).models if m.workload == "rank")
    assert rank.spec.inputs == (TensorSpec("x", "FP32", (-1, 8)),)
    assert rank.spec.outputs == (TensorSpec("y", "FP32", (-1, 4)), TensorSpec("score", "FP32", (-1,)))
    assert [feed["x"].shape for feed in rank.zeros()] == [(size, 8) for size in rank.batch_sizes]


def test_what_runs_on_a_gpu_is_not_served_but_may_be_deployed(tmp_path: Path) -> None:
    report = mixed_fleet()
    gpus = [p for p in report.fleet.placements if p.offer_id != C7I.id]
    fleet = report.fleet.model_copy(update={"placements": gpus})
    plan = write_plan(tmp_path, report.model_copy(update={"fleet": fleet}))
    with pytest.raises(InputError, match="cannot run here"):
        local_part(plan, 100)
    assert all(model.replicas for model in deployed_part(plan).models)


def test_a_plan_without_engines_cannot_be_served(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, mixed_fleet())
    content = (plan / "plan.json").read_text()
    before, _, _ = content.partition('"engines": [')
    after = content.rpartition('"notes"')[2]
    (plan / "plan.json").write_text(f'{before}"engines": [],\n  "notes"{after}')
    with pytest.raises(InputError, match="imported"):
        local_part(plan, 100)
