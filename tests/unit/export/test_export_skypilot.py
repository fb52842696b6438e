"""SkyPilot's tasks, and SkyPilot's own judgement of them where it is installed.

SkyPilot is large, so it is no dependency of the tests: name a Python that has it in SKYPILOT_PYTHON, or
install it here (``pip install skypilot``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported_plans import (
    C7I,
    RANK_CPU,
    SEARCH_CPU,
    SEARCH_T4,
    candidate,
    mixed_fleet,
    offer,
    placed,
    plan,
    simple_fleet,
    workload,
    write_plan,
)

from planner.errors import InputError
from planner.export import Settings, export
from planner.report import PlanReport

CATALOGS = Path(__file__).parents[2] / "fixtures" / "skypilot"
JUDGE = """
import sys, sky
for path in sys.argv[1:]:
    task = sky.Task.from_yaml(path)
    task.validate()
    (found,) = task.resources
    asked = (found.cloud, found.instance_type, found.accelerators, found.use_spot, task.service is not None)
    print("judged", path, *asked, sep="|")
"""


def tasks(tmp_path: Path, report: PlanReport) -> dict[str, dict[str, Any]]:
    export(write_plan(tmp_path / "plan", report), "skypilot", tmp_path / "out", Settings())
    return {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "out").glob("*.yaml")}


def test_what_a_task_asks_for(tmp_path: Path) -> None:
    found = tasks(tmp_path, simple_fleet())
    assert set(found) == {
        "aws-c7i-4xlarge-us-east-1",
        "gcp-g2-standard-8-us-central1-spot",
        "azure-standard-nc64as-t4-v3-eastus",
    }
    spot = found["gcp-g2-standard-8-us-central1-spot"]
    assert spot["resources"] == {
        "infra": "gcp/us-central1",
        "instance_type": "g2-standard-8",
        "use_spot": True,
        "image_id": "docker:nvcr.io/nvidia/tritonserver:26.08-py3",
        "ports": 8000,
        "accelerators": {"L4": 1},
    }
    policy = found["aws-c7i-4xlarge-us-east-1"]["service"]["replica_policy"]
    assert policy == {"min_replicas": 1, "max_replicas": 3, "target_qps_per_replica": 220}
    assert found["azure-standard-nc64as-t4-v3-eastus"]["service"]["replica_policy"] == {"min_replicas": 1}


def test_every_task_brings_its_repository(tmp_path: Path) -> None:
    for name, task in tasks(tmp_path, simple_fleet()).items():
        (source,) = task["file_mounts"].values()
        assert source == f"./repositories/{name}"
        assert list((tmp_path / "out" / source).glob("*/config.pbtxt"))


def test_zone_and_machine_with_a_gpu_of_ones_choice(tmp_path: Path) -> None:
    n1 = offer("gcp", "n1-standard-4+1xT4", "us-central1", "T4")
    report = plan(
        [workload("search")],
        [SEARCH_T4],
        [n1],
        [placed(n1, 1, {SEARCH_T4.id: (1, 9.0)}, zone="gcp/us-central1-a")],
    )
    (task,) = tasks(tmp_path, report).values()
    resources = task["resources"]
    assert resources["infra"] == "gcp/us-central1/us-central1-a"
    assert (resources["instance_type"], resources["accelerators"]) == ("n1-standard-4", {"T4": 1})


def test_what_needs_several_processes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p4d\.24xlarge runs MIG slices, .* export this plan to kubernetes"):
        tasks(tmp_path / "mig", mixed_fleet())
    other = candidate("search", "fp32", "onnxruntime", "sapphire-rapids", threads=4)
    runs = {SEARCH_CPU.id: (1, 60.0), RANK_CPU.id: (1, 5.0), other.id: (1, 20.0)}
    report = plan(
        [workload("search"), workload("rank")], [SEARCH_CPU, RANK_CPU, other], [C7I], [placed(C7I, 4, runs)]
    )
    with pytest.raises(InputError, match="two configurations of one workload"):
        tasks(tmp_path / "two", report)


def sky_python() -> str | None:
    python = os.environ.get("SKYPILOT_PYTHON", sys.executable)
    found = subprocess.run(
        [python, "-c", "import importlib.util as u; assert u.find_spec('sky')"], check=False
    )
    return python if found.returncode == 0 else None


def test_skypilot_accepts_the_tasks(tmp_path: Path) -> None:
    """Offline: its catalogs are the fixtures, in which the instance types below are."""
    python = sky_python()
    if python is None:
        pytest.skip("needs skypilot")
    aws = offer("aws", "c7i.large", "us-east-1", "sapphire-rapids", device_count=0.0, vcpus=2)
    l4 = offer("aws", "g6.xlarge", "us-east-1", "L4", vcpus=4, purchase="spot")
    cpu = candidate("search", "int8", "onnxruntime", "sapphire-rapids")
    gpu = candidate("rank", "fp16", "tensorrt", "L4")
    report = plan(
        [workload("search"), workload("rank")],
        [cpu, gpu],
        [aws, l4],
        [
            placed(aws, 3, {cpu.id: (2, 40.5)}, "day"),
            placed(aws, 1, {cpu.id: (2, 9.5)}, "night"),
            placed(l4, 2, {gpu.id: (1, 400.0)}, "day", zone="aws/use1-az1"),
            placed(l4, 2, {gpu.id: (1, 100.0)}, "night", zone="aws/use1-az1"),
        ],
        ("day", "night"),
    )
    names = sorted(tasks(tmp_path, report))
    home = tmp_path / "home"
    shutil.copytree(CATALOGS, home / ".sky" / "catalogs")
    ran = subprocess.run(
        [python, "-c", JUDGE, *(f"{name}.yaml" for name in names)],
        cwd=tmp_path / "out",
        env={**os.environ, "HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert [line for line in ran.stdout.splitlines() if line.startswith("judged")] == [
        "judged|aws-c7i-large-us-east-1.yaml|AWS|c7i.large|None|False|True",
        "judged|aws-g6-xlarge-use1-az1-spot.yaml|AWS|g6.xlarge|{'L4': 1}|True|True",
    ]
