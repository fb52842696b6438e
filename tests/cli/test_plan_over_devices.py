"""A plan over devices of which only profiles are here: taken on other machines, merged into the store."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from plan_files import planner, tiny_plan, write_plan

from planner.backends.tensorrt import EngineRecord, Order, Place, adopt, engines_beside, record_path
from planner.backends.tensorrt.record import write_record
from planner.catalog import load, local_cpu, match_cpu
from planner.cli import render
from planner.domain.profile import Profile
from planner.pipeline import load_spec
from planner.report import PlanReport, json_schema, read_engines
from planner.store import ProfileStore
from planner.variants import bind, read_model

if TYPE_CHECKING:
    from onnx_models import LabelledModel

HERE = match_cpu(local_cpu(), load(None)).device.name
FAR = "genoa" if HERE == "ice-lake-sp" else "ice-lake-sp"
"""Not this machine's CPU, whichever that is."""
MUCH = {"rate_rps": 20_000_000}
"""More than many instances of this machine's CPU take, so that what is faster is cheaper."""


def taken_on(profile: Profile, device: str, backend: str, factor: float) -> Profile:
    """The profile as another machine might have taken it, its times multiplied."""
    c, e = profile.configuration, profile.environment
    gpu = backend != "onnxruntime"
    return replace(
        profile,
        configuration=replace(c, device=device, backend=backend, replicas=1 if gpu else c.replicas),
        environment=replace(e, cpu_model=f"beside {device}", libraries=((backend, "1.0"),)),
        samples_ns=tuple(max(round(ns * factor), 1) for ns in profile.samples_ns),
        fresh=0,
    )


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory, tiny_model: LabelledModel) -> Path:
    """A folder with plan.yaml and the profiles of this machine's CPU, of both variants and batch sizes."""
    folder = tmp_path_factory.mktemp("profiled")
    run = planner("profile", write_plan(folder / "plan.yaml", tiny_plan(tiny_model)))
    assert run.returncode == 0, run.stderr
    return folder


def plan_with(
    profiled: Path,
    tmp_path: Path,
    tiny_model: LabelledModel,
    far: list[tuple[str, str, float]],
    engine_sha256: str = "",
    **changes: Any,
) -> dict[str, Any]:
    """A plan in ``tmp_path`` over a store with this machine's profiles and what was ``taken_on`` others."""
    store = ProfileStore(tmp_path / "plan" / "profiles")
    for profile in ProfileStore(profiled / "plan" / "profiles").all():
        store.put(profile)
        for device, backend, factor in far:
            store.put(replace(taken_on(profile, device, backend, factor), engine_sha256=engine_sha256))
    spec = write_plan(tmp_path / "plan.yaml", tiny_plan(tiny_model), **changes)
    run = planner("plan", spec, "--json")
    assert run.returncode == 0, run.stderr
    report: dict[str, Any] = json.loads(run.stdout)
    jsonschema.validate(report, json_schema())
    return report


def bought(report: dict[str, Any]) -> set[str]:
    offers = {offer["id"]: offer for offer in report["offers"]}
    return {offers[p["offer_id"]]["device"] for p in report["fleet"]["placements"]}


def test_another_machines_cpu_wins_where_it_is_faster(
    profiled: Path, tmp_path: Path, tiny_model: LabelledModel
) -> None:
    report = plan_with(
        profiled,
        tmp_path,
        tiny_model,
        [(FAR, "onnxruntime", 0.05), ("milan", "onnxruntime", 0.01)],
        workload=MUCH,
    )
    assert any(r["subject"] == "milan" and "no offer" in r["reason"] for r in report["rejections"])
    assert bought(report) == {FAR}
    (taken,) = report["taken_in"]
    assert (taken["device"], taken["backend"], taken["here"]) == (FAR, "onnxruntime", False)
    assert taken["environment"]["cpu_model"] == f"beside {FAR}"
    assert any(f"{FAR} were taken on other machines" in note for note in report["notes"])
    assert [(e["device"], e["status"]) for e in report["engines"]] == [(FAR, "measured")]
    assert report["environment"]["cpu_model"] != f"beside {FAR}"


def test_another_machines_cpu_loses_where_it_is_slower(
    profiled: Path, tmp_path: Path, tiny_model: LabelledModel
) -> None:
    report = plan_with(profiled, tmp_path, tiny_model, [(FAR, "onnxruntime", 50.0)], workload=MUCH)
    assert FAR not in bought(report)
    assert not any("other machines" in note for note in report["notes"])


def test_a_gpu_that_is_not_here(
    profiled: Path, tmp_path: Path, tiny_model: LabelledModel, capsys: pytest.CaptureFixture[str]
) -> None:
    report = plan_with(
        profiled,
        tmp_path,
        tiny_model,
        [("T4", "tensorrt", 0.0005), ("no-such-gpu", "tensorrt", 0.0001)],
        backends=["onnxruntime", "tensorrt"],
        recipes=["fp32"],
        workload=MUCH,
    )
    assert bought(report) == {"T4"}
    assert any(r["subject"] == "no-such-gpu" and "catalog" in r["reason"] for r in report["rejections"])
    (engine,) = report["engines"]
    assert (engine["backend"], engine["device"], engine["status"]) == ("tensorrt", "T4", "to-build")
    assert engine["build"].startswith("trtexec --onnx=model.onnx ") and engine["path"].endswith(".onnx")
    (kept,) = read_engines(tmp_path / "plan" / "engines")
    assert (kept.status, kept.build) == ("to-build", engine["build"])
    render.plan(PlanReport.model_validate(report), tmp_path / "plan")
    shown = " ".join(capsys.readouterr().out.split())
    assert "Engine: fp32 for T4, tensorrt, yet to be built there; there: trtexec" in shown


def test_the_engine_that_was_measured_is_the_one_that_ships(
    profiled: Path, tmp_path: Path, tiny_model: LabelledModel
) -> None:
    """Of several builds of one variant, that of the profiles; where it is lost, none stands in for it."""
    (sha256,) = {
        p.configuration.variant_sha256
        for p in ProfileStore(profiled / "plan" / "profiles").all()
        if p.configuration.variant == "fp32"
    }
    spec = load_spec(profiled / "plan.yaml").services[0]
    inputs = bind(read_model(spec.entrants[0].model), {"N": "batch"})
    order, place = Order(sha256, inputs, spec.batch_sizes), Place("tensorrt", "11", "L4", "8.9", "580", "13")
    for content in (b"a build", b"the one measured", b"another build"):
        digest = hashlib.sha256(content).hexdigest()
        record = EngineRecord(place, order, ("y",), digest, len(content), "measured", "2026-01-01")
        engine = tmp_path / f"{digest}.engine"
        engine.write_bytes(content)
        write_record(engine, record)
        files = {path.name: path.read_bytes() for path in (engine, record_path(engine))}
        adopt(files, engines_beside(tmp_path / "plan" / "profiles") / "L4")
    for timed, status in ((b"the one measured", "measured"), (b"lost", "to-build")):
        report = plan_with(
            profiled,
            tmp_path,
            tiny_model,
            [("L4", "tensorrt", 0.0005)],
            engine_sha256=hashlib.sha256(timed).hexdigest(),
            backends=["onnxruntime", "tensorrt"],
            recipes=["fp32"],
            workload=MUCH,
        )
        (engine,) = report["engines"]
        assert (engine["device"], engine["status"]) == ("L4", status)
        if status == "measured":
            assert (tmp_path / "plan" / engine["path"]).read_bytes() == timed


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt_rtx")
@pytest.mark.parametrize(("device", "status"), [("L4", "built-ahead"), ("V100-SXM2-16GB", "to-build")])
def test_engines_built_ahead_of_time(
    profiled: Path, tmp_path: Path, tiny_model: LabelledModel, device: str, status: str
) -> None:
    report = plan_with(
        profiled,
        tmp_path,
        tiny_model,
        [(device, "tensorrt-rtx", 0.0002)],
        backends=["onnxruntime", "tensorrt-rtx"],
        recipes=["fp32"],
        workload=MUCH,
    )
    (engine,) = report["engines"]
    assert (engine["device"], engine["status"]) == (device, status)
    assert engine["path"].endswith(".engine" if status == "built-ahead" else ".onnx")
    assert bool(engine["build"]) == (status == "to-build")
    assert len(read_engines(tmp_path / "plan" / "engines")) == 1


def test_two_environments_of_one_device_are_not_mixed(
    profiled: Path, tmp_path: Path, tiny_model: LabelledModel
) -> None:
    """The latest is used, and the plan says that there are two."""
    store = ProfileStore(tmp_path / "plan" / "profiles")
    for profile in ProfileStore(profiled / "plan" / "profiles").all():
        older = taken_on(profile, FAR, "onnxruntime", 0.001)
        e = replace(older.environment, system="an older one")
        store.put(replace(older, environment=e, taken_at="2020-01-01T00:00:00+00:00"))
    report = plan_with(profiled, tmp_path, tiny_model, [(FAR, "onnxruntime", 0.05)], workload=MUCH)
    assert any(f"{FAR} with onnxruntime were taken in 2 environments" in note for note in report["notes"])
    far = [c for c in report["candidates"] if c["device"] == FAR]
    assert {p["taken_at"] for c in far for p in c["profiles"]} != {"2020-01-01T00:00:00+00:00"}
