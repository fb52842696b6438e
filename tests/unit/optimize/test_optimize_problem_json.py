"""A problem through a file and back."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import fleet_oracle
import jsonschema
import pytest

from planner.domain.problem import Demand, Keep, Problem
from planner.errors import InputError
from planner.optimize import dump_problem, dump_solution, json_schema, load_problem, read_problem, solve


@pytest.mark.parametrize("seed", range(40))
def test_a_problem_is_the_same_after_a_file(seed: int) -> None:
    problem = fleet_oracle.problem(seed)
    text = dump_problem(problem)
    jsonschema.validate(json.loads(text), json_schema())
    assert load_problem(text, "file") == problem


def test_numbers_keep_their_value_and_a_present_plan_its_placements(candidate, offer) -> None:
    problem = Problem(
        (Demand("w", 0.1 + 0.2),),
        (candidate("one", capacity_rps=1 / 3),),
        (offer("m", 1e-17, zones=("b", "a")),),
    )
    problem = replace(problem, keep=Keep(solve(problem).placements, 0.05))
    assert load_problem(dump_problem(problem), "file") == problem
    endless = replace(problem, candidates=(candidate("one", capacity_rps=math.inf),))
    assert load_problem(dump_problem(endless), "file") == endless


def test_what_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "problem.json"
    path.write_text(
        json.dumps(
            {
                "demands": [{"workload": "w", "rates_rps": [5, 2]}],
                "periods": [{"name": "day", "hours": 12}, {"name": "night", "hours": 12}],
                "candidates": [{"id": "one", "workload": "w", "device": "cpu", "capacity_rps": 4}],
                "offers": [
                    {
                        "instance_type": "m",
                        "device": "cpu",
                        "vcpus": 2,
                        "memory_bytes": 1024,
                        "usd_per_hour": 0.5,
                    }
                ],
            }
        )
    )
    problem = read_problem(path)
    assert problem.demands[0].rate_rps == 5
    assert problem.candidates[0].packed_capacity_rps == 4
    assert solve(problem).usd_per_hour == 0.5


def test_a_solutions_placements_can_be_kept() -> None:
    problem = next(p for p in map(fleet_oracle.problem, range(200)) if _serves(p))
    written = json.loads(dump_solution(solve(problem)))
    posed = json.loads(dump_problem(problem)) | {
        "keep": {"placements": written["placements"], "least_saving": 0.1}
    }
    again = load_problem(json.dumps(posed), "file")
    assert solve(again).kept
    assert solve(again).placements == solve(problem).placements


def _serves(problem: Problem) -> bool:
    try:
        return bool(problem.periods and solve(problem).placements)
    except Exception:
        return False


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "problem.json, line 1: no JSON"),
        ("[]", "problem.json: the file:"),
        ("{}", "problem.json: demands: field required (and 2 more)"),
        (
            '{"demands": [], "candidates": [], "offers": []}',
            "problem.json: a problem needs at least one demand",
        ),
        (
            '{"demands": [{"workload": "w", "rate_rps": 1, "rate": 2}], "candidates": [], "offers": []}',
            "problem.json: demands.0.rate: extra inputs are not permitted",
        ),
        (
            '{"demands": [{"workload": "w", "rate_rps": "x"}], "candidates": [], "offers": []}',
            "demands.0.rate_rps: input should be a valid number",
        ),
        (
            '{"schema_version": 9, "demands": [], "candidates": [], "offers": []}',
            "problem.json: schema_version: input should be 1",
        ),
        (
            '{"demands": [{"workload": "w", "rate_rps": 1}], "candidates": [], "offers": [], "max_kinds": 0}',
            "problem.json: max_kinds must be 1 or more",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "problem.json"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        read_problem(path)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read: No such file"):
        read_problem(tmp_path / "none.json")
