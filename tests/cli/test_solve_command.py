"""planner solve as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from planner.cli import app


def planner(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def offer(**changes: Any) -> dict[str, Any]:
    return {
        "provider": "aws",
        "instance_type": "g6.xlarge",
        "region": "us-east-1",
        "device": "l4",
        "device_count": 1,
        "vcpus": 4,
        "usd_per_hour": 0.8,
    } | changes


PROBLEM: dict[str, Any] = {
    "demands": [
        {"workload": "chat", "rates_rps": [100, 20], "max_spot_share": 0.5, "redundancy": "instance"}
    ],
    "periods": [{"name": "day", "hours": 12}, {"name": "night", "hours": 12}],
    "candidates": [{"id": "int8/l4/t1/b8", "workload": "chat", "device": "l4", "capacity_rps": 40}],
    "offers": [
        offer(),
        offer(purchase="reserved", term="1yr", usd_per_hour=0.5),
        offer(purchase="spot", usd_per_hour=0.3),
    ],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "problem.json"


def posed(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(PROBLEM | changes))
    return path


def test_the_fleet_and_its_proof_fit_100_columns(path: Path) -> None:
    run = planner("solve", posed(path))
    assert run.exit_code == 0, run.stderr
    assert max(map(len, run.stdout.splitlines())) <= 100
    for expected in (
        "day",
        "night",
        "g6.xlarge",
        "spot",
        "int8/l4/t1/b8",
        "Committed: 2 ×",
        "Proof: optimal",
    ):
        assert expected in run.stdout
    # Two stand all the time, two of spot by day.
    assert "Cost: $1.3/h on average" in run.stdout


def test_json_is_the_solution_and_nothing_else(path: Path) -> None:
    run = planner("solve", posed(path), "--json", "--time-limit", "30")
    assert run.exit_code == 0
    found = json.loads(run.stdout)
    assert (found["usd_per_hour"], found["proven"], found["gap"]) == (1.3, True, 0.0)
    assert {placement["period"] for placement in found["placements"]} == {"day", "night"}


def test_the_problem_matches_the_printed_schema(path: Path) -> None:
    run = planner("schema", "problem")
    assert run.exit_code == 0
    jsonschema.validate(PROBLEM, json.loads(run.stdout))


@pytest.mark.parametrize("objective", ["energy", "carbon", "accuracy", "latency"])
def test_other_objectives_are_shown_in_their_unit(objective: str, path: Path) -> None:
    figures = [
        {"offer_id": f"aws/g6.xlarge/us-east-1/{bought}", "power_w": 90.0, "carbon_g_per_hour": 30.5}
        for bought in ("on-demand", "reserved-1yr", "spot")
    ]
    candidates = [PROBLEM["candidates"][0] | {"quality": 0.875, "latency_ns": 2_500_000}]
    run = planner(
        "solve",
        posed(path, objective=objective, figures=figures, candidates=candidates, budget_usd_per_hour=9),
    )
    assert run.exit_code == 0, run.stderr
    shown = {
        "energy": "270 W",
        "carbon": "91.5 g CO2/h",
        "accuracy": "0.875 mean quality",
        "latency": "2.5 ms mean latency",
    }
    assert f"Objective: {shown[objective]}" in run.stdout


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"offers": []}, "no offers to choose from"),
        ({"candidates": []}, "no candidates"),
        ({"candidates": [PROBLEM["candidates"][0] | {"capacity_rps": 0}]}, "a capacity of 0 rps"),
        ({"candidates": [PROBLEM["candidates"][0] | {"capacity_rps": float("inf")}]}, "must be finite"),
        ({"min_zones": 2}, "min_zones 2"),
        ({"budget_usd_per_hour": 0.4}, "budget_usd_per_hour 1.3 ($1.3/h) would do"),
        (
            {"quotas": [{"name": "gpus", "at_most": 2, "unit": "devices"}]},
            "quota gpus: at most 2 devices; quota gpus: at most 4 devices ($1.3/h) would do",
        ),
        ({"candidates": [PROBLEM["candidates"][0] | {"capacity_rps": float("nan")}]}, "must be finite"),
        ({"max_instances_per_offer": 1}, "max_instances_per_offer 1"),
    ],
)
def test_what_cannot_be_ends_in_exit_code_3_with_the_reason(
    changes: dict[str, Any], reason: str, path: Path
) -> None:
    run = planner("solve", posed(path, **changes))
    assert run.exit_code == 3
    assert run.stdout == ""
    assert reason in run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_file_that_makes_no_sense_ends_in_exit_code_2(path: Path) -> None:
    run = planner("solve", posed(path, max_kinds=0))
    assert run.exit_code == 2
    assert "problem.json: max_kinds must be 1 or more" in run.stderr
    assert planner("solve", path.with_name("none.json")).exit_code == 2
