"""A real Ray cluster of three nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plan_files import tiny_plan, write_plan

if TYPE_CHECKING:
    from onnx_models import LabelledModel

pytest.importorskip("ray", reason="Ray is not installed: pip install planner[ray]")
if not Path("/proc/self/stat").exists():
    pytest.skip("finds the node's processes by /proc", allow_module_level=True)

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ray_quickstart.py"


def test_every_profile_arrives_though_a_node_is_killed(tmp_path: Path, tiny_model: LabelledModel) -> None:
    spec = importlib.util.spec_from_file_location("ray_quickstart", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = sys.modules["ray_quickstart"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    plan = write_plan(tmp_path / "plan.yaml", tiny_plan(tiny_model), batch_sizes=[1])

    outcome = script.profile_with_a_loss(plan, tmp_path / "plan")

    configurations = {configuration for _, configuration in outcome.profiles()}
    assert len(configurations) == 2
    assert outcome.profiles() == {(d, c) for d in ("cloud-box", "edge-box") for c in configurations}
    assert outcome.first["rejections"] == []
    (note,) = outcome.first["notes"]
    assert "on cloud-box: lost with node" in note
    assert (outcome.second["measured"], outcome.second["reused"]) == (0, 4)
    assert outcome.left_behind == ()
