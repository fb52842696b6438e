"""Plans from imported profiles, as a user runs them: the example, and every way to go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from imported_plans import imported_plan, sheet, write_imported

from planner.errors import InfeasibleError, InputError
from planner.pipeline import dry_run, load_spec, plan, publish
from planner.report import json_schema

EXAMPLE = Path(__file__).parents[2] / "examples" / "bert-large" / "plan.yaml"
SHEET = sheet(
    "net,fp32,T4,tensorrt,1,4,4,4.1,4.2,,a paper",
    "net,int8,T4,tensorrt,1,2,2,2.1,2.2,,a paper",
    "net,int8,T4,tensorrt,8,8,8,8.1,8.2,,a paper",
    "net,int8,T4,tensorrt,16,20,20,20.1,20.2,,a paper",
    "net,int8,A30,tensorrt,1,1,1,1.1,1.2,,a blog",
    "net,int8,genoa,onnxruntime,1,9,9,9.1,9.2,100,a blog",
    "net,int8,genoa,onnxruntime,2,17,17,17.1,17.2,,a blog",
)
CONTENT = imported_plan({"fp32": 0.9, "int8": 0.88}, {"max_drop": 0.05}, {"rate_rps": 400})
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A plan.yaml over a small sheet; keyword arguments change it, None takes a key away."""

    def write(sheet: str = SHEET, **changes: Any) -> Path:
        return write_imported(tmp_path, sheet, CONTENT, **changes)

    return write


def test_the_example(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "planner", "plan", str(EXAMPLE), "--output", str(tmp_path / "plan")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert max(map(len, run.stdout.splitlines())) <= 100
    for part in (
        "(imported)",
        "Proof: optimal",
        "There are no engines",
        "mlcommons/inference",
        "no engines beside",
    ):
        assert part in run.stdout

    report = json.loads((tmp_path / "plan" / "plan.json").read_text())
    jsonschema.validate(report, json_schema())
    assert report["engines"] == []
    assert report["environment"] is None
    assert report["workloads"][0]["imported"]["model"] == "bert-large-384"
    assert {c["device"] for c in report["candidates"]} == {
        "T4",
        "L4",
        "L40S",
        "A100-40GB-SXM",
        "V100-SXM2-16GB",
    }
    assert all("demo/BERT" in p["source"] for c in report["candidates"] for p in c["profiles"])
    assert all(p["samples"] is None for c in report["candidates"] for p in c["profiles"])
    rejected = {r["subject"]: r["reason"] for r in report["rejections"]}
    assert rejected["A30"].startswith("no offer in the catalog has it")
    served = sum(t["rate_rps"] for p in report["fleet"]["placements"] for t in p["traffic"])
    assert served == pytest.approx(2000)
    assert all(t["slo_margin_ms"] > 0 for p in report["fleet"]["placements"] for t in p["traffic"])


def test_what_cannot_serve_is_rejected_and_why(write: Write) -> None:
    spec = load_spec(write())
    made = plan(spec)
    reasons = {r.subject: (r.stage, r.reason) for r in made.rejections}
    assert reasons["A30"] == ("fleet", "no offer in the catalog has it; add your own with fleet.catalog")
    assert reasons["int8, batch 16, 1 thread, tensorrt on T4"] == (
        "profile",
        "dominated: batch 16 has no more throughput than batch 8",
    )
    stage, reason = reasons["int8, batch 2, 1 thread, onnxruntime on genoa"]
    assert stage == "profile" and "memory_mib" in reason
    assert reasons["L4"][1].endswith("no imported profile that can serve on this device")
    assert {s.candidate.device for s in made.servings} == {"T4", "genoa"}
    assert made.baseline is not None, "there is a profile of fp32 at batch 1"
    assert made.services[0].model is None and made.environment is None
    assert (made.measured, made.reused) == (0, 0)
    assert any("from a paper" in note for note in made.notes)
    report = publish(made, spec)
    assert report.engines == []
    assert [v.quality.source for v in report.variants] == ["a paper", "a thesis"]
    assert report.variants[1].quality.drop == pytest.approx(0.02)
    assert report.variants[0].size_bytes is None
    assert not list((spec.output / "engines").glob("*/*")), "a manifest and nothing else"


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"sheet": SHEET.replace("net,fp32,T4,tensorrt,1,4,4,4.1,4.2,,a paper\n", "")},
            "no imported profile of fp32 at batch 1 could serve net",
        ),
        (
            {"fleet": {"only": ["T4"], "budget_usd_per_hour": 0.9}},
            "fp32 at batch 1 cannot serve all within the fleet's limits",
        ),
    ],
)
def test_without_a_baseline_the_reason_is_told(write: Write, changes: dict[str, Any], note: str) -> None:
    named = {"workload": {"name": "net", "rate_rps": 400}, "accuracy": {"max_drop": None, "minimum": 0.5}}
    made = plan(load_spec(write(**named, **changes)))
    assert made.baseline is None
    assert made.baseline_note == note


def test_capacity_is_that_of_the_step_distribution(write: Write) -> None:
    (serving,) = [s for s in plan(load_spec(write())).servings if s.candidate.id == "int8/tensorrt/T4/t1/b1"]
    steps = serving.profiles[0].service_ns
    assert serving.capacity_low_rps == serving.capacity_rps == serving.capacity_high_rps
    assert 0 < serving.capacity_rps < 1e9 * len(steps) / sum(steps)


def test_a_variant_below_the_floor_does_not_serve(write: Write) -> None:
    made = plan(load_spec(write(accuracy={"max_drop": 0.01})))
    assert {s.candidate.variant for s in made.servings} == {"fp32"}
    (rejection,) = [r for r in made.rejections if r.stage == "quality"]
    assert rejection.subject == "int8"
    assert "a drop of 0.0200 is declared (a thesis)" in rejection.reason


def test_less_may_be_better(write: Write) -> None:
    made = plan(load_spec(write(accuracy={"metric": "wer", "max_drop": 0.01})))
    assert {s.candidate.variant for s in made.servings} == {"fp32", "int8"}, "an error rate of 0.88 beats 0.9"


def test_a_store_may_be_named(write: Write, tmp_path: Path) -> None:
    from planner.store import ProfileStore, profiles_of

    path = write()
    store = ProfileStore(tmp_path / "store")
    for profile in profiles_of(tmp_path / "sheet.csv"):
        store.put(profile)
    by_sheet = plan(load_spec(path))
    by_store = plan(load_spec(write(imported={"profiles": "store"})))
    assert by_store.solution.placements == by_sheet.solution.placements
    assert by_store.services[0].imported != by_sheet.services[0].imported


def test_a_dry_run_tells_that_nothing_is_measured(write: Write) -> None:
    told = dry_run(load_spec(write()))
    assert (told.recipes, told.configurations, told.stored, told.seconds) == ((), (), 7, 0)
    command = [sys.executable, "-m", "planner", "plan", str(write()), "--dry-run"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "make and measure nothing" in " ".join(run.stdout.split())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "net.onnx"}, "model: not together with imported"),
        ({"recipes": ["int8"]}, "recipes: not together with imported"),
        ({"accuracy": {"declared": {}}}, "accuracy.declared: missing"),
        ({"accuracy": {"declared": {"int8": {"value": 0.9}}}}, "accuracy.declared.int8.source: missing"),
        (
            {"accuracy": {"declared": {"int8": {"value": 0.9, "source": "x"}}}},
            "accuracy.max_drop: drops are counted from fp32",
        ),
        ({"imported": {"profiles": "bert-larg"}}, "did you mean bert-large?"),
        (
            {"imported": {"profiles": "bert-large"}},
            "imported.model: expected one of bert-large-128, bert-large-384",
        ),
        ({"imported": {"model": "bert"}}, "imported.model: expected one of net, got bert"),
        (
            {"imported": {"sold_as": {"T5": "T4"}}},
            "imported.sold_as: no profile is of T5; they are of A30, T4",
        ),
        ({"imported": {"sold_as": {"A30": "T44"}}}, "no device 'T44' in the catalog; did you mean T4"),
        ({"imported": {"sold_as": {"A30": "T4"}}}, "A30 and T4 would both be T4"),
        ({"sheet": SHEET.replace(",8.2,", ",8,")}, "sheet.csv:4: p99_ms: expected 8.1 or more"),
        (
            {"sheet": SHEET + "net,int8,T4,tensorrt,1,2,2,2.1,2.2,,a blog\n"},
            "T4 is given twice, 1 and 1 instances, by a paper and by a blog",
        ),
        ({"fleet": {"regions": ["nowhere"]}}, "unknown region"),
    ],
)
def test_a_mistake_is_one_line(write: Write, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(load_spec(write(**changes)))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"accuracy": {"minimum": 0.95, "max_drop": None}}, "declared at 0.9000; minimum: 0.9000 would do"),
        (
            {
                "accuracy": {
                    "declared": {"fp16": {"value": 0.9, "source": "x"}},
                    "max_drop": None,
                    "minimum": 0.5,
                }
            },
            "accuracy.declared has fp16, the profiles are of fp32, int8",
        ),
        ({"workload": {"rate_rps": 1, "slo": {"latency": "1ms"}}}, "the SLO blocks every configuration"),
        (
            {"workload": {"rate_rps": 1, "slo": {"latency": "30ms", "percentile": 97}}},
            "the SLO is about p97, a blog gives p50, p95, p99",
        ),
        ({"fleet": {"providers": ["runpod"], "regions": []}}, "no imported profile can be used"),
    ],
)
def test_no_plan_says_what_blocks_it(write: Write, changes: dict[str, Any], expected: str) -> None:
    if "accuracy" in changes:
        accuracy = yaml.safe_load(write().read_text())["accuracy"] | changes["accuracy"]
        changes = changes | {"accuracy": None}
        path = write(**changes)
        content = yaml.safe_load(path.read_text())
        content["accuracy"] = {key: value for key, value in accuracy.items() if value is not None}
        path.write_text(yaml.safe_dump(content))
    else:
        path = write(**changes)
    with pytest.raises(InfeasibleError) as caught:
        plan(load_spec(path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["variants", "profile"])
def test_commands_that_need_a_model_say_so(write: Write, command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "planner", command, str(write())], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 2
    assert "there is no model to make variants of; use planner plan" in run.stderr


def test_a_model_has_no_declared_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "model: net.onnx\naccuracy: {max_drop: 1%, declared: {int8: {value: 1, source: x}}}\n"
        "workload: {rate_rps: 1, slo: {latency: 1ms}}\n"
    )
    with pytest.raises(InputError, match=r"accuracy\.declared is for imported profiles"):
        load_spec(path)
