"""A plan that was measured: explained without measuring again, and kept when there is a new one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from plan_files import planner, tiny_plan, write_plan

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: LabelledModel) -> tuple[Path, dict[str, Any]]:
    """The folder of plan.yaml and a plan beside it, read only; and that plan."""
    folder = tmp_path_factory.mktemp("measured")
    content = tiny_plan(tiny_model) | {"recipes": ["fp32"]}
    run = planner("plan", write_plan(folder / "plan.yaml", content), "--json")
    assert run.returncode == 0, run.stderr
    return folder, json.loads(run.stdout)


def test_curves_over_profiles_pass_through_the_plan(made: tuple[Path, dict[str, Any]]) -> None:
    folder, report = made
    before = {path: path.stat().st_mtime_ns for path in (folder / "plan").rglob("*")}
    sweeps = ("--sweep", "slo=20ms:400ms:3", "--sweep", "floor=1%:10%:3", "--sweep", "rate=50:200:3")
    run = planner("explain", folder / "plan", "--json", *sweeps)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    cost = report["fleet"]["cost"]["usd_per_hour"]
    for curve in told["curves"]:
        own = [p["usd_per_hour"] for p in curve["points"] if p["value"] == curve["asked"]]
        assert own == [pytest.approx(cost)], curve["over"]
        assert "could only make other points cheaper" in curve["note"]
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "plan").rglob("*")}
    assert {c["id"][-2:] for c in report["candidates"]} == {"b1"}
    assert any(note.startswith("Candidates that were not measured in full: 1.") for note in told["notes"])


def test_profiles_that_are_gone_are_named(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    run = planner("explain", made[0] / "plan", "--sweep", "slo=20ms:400ms:2", "--profiles", tmp_path)
    assert run.returncode == 2
    assert "its profile of batch" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_measured_plan_is_verified_by_its_profiles(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    plan = made[0] / "plan"
    run = planner("verify", plan, "--requests", "50000", "--json")
    assert run.returncode == 0, run.stderr
    (case,) = json.loads(run.stdout)["cases"]
    assert case["verdict"] == "holds"
    shutil.copytree(plan / "profiles", tmp_path / "moved")
    moved = planner("verify", plan, "--requests", "50000", "--json", "--profiles", tmp_path / "moved")
    assert moved.stdout == run.stdout
    gone = planner("verify", plan, "--profiles", tmp_path / "none")
    assert gone.returncode == 2
    assert "name the store with --profiles" in gone.stderr


def test_what_was_seen_in_service_corrects_the_store_and_the_plan(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "measured"
    shutil.copytree(made[0], folder)
    (placement,) = made[1]["fleet"]["placements"]
    (traffic,) = placement["traffic"]
    seen = {
        "candidate_id": traffic["candidate_id"],
        "workload": made[1]["workloads"][0]["name"],
        "rate_rps": 100,
        "asked_rps": 100,
        "percentile": 90,
        "budget_ms": 200,
        "measured_ms": 2 * traffic["predicted_sojourn_ms"],
        "measured_low_ms": 1.9 * traffic["predicted_sojourn_ms"],
        "measured_high_ms": 2.1 * traffic["predicted_sojourn_ms"],
        "predicted_ms": traffic["predicted_sojourn_ms"],
        "overhead_ms": 0,
        "requests": 6000,
        "service_ratio": 2.0,
    }
    (tmp_path / "seen.json").write_text(json.dumps({"schema_version": 1, "observed": [seen]}))
    observed = ("verify", folder / "plan", "--observed", tmp_path / "seen.json")
    told = planner(*observed)
    assert told.returncode == 0, told.stderr
    assert "service times broke it: 2.00 times the profile's" in " ".join(told.stdout.split())
    run = planner(*observed, "--recalibrate", folder / "plan.yaml")
    assert run.returncode == 0, run.stderr
    assert "takes 2.000 times as long as profiled" in " ".join(run.stdout.split())
    assert max(map(len, run.stdout.splitlines())) <= 100
    again = json.loads((folder / "plan" / "plan.json").read_text())
    assert any(note.startswith("Calibrated: ") for note in again["notes"])
    (new,) = again["fleet"]["placements"][0]["traffic"]
    by_id = {c["id"]: c for report in (made[1], again) for c in report["candidates"]}
    assert by_id[new["candidate_id"]]["profiles"][0]["calibration"] == 2.0
    assert new["predicted_sojourn_ms"] > 1.9 * traffic["predicted_sojourn_ms"]
    verified = planner("verify", folder / "plan", "--requests", "50000")
    assert verified.returncode == 0, verified.stderr
    shown = planner("profiles", "list", folder / "plan" / "profiles")
    assert "calibrated: plans take 2.000 times the times of" in shown.stdout


def test_a_simulation_recalibrates_nothing(made: tuple[Path, dict[str, Any]]) -> None:
    run = planner("verify", made[0] / "plan", "--recalibrate", made[0] / "plan.yaml")
    assert run.returncode == 2
    assert "give --live too" in run.stderr


def test_what_the_present_plan_runs_is_measured_whatever_could_be_cheaper(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """The present plan runs what guided profiling would leave alone; it is kept, by profiles of today."""
    folder = made[0]
    report = json.loads((folder / "plan" / "plan.json").read_text())
    unlikely = f"fp32/onnxruntime/{report['environment']['device']}/t1/b4"
    assert unlikely not in {c["id"] for c in report["candidates"]}
    for placement in report["fleet"]["placements"]:
        for traffic in placement["traffic"]:
            traffic["candidate_id"] = unlikely
    old = tmp_path / "plan.json"
    old.write_text(json.dumps(report))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    run = planner("plan", copy / "plan.yaml", "--json", "--keep", old, "--least-saving", "100%")
    assert run.returncode == 0, run.stderr
    kept = json.loads(run.stdout)
    assert unlikely in {c["id"] for c in kept["candidates"]}
    assert kept["kept"]
    runs = {t["candidate_id"] for p in kept["fleet"]["placements"] for t in p["traffic"]}
    assert runs == {unlikely}
    assert any("the present plan is kept" in note for note in kept["notes"])
