"""Plans from imported profiles whose capacities are simulated: bursts cost, delays and instances may pay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from imported_plans import COLUMNS, imported_plan, sheet, write_imported
from onnx_models import LabelledModel
from plan_files import planner, tiny_plan, write_plan

from planner.errors import InfeasibleError
from planner.pipeline import load_spec, plan, publish
from planner.report import json_schema

WITH_INSTANCES = f"{COLUMNS},instances"
SHEET = sheet(
    "net,fp32,T4,tensorrt,1,4,4,4.1,4.2,,1,a paper",
    "net,fp32,T4,tensorrt,8,12,12,12.1,12.2,,1,a paper",
    columns=WITH_INSTANCES,
)
TWO = SHEET + "net,fp32,T4,tensorrt,8,13,13,13.1,13.2,,2,a paper\n"
PADDED_FOUR = sheet("net,fp32,T4,tensorrt,4,10.5,10.5,10.5,10.5,,4,a paper", columns=WITH_INSTANCES)
ON_A_CPU = sheet("net,fp32,genoa,onnxruntime,1,9,9,9.1,9.2,100,4,a blog", columns=WITH_INSTANCES)
CONTENT = imported_plan({"fp32": 0.9}, {"minimum": 0.5}, {"rate_rps": 2_000}, {"only": ["T4"]})
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(sheet: str = SHEET, **changes: Any) -> Path:
        return write_imported(tmp_path, sheet, CONTENT, **changes)

    return write


def test_bursts_cost_and_ignoring_queues_does_not(write: Write) -> None:
    usd = {
        name: plan(load_spec(write(workload=more))).solution.usd_per_hour
        for name, more in {
            "poisson": {},
            "bursty": {"arrivals": {"cv": 2.5}},
            "saturated": {"capacity": "saturated"},
        }.items()
    }
    assert usd["saturated"] < usd["poisson"] < usd["bursty"]


def test_a_bursty_plan_as_a_user_sees_it(write: Write, tmp_path: Path) -> None:
    path = write(sheet=TWO, workload={"arrivals": {"cv": 2}}, batching={"instances": [1, 2]})
    run = planner("plan", path, "--output", tmp_path / "plan")
    assert run.returncode == 0, run.stderr
    assert "2 instances" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 100
    report = json.loads((tmp_path / "plan" / "plan.json").read_text())
    jsonschema.validate(report, json_schema())
    assert report["workloads"][0]["arrivals"] == {"kind": "gamma", "cv": 2.0, "requests": None}
    by_id = {c["id"]: c for c in report["candidates"]}
    assert by_id["fp32/tensorrt/T4/t1/b8/i2"]["instances"] == 2
    assert "instances" not in by_id["fp32/tensorrt/T4/t1/b8"], "what is as ever is left out"
    traffic = [t for p in report["fleet"]["placements"] for t in p["traffic"]]
    assert {t["candidate_id"] for t in traffic} == {"fp32/tensorrt/T4/t1/b8/i2"}
    assert all(t["slo_margin_ms"] > 0 for t in traffic)


def test_two_instances_may_be_cheaper(write: Write) -> None:
    one = plan(load_spec(write(sheet=TWO)))
    two = plan(load_spec(write(sheet=TWO, batching={"instances": [1, 2]})))
    assert two.solution.usd_per_hour < one.solution.usd_per_hour
    (reason,) = [r.reason for r in one.rejections if r.stage == "profile"]
    assert reason == "2 ran side by side while it was measured, batching.instances asks for 1"
    assert {s.candidate.side_by_side for s in two.servings} == {1}


def test_a_queue_delay_may_be_cheaper(write: Write) -> None:
    """Four instances that take as long for one request as for four: the idle ones had better wait."""
    more: dict[str, Any] = {
        "sheet": PADDED_FOUR,
        "workload": {"rate_rps": 700, "arrivals": {"cv": 2}, "slo": {"latency": "20.5ms"}},
    }
    greedy = plan(load_spec(write(**more, batching={"instances": [4]})))
    patient = plan(load_spec(write(**more, batching={"instances": [4], "queue_delays": ["0ms", "5ms"]})))
    assert patient.solution.usd_per_hour < greedy.solution.usd_per_hour
    (serving,) = patient.servings
    assert serving.candidate.id == "fp32/tensorrt/T4/t1/b4/i4/d5ms"
    assert (serving.candidate.queue_delay_ns, serving.candidate.threads) == (5_000_000, 4)


def test_instances_on_a_cpu_share_its_cores(write: Write) -> None:
    more: dict[str, Any] = {"batching": {"instances": [1, 2, 8]}, "fleet": {"only": ["genoa"]}}
    made = plan(load_spec(write(sheet=ON_A_CPU, **more)))
    by_instances = {s.candidate.instances: s.candidate for s in made.servings}
    assert set(by_instances) == {1, 2}, "8 were not measured side by side"
    two = by_instances[2]
    assert (two.threads, two.memory_bytes, two.side_by_side) == (2, 200 << 20, 2)
    assert two.capacity_rps > 2 * by_instances[1].capacity_rps, "one queue is better than two"


def test_a_trace_with_its_own_bursts(write: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    gaps = rng.exponential(1.0, 36_000) * np.where(np.arange(36_000) % 20 == 0, 16, 0.2)
    times = 1_767_225_600 + gaps.cumsum() * 3_600 / gaps.sum()
    (tmp_path / "trace.csv").write_text("timestamp\n" + "\n".join(f"{t:.6f}" for t in times))
    asked = {"rate_rps": None, "trace": "trace.csv", "scale": 200, "slo": {"latency": "30ms"}}
    usd = {
        kind: plan(load_spec(write_of(write, asked | {"arrivals": kind}))).solution.usd_per_hour
        for kind in ("poisson", "trace")
    }
    assert usd["poisson"] < usd["trace"]


def write_of(write: Write, workload: dict[str, Any]) -> Path:
    import yaml

    path = write()
    content = yaml.safe_load(path.read_text())
    content["workload"] = {key: value for key, value in workload.items() if value is not None}
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_saturated_plan_says_what_it_is(write: Write) -> None:
    made = plan(load_spec(write(workload={"capacity": "saturated"})))
    assert any("capacities hold no SLO" in note for note in made.notes)
    (best,) = [s for s in made.servings if s.candidate.max_batch_size == 8]
    assert best.capacity_rps == pytest.approx(8 / 12.2e-3, rel=0.05)
    with pytest.raises(InfeasibleError):
        plan(load_spec(write(workload={"capacity": "saturated", "slo": {"latency": "4ms"}})))


def test_of_what_is_measured_here(tiny_model: LabelledModel, tmp_path: Path) -> None:
    """Guided: bounds by throughput, capacities by simulation, the plan's names with their delays."""
    path = write_plan(
        tmp_path / "plan.yaml",
        tiny_plan(tiny_model),
        workload={"arrivals": {"cv": 1.5}, "slo": {"percentile": 90, "latency": "15ms"}},
        batching={"queue_delays": ["1ms"]},
        recipes=["fp32"],
        batch_sizes=[2],
    )
    fleet = load_spec(path)
    made = plan(fleet)
    used = {i for p in made.solution.placements for i, _ in p.pattern.replicas}
    by_id = {s.candidate.id: s for s in made.servings}
    assert used and used <= set(by_id)
    assert made.solution.proven
    assert all(m.sojourn_ns <= m.budget_ns for m in made.margins if m.candidate_id in used)
    report = publish(made, fleet)
    assert {c.id.rsplit("/", 1)[1] for c in report.candidates} == {"d1ms"}
