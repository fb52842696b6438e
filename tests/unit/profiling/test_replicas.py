"""Real worker processes: they measure, they fail in one line, and they die alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_models
import pytest

from planner.errors import BackendError
from planner.profiling.environment import MachineTimes, foreign_load, machine_times, watched
from planner.profiling.replicas import running
from planner.profiling.sensors import Package, Read, Reading

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    np.savez(tmp_path / "feed.npz", x=np.zeros((2, 16), np.float32))
    return tmp_path / "feed.npz"


def children() -> list[int]:
    """This process's children, but for the one that lists them."""
    command = ["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(pid) for pid, name in (line.split() for line in listed) if name != "ps"]


def test_samples_come_from_all_replicas_and_nothing_stays_behind(
    tiny_model: LabelledModel, feed: Path
) -> None:
    with running(tiny_model.model, "onnxruntime", 1, 2, [feed]) as replicas:
        first = replicas.measure(31, timeout_s=60)
        second = replicas.measure(10, timeout_s=60)
        assert len(children()) >= 2
    assert (len(first.samples_ns), len(second.samples_ns)) == (32, 10)
    assert all(ns > 0 for ns in first.samples_ns)
    assert 10 << 20 < first.memory_bytes < 1 << 30
    assert first.foreign_load is None or 0 <= first.foreign_load <= 1
    assert children() == []


def test_memory_is_the_replica_s_own(tiny_model: LabelledModel, feed: Path) -> None:
    ballast = np.ones(400 << 20, np.uint8)
    with running(tiny_model.model, "onnxruntime", 1, 1, [feed]) as replicas:
        assert replicas.measure(1, timeout_s=60).memory_bytes < ballast.nbytes


def test_an_engine_that_does_not_load_is_one_line(tmp_path: Path, feed: Path) -> None:
    broken = onnx_models.truncated(tmp_path / "broken.onnx")
    with (
        pytest.raises(BackendError, match=r"broken\.onnx") as caught,
        running(broken, "onnxruntime", 1, 1, [feed]),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_wrong_feed_is_one_line(tiny_model: LabelledModel, tmp_path: Path) -> None:
    np.savez(tmp_path / "feed.npz", x=np.zeros((2, 5), np.float32))
    with (
        running(tiny_model.model, "onnxruntime", 1, 1, [tmp_path / "feed.npz"]) as replicas,
        pytest.raises(BackendError, match=r"model\.onnx"),
    ):
        replicas.measure(1, timeout_s=60)


def test_a_killed_replica_is_told_by_its_signal(tiny_model: LabelledModel, feed: Path) -> None:
    with running(tiny_model.model, "onnxruntime", 1, 1, [feed]) as replicas:
        (worker,) = children()
        os.kill(worker, signal.SIGSEGV)
        with pytest.raises(BackendError, match="signal 11"):
            replicas.measure(1, timeout_s=60)


def test_a_hanging_replica_is_given_up(tiny_model: LabelledModel, feed: Path) -> None:
    with running(tiny_model.model, "onnxruntime", 1, 1, [feed]) as replicas:
        (worker,) = children()
        os.kill(worker, signal.SIGSTOP)
        with pytest.raises(BackendError, match="hang"):
            replicas.measure(1, timeout_s=0.2)


def test_the_load_of_others_is_what_is_not_ours() -> None:
    before, after = MachineTimes(100, 200), MachineTimes(112, 220)
    assert foreign_load(before, after, own_s=10) == pytest.approx(0.1)
    assert foreign_load(before, after, own_s=13) == 0
    assert foreign_load(None, after, own_s=1) is None


def test_the_machine_s_times_are_read(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 20 30 400 50 6 7 8 0 0\ncpu0 1 1 1 1\n")
    times = machine_times(stat)
    assert times is not None
    hertz = os.sysconf("SC_CLK_TCK")
    assert (times.busy_s * hertz, times.total_s * hertz) == (81, 531)
    assert machine_times(tmp_path / "nowhere") is None


@pytest.mark.skipif(machine_times() is None, reason="no /proc/stat")
def test_what_one_starts_and_waits_for_is_no_foreign_load() -> None:
    busy = "import time; until = time.process_time() + 1.5\nwhile time.process_time() < until: pass"
    others = subprocess.Popen([sys.executable, "-c", busy.replace("1.5", "60")])
    try:
        _, among_others = watched(lambda: time.sleep(0.5))
    finally:
        others.kill()
        others.wait()
    result, alone = watched(lambda: subprocess.run([sys.executable, "-c", busy]).returncode)
    assert result == 0
    assert among_others is not None and alone is not None
    assert among_others > 0.5 / (os.cpu_count() or 1)
    assert alone < among_others


def test_energy_is_shared_among_all_that_infer_and_warming_up_has_none(
    tiny_model: LabelledModel, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that takes 30 W, whatever it does, and two replicas that infer all the time."""

    @contextmanager
    def thirty_watts(gpu: str) -> Iterator[Read]:
        def read() -> Reading:
            now = time.monotonic()
            return Reading(now, (Package("intel-rapl:0", round(now * 30e6), 1 << 62),), None, None)

        yield read

    monkeypatch.setattr("planner.profiling.replicas.reading", thirty_watts)
    with running(tiny_model.model, "onnxruntime", 1, 2, [feed]) as replicas:
        assert replicas.measure(100, timeout_s=60).conditions.cpu_joules is None
        taken = replicas.measure(100, timeout_s=60)
    mean_s = sum(taken.samples_ns) / len(taken.samples_ns) / 1e9
    assert taken.conditions.cpu_joules == pytest.approx(30 * mean_s / 2, rel=0.01)


def test_a_resting_replica_stands_still_and_measures_again(tiny_model: LabelledModel, feed: Path) -> None:
    def cpu_ticks(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    with running(tiny_model.model, "onnxruntime", 1, 1, [feed]) as replicas:
        replicas.measure(10, timeout_s=60)
        replicas.rest()
        (pid,) = replicas.pids
        time.sleep(0.2)  # it may finish what it has begun
        before = cpu_ticks(pid)
        time.sleep(0.5)
        assert cpu_ticks(pid) - before <= 1
        assert len(replicas.measure(10, timeout_s=60).samples_ns) == 10
