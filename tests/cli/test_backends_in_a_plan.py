"""A plan over two backends from the command line: what it says, what it keeps, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest
from plan_files import planner, tiny_plan, write_plan

from planner.cli import render
from planner.report import PlanReport, json_schema, read_engines

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture
def write(tmp_path: Path, tiny_model: LabelledModel) -> Callable[[list[str]], Path]:
    def write(backends: list[str]) -> Path:
        return write_plan(
            tmp_path / "plan.yaml",
            tiny_plan(tiny_model),
            backends=backends,
            fleet={"providers": ["aws"], "regions": ["us-east-1"]},
        )

    return write


def test_two_backends_compete(
    write: Callable[[list[str]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiled = planner("profile", write(["onnxruntime"]), "--json")
    assert profiled.returncode == 0, profiled.stderr
    before = json.loads(profiled.stdout)["measured"]

    spec = write(["onnxruntime", "openvino"])
    told = json.loads(planner("plan", spec, "--dry-run", "--json").stdout)
    assert told["stored_configurations"] == before, "taken before OpenVINO was asked for, and still valid"
    assert all("openvino" in c for c in told["configurations"])

    run = planner("plan", spec, "--json", "--exhaustive")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    jsonschema.validate(report, json_schema())
    # What the plan uses is measured again, wherever its profile came from.
    assert report["reused_profiles"] + report["measured_profiles"] == before + len(told["configurations"])
    assert report["measured_profiles"] >= len(told["configurations"])
    assert report["reused_profiles"] > 0
    assert report["environment"]["libraries"].keys() == {"onnxruntime", "openvino"}
    assert {(v["variant"], v["backend"]) for v in report["variants"]} == {
        (v, b) for v in ("fp32", "int8") for b in ("onnxruntime", "openvino")
    }
    ids = [c["id"] for c in report["candidates"]]
    assert len(set(ids)) == len(ids)
    candidates = {c["id"]: (c["variant"], c["backend"]) for c in report["candidates"]}
    assert {backend for _, backend in candidates.values()} == {"onnxruntime", "openvino"}
    used = {candidates[t["candidate_id"]] for p in report["fleet"]["placements"] for t in p["traffic"]}
    assert {(e["variant"], e["backend"]) for e in report["engines"]} == used

    render.plan(PlanReport.model_validate(report), tmp_path / "plan")
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert " on openvino" in shown or " on onnxruntime" in shown


def test_openvino_alone(write: Callable[[list[str]], Path], tmp_path: Path) -> None:
    run = planner("plan", write(["openvino"]), "--json")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert {c["backend"] for c in report["candidates"]} == {"openvino"}
    assert report["baseline"]["fleet"] is not None, "fp32 on the backend that there is"
    manifest = json.loads((tmp_path / "plan" / "engines" / "manifest.json").read_text())
    assert {e["backend"] for e in manifest["engines"]} == {"openvino"}
    assert "openvino" in manifest["libraries"]
    assert [e.backend for e in read_engines(tmp_path / "plan" / "engines")] == ["openvino"]


@pytest.mark.parametrize(
    ("backends", "expected"),
    [
        (["openvinno"], "backends: openvinno: no such backend; known: onnxruntime"),
        (["onnxruntime-cuda"], "backends: onnxruntime-cuda runs on nvidia-gpu, this machine has none"),
        ([], "backends"),
    ],
)
def test_backends_that_cannot_be(
    write: Callable[[list[str]], Path], backends: list[str], expected: str, tmp_path: Path
) -> None:
    run = planner("plan", write(backends))
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert expected in run.stderr
    assert not (tmp_path / "plan").exists()


def test_a_backend_that_is_not_installed(write: Callable[[list[str]], Path]) -> None:
    code = (
        "import importlib.metadata as metadata, sys\n"
        "found = metadata.version\n"
        "def version(name):\n"
        "    if name == 'openvino':\n        raise metadata.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "metadata.version = version\n"
        "sys.modules['openvino'] = None\n"
        "from planner.cli import main\n"
        f"sys.argv = ['planner', 'plan', {str(write(['onnxruntime', 'openvino']))!r}]\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 4, run.stderr
    assert run.stderr.count("\n") == 1
    assert "pip install openvino" in run.stderr
