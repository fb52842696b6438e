"""The terminal program as a user runs it: a whole plan on a small model, and every way to go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import onnx_models
import pytest
from plan_files import planner, tiny_plan, write_plan

if TYPE_CHECKING:
    from onnx_models import LabelledModel


def refused(run: subprocess.CompletedProcess[str], code: int, *expected: str) -> None:
    """The exit code, one line on stderr that says what was expected, nothing on stdout."""
    assert run.returncode == code, run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    assert run.stderr.startswith("planner: ")
    for part in expected:
        assert part in run.stderr
    assert run.stdout == ""


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, tiny_model: LabelledModel) -> Write:
    """Writes a plan.yaml over the tiny model that plans within seconds; keyword arguments change it."""

    def write(**changes: Any) -> Path:
        return write_plan(tmp_path / "plan.yaml", tiny_plan(tiny_model), **changes)

    return write


def test_a_plan_from_nothing_and_again_from_the_store(write: Write, tmp_path: Path) -> None:
    spec = write()
    first = planner("plan", spec)
    assert first.returncode == 0, first.stderr
    assert first.stderr == "", "progress stays quiet where stderr is no terminal"
    assert max(len(line) for line in first.stdout.splitlines()) <= 100
    assert "Proof: optimal" in first.stdout

    folder = tmp_path / "plan"
    report = json.loads((folder / "plan.json").read_text())
    schema = json.loads(planner("schema", "report").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)
    assert report["proof"]["proven"]
    assert report["proof"]["bound_usd_per_hour"] == pytest.approx(report["fleet"]["cost"]["usd_per_hour"])
    assert report["measured_profiles"] > 0
    served = sum(t["rate_rps"] for p in report["fleet"]["placements"] for t in p["traffic"])
    assert served == pytest.approx(100)
    assert all(t["slo_margin_ms"] > 0 for p in report["fleet"]["placements"] for t in p["traffic"])
    assert not [p for p in folder.rglob("*") if p.name.startswith(".")], "nothing half-written stays"

    again = planner("plan", spec, "--json")
    assert again.returncode == 0, again.stderr
    second = json.loads(again.stdout)
    assert second["measured_profiles"] == 0
    for key in ("fleet", "candidates", "variants", "rejections", "baseline"):
        assert second[key] == report[key], f"{key} is the same from the same profiles"
    assert "Nothing measured" in planner("plan", spec).stdout


def test_engines_are_checked_against_their_manifest(write: Write, tmp_path: Path) -> None:
    assert planner("plan", write()).returncode == 0
    listed = planner("engines", tmp_path / "plan")
    assert listed.returncode == 0, listed.stderr
    assert "each the one in the manifest" in listed.stdout

    engine = next((tmp_path / "plan" / "engines").glob("*/model.onnx"))
    engine.write_bytes(engine.read_bytes() + b"\0")
    refused(
        planner("engines", tmp_path / "plan"), 2, str(engine), "sha256", "not the engine that was measured"
    )
    engine.unlink()
    refused(planner("engines", tmp_path / "plan"), 2, str(engine), "missing")


def test_a_dry_run_tells_and_does_nothing(write: Write, tmp_path: Path) -> None:
    run = planner("plan", write(), "--dry-run", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["recipes"] == ["fp32", "int8"]
    assert len(told["configurations"]) == 4
    assert told["estimated_seconds_at_most"] > 0
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["plan", "plan.yaml"]
    assert "Would measure 4 configurations" in planner("plan", write(), "--dry-run").stdout


def test_the_steps_alone(write: Write) -> None:
    spec = write()
    variants = planner("variants", spec, "--json")
    assert variants.returncode == 0, variants.stderr
    made = json.loads(variants.stdout)["variants"]
    assert [v["variant"] for v in made] == ["fp32", "int8"]
    assert all(Path(v["path"]).is_file() for v in made)
    profiled = planner("profile", spec)
    assert profiled.returncode == 0, profiled.stderr
    assert "Measured 4 configurations" in profiled.stdout
    assert json.loads(planner("profile", spec, "--json").stdout)["measured"] == 0


def test_another_model_competes_on_equal_terms(
    write: Write, tmp_path: Path, tiny_model: LabelledModel
) -> None:
    """The same task at a quarter of the width: judged on the same samples, against the main model's fp32."""
    student = onnx_models.student(tmp_path / "student.onnx", tiny_model)
    candidate = {"model": str(student), "dimensions": {"N": "batch"}}
    spec = write(candidates=[candidate], accuracy={"max_drop": 0.5}, recipes=["fp32", "int8"])
    run = planner("plan", spec, "--json", "--exhaustive")  # all are measured, whichever wins
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    quality = {v["variant"]: v["quality"] for v in report["variants"]}
    assert list(quality) == ["fp32", "int8", "student.fp32", "student.int8"]
    assert quality["student.fp32"]["drop"] == pytest.approx(
        quality["fp32"]["value"] - quality["student.fp32"]["value"]
    )
    assert any(c["variant"].startswith("student.") for c in report["candidates"])
    refused(planner("plan", write(candidates=[candidate, candidate])), 2, "two are called student")


def test_the_same_pipeline_as_a_call(write: Write, tmp_path: Path) -> None:
    import planner as package

    report = package.plan(write(recipes=["fp32"]), output=tmp_path / "elsewhere")
    assert report.fleet.placements
    assert (tmp_path / "elsewhere" / "plan.json").is_file()
    assert not (tmp_path / "plan").exists()


def test_init_writes_a_plan_that_runs_as_it_is(tiny_model: LabelledModel, tmp_path: Path) -> None:
    spec = tmp_path / "plan.yaml"
    arguments = ("init", tiny_model.model, "--rate", "50", "--latency", "100ms", "--output", spec)
    made = planner(*arguments, "--percentile", "90")
    assert made.returncode == 0, made.stderr
    run = planner("plan", spec)
    assert run.returncode == 0, run.stderr
    assert "Evaluation data are random" in run.stdout
    refused(planner(*arguments), 2, "exists already", "--force")
    refused(planner("init", tiny_model.model, "-o", tmp_path / "b.yaml"), 2, "--rate: missing")


def test_help_is_light() -> None:
    code = (
        "import sys\n"
        "from planner.cli import main\n"
        "sys.argv = ['planner', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'onnxruntime', 'onnx', 'numpy', 'pulp', 'scipy', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "plan" in run.stdout


def test_a_missing_package_says_how_to_install_it(write: Write) -> None:
    code = (
        "import sys\n"
        "sys.modules['onnxruntime'] = None\n"
        "from planner.cli import main\n"
        f"sys.argv = ['planner', 'plan', {str(write())!r}]\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    refused(run, 4, "pip install onnxruntime-gpu")


# Bad input: each its exit code and one clear line.


def test_missing_model(write: Write, tmp_path: Path) -> None:
    refused(planner("plan", write(model="nowhere.onnx")), 2, "nowhere.onnx", "no such file")
    assert not (tmp_path / "plan").exists()


def test_truncated_model(write: Write, tmp_path: Path) -> None:
    path = onnx_models.truncated(tmp_path / "cut.onnx")
    refused(planner("plan", write(model=str(path))), 2, "cut.onnx", "cut short")


def test_missing_external_data(write: Write, tmp_path: Path) -> None:
    path = onnx_models.external_data_missing(tmp_path / "model.onnx")
    refused(planner("plan", write(model=str(path))), 2, "weights.bin", "missing")


def test_external_data_outside_the_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path = onnx_models.external_data_escaping(tmp_path / "inside" / "model.onnx")
    refused(planner("plan", write(model=str(path))), 2, "../secret.bin", "outside")


def test_unbound_dimension(write: Write) -> None:
    refused(planner("plan", write(dimensions={"N": None})), 2)
    refused(planner("plan", write(dimensions=None)), 2, "dimension N", "dimensions: {N: batch}")


def test_labels_of_the_wrong_length(write: Write, tmp_path: Path, tiny_model: LabelledModel) -> None:
    with np.load(tiny_model.evaluation) as data:
        np.savez(tmp_path / "bad.npz", x=data["x"], labels=data["labels"][:-1])
    refused(planner("plan", write(data={"evaluation": "bad.npz"})), 2, "bad.npz", "labels")


def test_pickles_are_never_loaded(write: Write, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    np.savez(tmp_path / "evil.npz", x=np.array([Bomb()], dtype=object), labels=np.zeros(1))
    refused(planner("plan", write(data={"evaluation": "evil.npz"})), 2, "evil.npz", "pickle")
    assert not (tmp_path / "exploded").exists()


def test_calibration_data_must_not_be_evaluated_on(write: Write, tiny_model: LabelledModel) -> None:
    run = planner("plan", write(data={"calibration": str(tiny_model.evaluation)}))
    refused(run, 2, "calibration never saw")


def test_unknown_recipe_key_metric_and_provider(write: Write) -> None:
    refused(planner("plan", write(recipes=["fp32", "int9"])), 2, "int9", "int8")
    refused(planner("plan", write(recipies=["fp32"])), 2, "recipies: unknown key; did you mean recipes?")
    refused(planner("plan", write(accuracy={"metric": "acuracy"})), 2, "acuracy", "accuracy")
    refused(planner("plan", write(fleet={"providers": ["awz"]})), 2, "awz", "aws")


@pytest.mark.parametrize("rate", [0, -5])
def test_rate(write: Write, rate: int) -> None:
    refused(planner("plan", write(workload={"rate_rps": rate})), 2, "workload.rate_rps", "greater than 0")


def test_an_slo_under_the_fastest_latency(write: Write, tmp_path: Path) -> None:
    run = planner("plan", write(workload={"slo": {"percentile": 90, "latency": "100ns"}}))
    refused(run, 3, "the SLO blocks every configuration", "latency above")
    assert not (tmp_path / "plan" / "plan.json").exists()


def test_a_floor_that_no_variant_meets(write: Write) -> None:
    spec = write(accuracy={"max_drop": None, "minimum": 0.9999})
    refused(planner("plan", spec), 3, "accuracy floor blocks every variant", "would do")


def test_a_fleet_that_cannot_serve(write: Write) -> None:
    refused(planner("plan", write(fleet={"providers": ["lambda"]})), 3, "fleet")
    spec = write(fleet={"max_instances_per_offer": 1}, workload={"rate_rps": 1e9})
    refused(planner("plan", spec), 3, "max_instances_per_offer")


@pytest.mark.parametrize(
    ("price", "device", "expected"),
    [("0", "genoa", "prices/aws.csv:2"), ("0.1", "no-such-device", "no-such-device")],
)
def test_a_bad_catalog_row(write: Write, tmp_path: Path, price: str, device: str, expected: str) -> None:
    folder = tmp_path / "mine"
    (folder / "instances").mkdir(parents=True)
    (folder / "prices").mkdir()
    (folder / "sources.yaml").write_text(
        "invoice:\n  citation: our invoice\n  as_of: 2026-10-01\n  quality: read\n"
    )
    (folder / "instances" / "aws.csv").write_text(
        f"instance_type,device,device_count,vcpus,memory_gib,source,note\nz9.large,{device},0,2,4,invoice,\n"
    )
    (folder / "prices" / "aws.csv").write_text(
        f"instance_type,region,purchase,usd_per_hour,source\nz9.large,us-east-1,on-demand,{price},invoice\n"
    )
    refused(planner("plan", write(fleet={"catalog": "mine"})), 2, expected)
    checked = planner("catalog", "check", folder)
    assert checked.returncode == 2
    assert expected in checked.stderr


def test_an_output_folder_that_cannot_be_written(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(planner("plan", write(output="file/plan")), 2, "file/plan", "cannot be written")


def test_an_interrupt_keeps_what_was_measured(write: Write, tmp_path: Path) -> None:
    # A percentile that asks for so many samples that the interrupt comes in their middle.
    spec = write(workload={"rate_rps": 10, "slo": {"percentile": 99.9999, "latency": "200ms"}})
    process = subprocess.Popen(
        [sys.executable, "-m", "planner", "plan", str(spec)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Shells start background jobs, such as this test run may be, with interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    profiles = tmp_path / "plan" / "profiles"
    deadline = time.monotonic() + 120
    while len(list(profiles.glob("*/*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "every finished measurement is kept" in err
    assert "Traceback" not in err
    for path in profiles.glob("*/*.json"):
        assert json.loads(path.read_text())["samples_ns"]
    assert not (tmp_path / "plan" / "plan.json").exists()
