"""A plan for several workloads that share a fleet, with periods, n+1 and a quota, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from plan_files import planner, tiny_plan

from planner.cli import render
from planner.report import PlanReport, json_schema, read_engines

if TYPE_CHECKING:
    from onnx_models import LabelledModel


def service(model: LabelledModel, name: str, **workload: Any) -> dict[str, Any]:
    own = tiny_plan(model)
    del own["workload"]["rate_rps"]
    own["workload"] |= {"name": name, **workload}
    own["recipes"] = ["fp32"]
    own["batch_sizes"] = [1, 2]
    return own


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: LabelledModel) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("several")
    content = {
        "services": [
            service(tiny_model, "day", rates_rps={"busy": 400_000, "quiet": 1_000}),
            service(tiny_model, "always", rate_rps=500, redundancy="n+1"),
        ],
        "fleet": {
            "periods": [{"name": "busy", "hours": 8}, {"name": "quiet", "hours": 16}],
            "providers": ["aws"],
            "quotas": [{"at_most": 64, "unit": "vcpus", "provider": "aws"}],
        },
    }
    spec = folder / "plan.yaml"
    spec.write_text(yaml.safe_dump(content))
    run = planner("plan", spec, "--json")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    jsonschema.validate(report, json_schema())
    return folder, report


def test_each_period_has_its_own_instances(made: tuple[Path, dict[str, Any]]) -> None:
    report = made[1]
    assert [w["name"] for w in report["workloads"]] == ["day", "always"]
    assert [p["name"] for p in report["periods"]] == ["busy", "quiet"]
    count = {
        period: sum(p["instances"] for p in report["fleet"]["placements"] if p["period"] == period)
        for period in ("busy", "quiet")
    }
    assert count["busy"] >= 2 and count["quiet"] >= 2, "any one instance may be lost"
    served: dict[tuple[str, str], float] = {}
    workload_of = {c["id"]: c["workload"] for c in report["candidates"]}
    for placement in report["fleet"]["placements"]:
        for traffic in placement["traffic"]:
            key = (placement["period"], workload_of[traffic["candidate_id"]])
            served[key] = served.get(key, 0.0) + traffic["rate_rps"]
    assert served == pytest.approx(
        {
            ("busy", "day"): 400_000,
            ("busy", "always"): 500,
            ("quiet", "day"): 1_000,
            ("quiet", "always"): 500,
        }
    )


def test_what_survives_the_loss_of_any_instance(made: tuple[Path, dict[str, Any]]) -> None:
    """From plan.json alone: the capacity that is left of `always` without each placement's one instance."""
    report = made[1]
    candidates = {c["id"]: c for c in report["candidates"]}
    headroom = report["workloads"][1]["slo"]["headroom"]
    for period in ("busy", "quiet"):
        placements = [p for p in report["fleet"]["placements"] if p["period"] == period]

        def takes(placement: dict[str, Any]) -> float:
            return sum(
                t["replicas_per_instance"]
                * candidates[t["candidate_id"]]["capacity_low_rps"]
                * (1 - headroom)
                for t in placement["traffic"]
                if candidates[t["candidate_id"]]["workload"] == "always"
            )

        total = sum(takes(p) * p["instances"] for p in placements)
        assert all(total - takes(p) >= 500 * (1 - 1e-6) for p in placements)


def test_engines_of_each_workload_and_the_table(
    made: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = made
    engines = read_engines(folder / "plan" / "engines")
    assert {engine.workload for engine in engines} == {"day", "always"}
    assert {engine.path.relative_to(folder / "plan" / "engines").parts[0] for engine in engines} == {
        "day",
        "always",
    }
    render.plan(PlanReport.model_validate(report), folder / "plan")
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert "1000 to 400000 requests/s" in shown or "1000 to 4e+05 requests/s" in shown
    assert "n+1" in shown and "busy" in shown


def test_a_quota_that_is_too_small_is_told(made: tuple[Path, dict[str, Any]]) -> None:
    folder = made[0]
    content = yaml.safe_load((folder / "plan.yaml").read_text())
    content["fleet"]["quotas"][0]["at_most"] = 1
    content["output"] = "plan"
    other = folder / "tight.yaml"
    other.write_text(yaml.safe_dump(content))
    run = planner("plan", other)
    assert run.returncode == 3, run.stdout
    assert run.stderr.count("\n") == 1 and "aws vcpus" in run.stderr
