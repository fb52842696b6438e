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
CONFIGURATIONS = 4

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
    spec, output = script.small_plan(tmp_path, ["fp32", "int8"], [1, 4]), tmp_path / "plan"
    killed = [k for k in script.kill_often(spec, output, 6, random.Random(4), 6.0) if not k.finished]
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
    # Few: each finds the machine busy with the other, and takes its turns again.
    spec, output = script.small_plan(tmp_path, ["fp32", "int8"], [1]), tmp_path / "plan"
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
        assert len(content["profiles"]) == 2
        assert content["rejections"] == []
    assert len(script.samples(ProfileStore(output / "profiles"))) == 2
    third = script.finish(spec, output)
    assert (third["measured"], third["reused"]) == (0, 2)


WRITER = """
import sys
from pathlib import Path
from planner.domain.profile import Configuration, Environment, Profile
from planner.store import ProfileStore

store, count = ProfileStore(Path(sys.argv[1])), int(sys.argv[2])
environment = Environment("CPU", "genoa", (), 2, 8 << 30, "Linux", ())
for turn in range(1, 11):
    for batch in range(1, count + 1):
        configuration = Configuration("m" * 64, "fp32", "v", "d", "b", batch, 1, 2, ())
        store.put(Profile(configuration, environment, (batch,) * 1000 * turn, 1, ""))
"""


def test_two_processes_write_the_same_profiles_while_a_third_reads(
    script: ModuleType, tmp_path: Path
) -> None:
    both = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "20"]) for _ in range(2)]
    store, reads = ProfileStore(tmp_path), 0
    while any(run.poll() is None for run in both):
        counts = script.samples(store)  # raises where a file is broken
        assert all(count % 1000 == 0 for count in counts.values())
        reads += bool(counts)
    assert [run.returncode for run in both] == [0, 0]
    assert reads, "it was read while it was written"
    assert set(script.samples(store).values()) == {10_000}
    assert len(script.samples(store)) == 20
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()], "nothing half-written is left"
