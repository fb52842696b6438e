"""Request classes as a user plans with them: routed to different chips, or served together."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import onnx_models
import pytest
from plan_files import planner, write_plan

from planner.errors import InfeasibleError, SpecError
from planner.optimize import solve
from planner.pipeline import load_spec, plan

EXAMPLE = "bert-large"
DECLARED = {name: {"value": 0.9, "source": "a test"} for name in ("fp32", "fp16", "int8")}


def imported(folder: Path, latency: str, rate: float, shares: tuple[float, float], **fleet: Any) -> Path:
    return write_plan(
        folder / "plan.yaml",
        {
            "imported": {"profiles": EXAMPLE},
            "accuracy": {"metric": "squad_f1", "max_drop": "50%", "declared": DECLARED},
            "workload": {
                "name": "qa",
                "rate_rps": rate,
                "classes": [
                    {"name": "short", "share": shares[0], "imported_model": "bert-large-128"},
                    {"name": "long", "share": shares[1], "imported_model": "bert-large-384"},
                ],
                "slo": {"percentile": 99, "latency": latency},
            },
            "fleet": {"providers": ["aws"], "only": ["T4", "L4"], "regions": ["us-east-1"]} | fleet,
        },
    )


def cost_by_brute_force(made: Any) -> float:
    """Of one kind of shared replica, any number of them, and one kind for what is left of each class."""
    (demand,) = made.problem.demands
    need = {c.name: c.share * demand.rate_rps for c in demand.classes}
    price = {
        device: min(o.usd_per_hour for o in made.problem.offers if o.device == device and o.device_count == 1)
        for device in {o.device for o in made.problem.offers}
    }
    best: dict[tuple[str, ...], list[tuple[float, dict[str, float]]]] = {}
    for c in made.problem.candidates:
        rates = dict(c.classes)
        best.setdefault(tuple(sorted(rates)), []).append((price[c.device], rates))
    cheapest = math.inf
    for together_price, together in best[("long", "short")]:
        for count in range(60):
            cost = together_price * count
            if cost >= cheapest:
                break
            for name in ("short", "long"):
                left = need[name] - count * together[name]
                if left > 1e-9 * need[name]:
                    cost += min(p * math.ceil(left / rates[name] - 1e-9) for p, rates in best[(name,)])
            cheapest = min(cheapest, cost)
    return cheapest


@pytest.mark.parametrize(
    ("latency", "rate", "shares"), [("40ms", 700.0, (0.9, 0.1)), ("60ms", 3000.0, (0.5, 0.5))]
)
def test_the_plan_routes_classes_as_brute_force_would(
    tmp_path: Path, latency: str, rate: float, shares: tuple[float, float]
) -> None:
    made = plan(load_spec(imported(tmp_path, latency, rate, shares)))
    assert made.solution.proven
    assert made.solution.usd_per_hour <= cost_by_brute_force(made) * (1 + 1e-9)
    served: dict[str, float] = {}
    for placement in made.solution.placements:
        for _, name, flow in placement.class_flow_rps:
            served[name] = served.get(name, 0.0) + flow
    assert served == pytest.approx({"short": rate * shares[0], "long": rate * shares[1]})
    assert all(margin.sojourn_ns <= margin.budget_ns for margin in made.margins)


def test_short_and_long_go_to_different_replicas_where_that_is_cheaper(tmp_path: Path) -> None:
    """Against the plan that has to serve both together: its candidates alone."""
    made = plan(load_spec(imported(tmp_path, "40ms", 3000.0, (0.8, 0.2))))
    both = tuple(c for c in made.problem.candidates if len(c.classes) == 2)
    together = solve(replace(made.problem, candidates=both), 20)
    assert made.solution.usd_per_hour < together.usd_per_hour
    used = {i for p in made.solution.placements for i, _ in p.pattern.replicas}
    assert any(i.endswith("/short") for i in used)


def test_the_terminal_and_plan_json_show_who_serves_what(tmp_path: Path) -> None:
    path = imported(tmp_path, "40ms", 3000.0, (0.8, 0.2))
    run = planner("plan", path)
    assert run.returncode == 0, run.stderr
    assert "short/s" in run.stdout and "long/s" in run.stdout
    report = json.loads((tmp_path / "plan" / "plan.json").read_text())
    jsonschema.validate(report, json.loads(planner("schema", "report").stdout))
    assert report["workloads"][0]["classes"] == [
        {"name": "short", "share": 0.8},
        {"name": "long", "share": 0.2},
    ]
    flows = [t["classes"] for p in report["fleet"]["placements"] for t in p["traffic"]]
    assert sum(flow.get("short", 0) for flow in flows) == pytest.approx(2400)
    shown = [c for c in report["candidates"] if set(c["classes"]) == {"short", "long"}]
    assert {p["request_class"] for p in shown[0]["profiles"]} == {"short", "long"}
    again = planner("solve", tmp_path / "plan" / "problem.json", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["usd_per_hour"] == pytest.approx(report["fleet"]["cost"]["usd_per_hour"])


def test_queues_ignored_one_replica_takes_turns(tmp_path: Path) -> None:
    path = imported(tmp_path, "40ms", 3000.0, (0.8, 0.2))
    honest = plan(load_spec(path)).solution.usd_per_hour
    text = path.read_text().replace("rate_rps: 3000.0", "rate_rps: 3000.0\n  capacity: saturated")
    path.write_text(text)
    ignoring = plan(load_spec(path))
    assert {c.mixing for c in ignoring.problem.candidates if len(c.classes) == 2} == {"time"}
    assert ignoring.solution.usd_per_hour <= honest


def test_a_class_that_nothing_serves_in_time_is_named(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match="long"):
        plan(load_spec(imported(tmp_path, "3ms", 100.0, (0.8, 0.2))))


def test_a_model_of_the_source_that_is_missing(tmp_path: Path) -> None:
    path = imported(tmp_path, "40ms", 100.0, (0.8, 0.2))
    path.write_text(path.read_text().replace("bert-large-384", "bert-large-38"))
    with pytest.raises(SpecError, match=r"long: imported_model: expected one of .*bert-large-384"):
        plan(load_spec(path))


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    return write_plan(
        tmp_path / "plan.yaml",
        {
            "model": str(onnx_models.of_any_length(tmp_path / "any.onnx")),
            "dimensions": {"N": "batch"},
            "data": {"samples": 16},
            "accuracy": {"metric": "agreement", "max_drop": "90%"},
            "workload": {
                "rate_rps": 20,
                "classes": [
                    {"name": "short", "share": "70%", "dimensions": {"length": 512}},
                    {"name": "long", "share": "30%", "dimensions": {"length": 8192}},
                ],
                "slo": {"percentile": 90, "latency": "30ms"},
            },
            "recipes": ["fp32"],
            "batch_sizes": [1],
            "threads": [1],
            "fleet": {"providers": ["aws"], "regions": ["us-east-1"]},
        },
    )


def test_two_classes_measured_here(measured: Path) -> None:
    told = json.loads(planner("plan", measured, "--dry-run", "--json").stdout)
    assert len(told["configurations"]) == 2
    assert sum(line.endswith(", long") for line in told["configurations"]) == 1

    run = planner("plan", measured)
    assert run.returncode == 0, run.stderr
    report = json.loads((measured.parent / "plan" / "plan.json").read_text())
    sets = {tuple(sorted(c["classes"])) for c in report["candidates"]}
    assert {("short",), ("long",), ("long", "short")} <= sets
    medians = {
        p["request_class"]: p["p50_ms"]
        for c in report["candidates"]
        for p in c["profiles"]
        if p["batch_size"] == 1
    }
    assert medians["short"] < medians["long"], "each class is timed at its own size"
    flows = [t["classes"] for p in report["fleet"]["placements"] for t in p["traffic"]]
    assert sum(flow.get("long", 0) for flow in flows) == pytest.approx(6)

    again = json.loads(planner("plan", measured, "--dry-run", "--json").stdout)
    assert again["configurations"] == [], "what was measured is known again by its class"


def test_classes_out_of_order_and_of_unknown_dimensions(measured: Path) -> None:
    text = measured.read_text()
    measured.write_text(text.replace("length: 512", "length: 9000"))
    assert "long comes after short and is not larger" in planner("plan", measured, "--dry-run").stderr
    measured.write_text(text.replace("length: 512", "lenght: 512"))
    assert "no dynamic dimension 'lenght'" in planner("plan", measured, "--dry-run").stderr
    measured.write_text(text + "backends: [onnxruntime, tensorrt]\n")
    assert "built for one size of request" in planner("plan", measured, "--dry-run").stderr
