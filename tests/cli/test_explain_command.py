"""A plan's files, explained and solved again without measuring, as a user does it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from imported_plans import imported_plan, sheet, write_imported
from plan_files import invoke

SHEET = sheet(
    "net,fp32,T4,tensorrt,1,4,4,4.1,4.2,,a paper",
    "net,int8,T4,tensorrt,1,2,2,2.1,2.2,,a paper",
    "net,int8,T4,tensorrt,8,8,8,8.1,8.2,,a paper",
    "net,int8,L4,tensorrt,1,1,1,1.1,1.2,,a blog",
    "net,int4,L4,tensorrt,1,0.5,0.5,0.6,0.7,,a blog",
    "net,int8,A30,tensorrt,1,1,1,1.1,1.2,,a blog",
)
CONTENT = imported_plan(
    {"fp32": 0.9, "int8": 0.88, "int4": 0.8},
    {"max_drop": 0.05},
    {"name": "net", "rate_rps": 2000},
    {"max_instances_per_offer": 3},
)
Write = Callable[..., Path]


def done(*arguments: str | Path) -> str:
    run = invoke(*arguments)
    assert run.exit_code == 0, run.stderr
    return run.stdout


def refused(code: int, *arguments: str | Path) -> str:
    run = invoke(*arguments)
    assert run.exit_code == code, run.stderr
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    return run.stderr


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(**changes: Any) -> Path:
        return write_imported(tmp_path, SHEET, CONTENT, **changes)

    return write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plan, read only."""
    folder = tmp_path_factory.mktemp("made")
    done("plan", write_imported(folder, SHEET, CONTENT))
    return folder / "plan"


@pytest.fixture(scope="module")
def told(made: Path) -> dict[str, Any]:
    sweeps = ("--sweep", "slo=3ms:60ms:4", "--sweep", "rate=500:8000:4", "--sweep", "floor=0:20%:5")
    found: dict[str, Any] = json.loads(done("explain", made, "--json", *sweeps))
    return found


def test_the_problem_is_beside_the_plan_and_its_solution_is_the_plan(made: Path, tmp_path: Path) -> None:
    report = json.loads((made / "plan.json").read_text())
    problem = made / report["files"]["problem"]
    assert hashlib.sha256(problem.read_bytes()).hexdigest() == report["files"]["problem_sha256"]
    assert (made / report["files"]["plan_yaml"]).resolve() == made.parent / "plan.yaml"
    jsonschema.validate(json.loads(problem.read_text()), json.loads(done("schema", "problem")))
    solved = json.loads(done("solve", problem, "--json"))
    assert solved["usd_per_hour"] == report["fleet"]["cost"]["usd_per_hour"]

    file = tmp_path / "elsewhere" / "problem.json"
    done("plan", made.parent / "plan.yaml", "--output", tmp_path / "again", "--dump-problem", file)
    assert json.loads(done("solve", file, "--json"))["placements"] == solved["placements"]
    assert {c["id"] for c in json.loads(file.read_text())["candidates"]} == {
        c["id"] for c in report["candidates"]
    }


def test_an_explanation_matches_its_schema_and_the_plan(made: Path, told: dict[str, Any]) -> None:
    report = json.loads((made / "plan.json").read_text())
    jsonschema.validate(told, json.loads(done("schema", "explanation")))
    assert told["usd_per_hour"] == report["fleet"]["cost"]["usd_per_hour"]
    by_name = {(a["by"], a["name"]): a for a in told["alternatives"]}
    assert by_name["variant", "int4"]["some"] is None
    assert "a drop of 0.1000 is declared" in by_name["variant", "int4"]["reason"]
    assert by_name["device", "A30"]["reason"].startswith("fleet: no offer in the catalog has it")
    assert any(a["used"] for a in told["alternatives"] if a["by"] == "device")
    for alternative in told["alternatives"]:
        assert alternative["used"] or alternative["reason"]
        some, alone = alternative["some"], alternative["alone"]
        if some is not None:
            assert some["usd_per_hour"] >= told["usd_per_hour"] * (1 - 1e-9)
        if alone is not None:
            assert alone["usd_per_hour"] >= some["usd_per_hour"] * (1 - 1e-9)
    limits = {limit["limit"]: limit for limit in told["limits"]}
    assert set(limits) == {"max_instances_per_offer 3", "workload net: headroom 0.1"}
    assert all(limit["saves"] >= 0 for limit in told["limits"])


@pytest.mark.parametrize(("over", "cheaper_with_more"), [("slo", True), ("rate", False), ("floor", True)])
def test_a_curve_goes_the_way_it_must(told: dict[str, Any], over: str, cheaper_with_more: bool) -> None:
    [curve] = [c for c in told["curves"] if c["over"] == over]
    assert curve["note"] == "Over all imported profiles."
    values = [p["value"] for p in curve["points"]]
    assert values == sorted(values)
    costs = [float("inf") if p["usd_per_hour"] is None else p["usd_per_hour"] for p in curve["points"]]
    assert costs == sorted(costs, reverse=cheaper_with_more)
    assert len(set(costs)) > 1
    own = [p for p in curve["points"] if p["value"] == curve["asked"]]
    assert [p["usd_per_hour"] for p in own] == [told["usd_per_hour"]]
    for point in curve["points"]:
        assert (point["usd_per_hour"] is None) == bool(point["reason"])


def test_a_point_is_the_plan_that_plan_yaml_would_get(
    made: Path, told: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    changes = {
        "slo": lambda v: {"workload": {"slo": {"latency": f"{v}ms"}}},
        "rate": lambda v: {"workload": {"rate_rps": v}},
        "floor": lambda v: {"accuracy": {"max_drop": v}},
    }
    for curve in told["curves"]:
        for point in (curve["points"][1], curve["points"][-1]):
            path = write(**changes[curve["over"]](point["value"]))
            if point["usd_per_hour"] is None:
                refused(3, "plan", path, "--output", tmp_path / "again")
                continue
            again = json.loads(done("plan", path, "--json", "--output", tmp_path / "again"))
            assert again["fleet"]["cost"]["usd_per_hour"] == pytest.approx(point["usd_per_hour"])


def test_an_explanation_fits_100_columns(made: Path) -> None:
    printed = done("explain", made / "plan.json", "--sweep", "rate=500:80000000:3")
    assert max(map(len, printed.splitlines())) <= 100
    for part in ("net by", "in the plan", "headroom", "█", "2000 *", "none"):
        assert part in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--sweep", "price=1:2"), "--sweep: expected slo=5ms:50ms"),
        (("--sweep", "slo=5:50"), "expected a duration with its unit"),
        (("--sweep", "rate=0:10"), "expected a value above 0"),
        (("--sweep", "rate=10:1"), "expected a value above 0 and a larger one"),
        (("--sweep", "rate=1:10:1"), "2 to 100 steps"),
        (("--sweep", "rate=1:10", "--workload", "other"), "--workload: expected one of net, got other"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(
    made: Path, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(2, "explain", made, *arguments)


def test_files_that_do_not_belong_together_are_refused(write: Write, tmp_path: Path) -> None:
    assert "make one with planner plan" in refused(2, "explain", tmp_path)
    path = write()
    done("plan", path)
    write(workload={"rate_rps": 1000})
    assert "changed since the plan was made" in refused(
        2, "explain", tmp_path / "plan", "--sweep", "slo=9ms:30ms"
    )
    problem = tmp_path / "plan" / "problem.json"
    problem.write_text(problem.read_text() + " ")
    assert "not the problem that" in refused(2, "explain", tmp_path / "plan")
    problem.unlink()
    assert "cannot be read" in refused(2, "explain", tmp_path / "plan")


def test_the_present_plan_is_kept_for_less_than_the_least_saving(
    made: Path, write: Write, tmp_path: Path
) -> None:
    """Another rate wants another fleet; the present one is too large for it, and cheaper than to leave it."""
    smaller = write(workload={"rate_rps": 1900})
    out = ("--output", tmp_path / "again", "--json")
    present = json.loads((made / "plan.json").read_text())
    free = json.loads(done("plan", write(workload={"rate_rps": 400}), *out))
    kept = json.loads(done("plan", smaller, *out, "--keep", made, "--least-saving", "100%"))
    assert kept["kept"]
    assert kept["proof"]["proven"]
    counts = [[(p["offer_id"], p["instances"]) for p in r["fleet"]["placements"]] for r in (kept, present)]
    assert counts[0] == counts[1]
    left = json.loads(
        done(
            "plan",
            write(workload={"rate_rps": 400}),
            *out,
            "--keep",
            made / "plan.json",
            "--least-saving",
            "0%",
        )
    )
    assert not left["kept"]
    assert left["fleet"] == free["fleet"]


def test_what_is_gone_is_a_note_and_the_new_plan(made: Path, write: Write, tmp_path: Path) -> None:
    device = json.loads((made / "plan.json").read_text())["offers"][0]["device"]
    path = write(fleet={"without": [device]})
    run = json.loads(done("plan", path, "--json", "--keep", made, "--output", tmp_path / "new"))
    assert not run["kept"]
    assert any("the present plan does not hold any more" in note for note in run["notes"])
    assert "--least-saving: expected a share" in refused(
        2, "plan", path, "--keep", made, "--least-saving", "five"
    )
    assert "make one with planner plan" in refused(2, "plan", path, "--keep", tmp_path / "none")


def test_a_solution_cut_short_is_marked_with_its_gap(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from planner import optimize
    from planner.optimize.highs import run_highs
    from planner.optimize.program import FEASIBLE, Answer, Program

    def stopped(program: Program, time_limit_s: float) -> Answer:
        answer = run_highs(program, time_limit_s)
        return replace(answer, status=FEASIBLE, bound=answer.bound / 2)

    monkeypatch.setattr(optimize, "solve", partial(optimize.solve, solver=stopped))
    printed = done("solve", made / "problem.json")
    assert "Not proven: gap 50.00%" in printed
    assert "allow more time" in printed
