"""planner export, as a user runs it: on a plan of the tiny model, and every way to go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from exported_plans import mixed_fleet
from exported_plans import write_plan as write_report
from google.protobuf import text_format
from plan_files import planner, tiny_plan, write_plan
from tritonclient.grpc import model_config_pb2

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, tiny_model: LabelledModel) -> Path:
    """A folder with plan.yaml and the plan."""
    folder = tmp_path_factory.mktemp("planned")
    run = planner("plan", write_plan(folder / "plan.yaml", tiny_plan(tiny_model)))
    assert run.returncode == 0, run.stderr
    return folder


def test_triton_of_a_real_plan(planned: Path, tmp_path: Path, tiny_model: LabelledModel) -> None:
    run = planner("export", planned / "plan", "--to", "triton", "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert max(map(len, run.stdout.splitlines())) <= 100
    report = json.loads((planned / "plan" / "plan.json").read_text())
    (placement,) = report["fleet"]["placements"]
    (traffic,) = placement["traffic"]
    (candidate,) = (c for c in report["candidates"] if c["id"] == traffic["candidate_id"])
    (path,) = (tmp_path / "out").rglob("config.pbtxt")
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    assert config.name == candidate["workload"] == path.parent.name
    assert config.max_batch_size == candidate["max_batch_size"]
    assert config.instance_group[0].count == traffic["replicas_per_instance"]
    with np.load(tiny_model.evaluation) as data:
        assert list(config.input[0].dims) == list(data["x"].shape[1:])
    (engine,) = report["engines"]
    shipped = (planned / "plan" / engine["path"]).read_bytes()
    assert (path.parent / "1" / "model.onnx").read_bytes() == shipped
    private = [str(planned).encode(), str(tmp_path).encode(), str(Path.home()).encode()]
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            assert not any(word in file.read_bytes() for word in private), file


@pytest.mark.parametrize("target", ["kubernetes", "kserve", "skypilot"])
def test_the_other_targets_of_a_real_plan(planned: Path, tmp_path: Path, target: str) -> None:
    run = planner("export", planned / "plan" / "plan.json", "--to", target, "-o", tmp_path / "out", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["target"] == target
    files = [Path(name) for name in told["files"]]
    assert sorted(files) == sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    documents = [d for f in files if f.suffix == ".yaml" for d in yaml.safe_load_all(f.read_text())]
    assert documents


def test_the_terminal(tmp_path: Path) -> None:
    plan = write_report(tmp_path / "plan", mixed_fleet())
    run = planner("export", plan, "--to", "kubernetes", "--output", "out", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    text = " ".join(run.stdout.split())
    assert "aws-c7i-4xlarge-us-east-1 1 to 3 aws c7i.4xlarge 3 × int8 of search, 1 × fp32 of rank" in text
    assert "Note: search: route 47.9% to aws-us-east-1, 52.1% to azure-eastus" in text
    assert "files for kubernetes to out, from plan" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "helm", "-o", "new"), "helm"),
        (("--to", "triton", "-o", "full"), "full: is there and not empty; give another --output, or --force"),
        (("--to", "triton", "-o", "full", "--force"), "full: is no export"),
        (("--to", "triton", "-o", "new", "--dimension", "n=0"), "--dimension n=0: expected NAME=SIZE"),
        (
            ("--to", "triton", "-o", "new", "--dimension", "M=8"),
            "--dimension M: the plan's models have no such",
        ),
        (("--to", "skypilot", "-o", "new"), "export this plan to kubernetes"),
    ],
)
def test_one_line_for_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    write_report(tmp_path / "plan", mixed_fleet())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("by hand")
    run = planner("export", "plan", *arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert said in " ".join(run.stderr.split())
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "full" / "mine").read_text() == "by hand"


def test_no_plan(tmp_path: Path) -> None:
    run = planner("export", tmp_path / "nothing", "--to", "triton", "-o", tmp_path / "out")
    assert run.returncode == 2
    assert "make one with planner plan" in run.stderr
    assert run.stderr.count("\n") == 1
