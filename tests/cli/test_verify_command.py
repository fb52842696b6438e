"""Plans verified by simulation, as a user does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from imported_plans import imported_plan, sheet, write_imported
from plan_files import invoke as planner
from plan_files import write_plan

from planner.errors import InputError
from planner.pipeline import read_plan
from planner.store import read_calibrations
from planner.verifying import Observed, dump_observed, judged, recalibrate, verification_schema

SHEET = sheet(
    "net,fp32,T4,tensorrt,1,4,4,4.1,4.2,,a paper",
    "net,fp32,T4,tensorrt,8,12,12,12.1,12.2,,a paper",
)
CONTENT = imported_plan({"fp32": 0.9}, {"minimum": 0.5}, {"name": "net", "rate_rps": 1000}, {"only": ["T4"]})
FEW = ("--requests", "100000")
Make = Callable[..., Path]


def verified(code: int, *arguments: str | Path) -> dict[str, Any]:
    run = planner("verify", *arguments, "--json")
    assert run.exit_code == code, run.output
    report: dict[str, Any] = json.loads(run.stdout)
    jsonschema.validate(report, verification_schema())
    return report


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The folder of a plan with these changes."""

    def make(**changes: Any) -> Path:
        workload = CONTENT["workload"] | changes.pop("workload", {})
        asked = {key: value for key, value in workload.items() if value is not None}
        path = write_imported(tmp_path, SHEET, CONTENT | {"workload": asked}, **changes)
        run = planner("plan", path)
        assert run.exit_code == 0, run.output
        return tmp_path / "plan"

    return make


def test_a_plan_holds_and_is_as_fast_as_it_says(make: Make) -> None:
    made = make()
    report = verified(0, made, "--requests", "300000")
    assert report["verdict"] == "holds"
    (case,) = report["cases"]
    assert (case["lost"], case["broke"], case["words"]) == ("", "", "")
    plan = json.loads((made / "plan.json").read_text())
    traffic = [t for p in plan["fleet"]["placements"] for t in p["traffic"]]
    assert [r["predicted_ms"] for r in case["replicas"]] == [t["predicted_sojourn_ms"] for t in traffic]
    for replicas in case["replicas"]:
        seen = replicas["together"]
        assert seen["percentile_low_ms"] <= replicas["predicted_ms"] <= seen["percentile_high_ms"]
        assert len(replicas["each"]) == replicas["count"]
        assert sum(each["requests"] for each in replicas["each"]) == seen["requests"]
    assert sum(r["together"]["requests"] for r in case["replicas"]) == case["seen"]["requests"]


def test_bursts_that_the_plan_does_not_assume_break_it(make: Make) -> None:
    report = verified(1, make(), "--arrivals", "cv=3", *FEW)
    (case,) = report["cases"]
    assert (case["verdict"], case["broke"]) == ("fails", "arrivals")
    assert "arrivals broke it: gamma, cv 3, where the plan assumes Poisson" in case["words"]
    assert "ms above the budget of 30 ms" in case["words"]
    assert case["seen"]["late_share_low"] > 0.01
    assert 0 < case["seen"]["time_over_slo"] < 1


def test_a_plan_for_bursts_holds_them(make: Make) -> None:
    bursty = make(workload={"arrivals": {"cv": 3}})
    assert verified(0, bursty, "--requests", "300000")["verdict"] == "holds"


def test_a_plan_that_ignores_queues_does_not_hold(make: Make) -> None:
    (case,) = verified(1, make(workload={"capacity": "saturated", "rate_rps": 2500}), *FEW)["cases"]
    assert case["broke"] == "queues"
    assert "the plan ignores them" in case["words"]


def test_with_one_instance_lost(make: Make) -> None:
    """n+1 holds with the loss; the same rate without it is planned tighter, and is not asked to."""
    plain, spare = (
        verified(0, make(workload={"redundancy": redundancy}), "--requests", "300000")
        for redundancy in ("none", "n+1")
    )
    assert [case["lost"] for case in plain["cases"]] == [""]
    whole, lost = spare["cases"]
    assert (whole["lost"], lost["lost"][:8]) == ("", "one aws/")
    instances = [sum(r["count"] for r in case["replicas"]) for case in (whole, lost)]
    assert instances[1] == instances[0] - 1
    assert lost["seen"]["utilisation"] > whole["seen"]["utilisation"]
    assert sum(r["count"] * r["replica_rps"] for r in lost["replicas"]) == pytest.approx(1000)


def test_with_a_zone_lost(make: Make) -> None:
    """All that is in it goes, whatever it is."""
    made = make(workload={"redundancy": "zone"}, fleet={"regions": ["us-east-1", "us-west-2"]})
    whole, lost = verified(0, made, *FEW)["cases"]
    zone = lost["lost"].removeprefix("zone ")
    counts = [{r["zone"]: r["count"] for r in case["replicas"]} for case in (whole, lost)]
    assert zone in counts[0]
    assert counts[1] == {name: count for name, count in counts[0].items() if name != zone}


def test_request_classes_at_their_mix(tmp_path: Path) -> None:
    """Published BERT-large of two sequence lengths: the large requests are slower, and all hold the SLO."""
    declared = {name: {"value": 0.9, "source": "a test"} for name in ("fp32", "fp16", "int8")}
    classes = [
        {"name": "short", "share": 0.8, "imported_model": "bert-large-128"},
        {"name": "long", "share": 0.2, "imported_model": "bert-large-384"},
    ]
    content = {
        "imported": {"profiles": "bert-large"},
        "accuracy": {"metric": "squad_f1", "max_drop": "50%", "declared": declared},
        "workload": {
            "name": "qa",
            "rate_rps": 900,
            "classes": classes,
            "slo": {"latency": "25ms"},
            "redundancy": "n+1",
        },
        "fleet": {"providers": ["aws"], "only": ["T4", "L4"], "regions": ["us-east-1"]},
    }
    run = planner("plan", write_plan(tmp_path / "plan.yaml", content))
    assert run.exit_code == 0, run.output
    _, lost = verified(0, tmp_path / "plan", *FEW)["cases"]
    assert sum(r["count"] * r["replica_rps"] for r in lost["replicas"]) == pytest.approx(900)


def test_each_period_has_its_own_fleet(make: Make) -> None:
    rates = {"day": 1500, "night": 200, "dead": 0}
    periods = [{"name": name, "hours": 8} for name in rates]
    made = make(workload={"rate_rps": None, "rates_rps": rates}, fleet={"periods": periods})
    cases = verified(0, made, *FEW)["cases"]
    assert [(case["period"], case["rate_rps"]) for case in cases] == [("day", 1500), ("night", 200)]


def test_what_is_printed_fits_100_columns(make: Make) -> None:
    run = planner("verify", make(workload={"redundancy": "n+1"}), "--arrivals", "cv=4", *FEW)
    assert run.exit_code == 1
    assert max(map(len, run.stdout.splitlines())) <= 100
    for part in ("Verdict: fails", "gamma, cv 4", "without one aws/", "p99", "late", "arrivals broke it"):
        assert part in run.stdout


def test_a_trace_takes_the_place_of_the_plans_arrivals(make: Make, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    forty_at_once = (1.7e9 + k // 40 * 0.04 + k % 40 * 1e-6 for k in range(8000))
    trace.write_text("timestamp\n" + "\n".join(f"{at:.6f}" for at in forty_at_once))
    report = verified(1, make(), "--arrivals", f"trace={trace}", *FEW)
    assert report["arrivals"] == {"kind": "trace", "cv": None}
    assert report["cases"][0]["broke"] == "arrivals"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--arrivals", "bursty"), "--arrivals: expected poisson, cv=2 or trace=FILE, got 'bursty'"),
        (("--arrivals", "cv=-1"), "the coefficient of variation must be above 0"),
        (("--arrivals", "trace=none.csv"), "none.csv: not a trace that can be read"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Make, arguments: tuple[str, ...], expected: str) -> None:
    run = planner("verify", make(), *arguments)
    assert run.exit_code == 2
    assert expected in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_what_services_took_becomes_a_factor_unless_it_is_as_planned(make: Make, tmp_path: Path) -> None:
    made = read_plan(make())
    (candidate,) = {t.candidate_id for p in made.report.fleet.placements for t in p.traffic}
    seen = Observed(candidate, "net", 100, 100, 99, 30, 20, 19, 21, 20, 0, requests=1000, valid=True)
    now, store = datetime(2026, 1, 1, tzinfo=UTC), tmp_path / "store"
    assert recalibrate(made, [replace(seen, service_ratio=1.01)], store, now) == ()
    assert not store.exists()
    twice = [replace(seen, service_ratio=1.2), replace(seen, service_ratio=1.5, requests=2000)]
    (factor,) = recalibrate(made, twice, store, now)
    assert (factor.factor, factor.requests) == (pytest.approx(1.4), 3000)
    assert (factor.variant, factor.backend, factor.device) == ("fp32", "tensorrt", "T4")
    assert read_calibrations(store) == {factor.key: factor}
    with pytest.raises(InputError, match="no observation tells service times"):
        recalibrate(made, [seen], store, now)
    with pytest.raises(InputError, match="the plan has no such candidate"):
        recalibrate(made, [replace(seen, candidate_id="gone", service_ratio=1.2)], store, now)


def test_another_workload_s_variant_of_the_same_name_has_a_factor_of_its_own(
    make: Make, tmp_path: Path
) -> None:
    made = read_plan(make())
    report = made.report
    (mine,) = {t.candidate_id for p in report.fleet.placements for t in p.traffic}
    part = next(c for c in report.candidates if c.id == mine)
    twice = [p.model_copy(update={"calibration": 2.0}) for p in part.profiles]
    other = part.model_copy(update={"id": "other", "workload": "other", "profiles": twice})
    variants = [v.model_copy(update={"workload": "other", "sha256": "0"}) for v in report.variants]
    both = {"candidates": [other, *report.candidates], "variants": [*report.variants, *variants]}
    made = replace(made, report=report.model_copy(update=both))
    seen = Observed(mine, "net", 100, 100, 99, 30, 20, 19, 21, 20, 0, 1000, valid=True, service_ratio=1.01)
    assert recalibrate(made, [seen], tmp_path / "store", datetime(2026, 1, 1, tzinfo=UTC)) == ()


def test_imported_profiles_are_not_corrected(make: Make, tmp_path: Path) -> None:
    made = make()
    (candidate,) = {
        t["candidate_id"]
        for p in json.loads((made / "plan.json").read_text())["fleet"]["placements"]
        for t in p["traffic"]
    }
    seen = Observed(
        candidate, "net", 100, 100, 99, 30, 20, 19, 21, 20, 0, requests=1000, valid=True, service_ratio=2.0
    )
    (tmp_path / "seen.json").write_text(dump_observed([judged(seen)]))
    arguments = ("verify", made, "--observed", tmp_path / "seen.json")
    assert planner(*arguments).exit_code == 0
    run = planner(*arguments, "--recalibrate", tmp_path / "plan.yaml")
    assert run.exit_code == 2
    assert "imported profiles are not the planner's to correct" in run.stderr
    slow = replace(seen, measured_ms=40, measured_low_ms=35, measured_high_ms=45)
    (tmp_path / "seen.json").write_text(dump_observed([judged(slow)]))
    assert planner(*arguments).exit_code == 1


def test_profiles_that_are_gone_or_changed_are_named(make: Make, tmp_path: Path) -> None:
    made = make()
    (tmp_path / "sheet.csv").write_text(SHEET.replace("12.2", "12.3"))
    run = planner("verify", made)
    assert run.exit_code == 2
    assert "its profile of batch 8 is not there, or was taken again since" in run.stderr
    (tmp_path / "sheet.csv").unlink()
    assert planner("verify", made).exit_code == 2
    assert "make one with planner plan" in planner("verify", tmp_path / "none").stderr
