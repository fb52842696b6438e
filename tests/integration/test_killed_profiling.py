"""The real program, killed while it profiles, and two of them at once on one store."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from planner.store import ProfileStore

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_profiling.py"
CONFIGURATIONS = 8

if not Path("/proc/self/cmdline").exists():
    pytest.skip("finds processes by /proc", allow_module_level=True)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_profiling", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["kill_profiling"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_killed_at_random_moments_nothing_stored_is_lost_and_the_run_resumes(
    script: ModuleType, tmp_path: Path
) -> None:
    spec, output = script.small_plan(tmp_path), tmp_path / "plan"
    killed = [k for k in script.kill_often(spec, output, 6, random.Random(4), 7.0) if not k.finished]
    assert len(killed) == 6
    store = ProfileStore(output / "profiles")
    kept = script.samples(store)
    last = script.finish(spec, output)
    assert last["rejections"] == []
    assert len(last["profiles"]) == CONFIGURATIONS
    assert last["measured"] + last["reused"] == CONFIGURATIONS
    found = script.samples(store)
    assert all(found[name] >= count for name, count in kept.items())
    assert script.replicas_of(output) == []


def test_two_programs_fill_one_store_at_once(script: ModuleType, tmp_path: Path) -> None:
    spec, output = script.small_plan(tmp_path), tmp_path / "plan"
    both = [
        subprocess.Popen(
            script.command(spec, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for run in both:
        printed, said = run.communicate()
        assert run.returncode == 0, said
        content = json.loads(printed)
        assert len(content["profiles"]) == CONFIGURATIONS
        assert content["rejections"] == []
    assert len(script.samples(ProfileStore(output / "profiles"))) == CONFIGURATIONS
    third = script.finish(spec, output)
    assert (third["measured"], third["reused"]) == (0, CONFIGURATIONS)
