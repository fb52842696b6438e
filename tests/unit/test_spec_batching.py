"""plan.yaml's arrivals, capacity and batching."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from planner.domain.workload import POISSON, SATURATED, Arrivals, Batching, Workload
from planner.errors import SpecError
from planner.spec import read_spec

PLAN = """\
model: net.onnx
accuracy: {{max_drop: 2%}}
workload: {{{workload}, slo: {{latency: 50ms}}}}
{more}
"""


def read(folder: Path, workload: str = "rate_rps: 5", more: str = "") -> Workload:
    (folder / "plan.yaml").write_text(PLAN.format(workload=workload, more=more))
    return read_spec(folder / "plan.yaml").only.workload


def test_what_is_left_out(tmp_path: Path) -> None:
    workload = read(tmp_path)
    assert (workload.arrivals, workload.capacity, workload.batching) == (POISSON, "queueing", Batching())


def test_what_is_given(tmp_path: Path) -> None:
    workload = read(
        tmp_path,
        "rate_rps: 5, arrivals: {cv: 2.5}, capacity: saturated",
        "batching: {queue_delays: [2ms, 0ms, 500us], instances: [4, 1, 4]}",
    )
    assert workload.arrivals == Arrivals(cv=2.5)
    assert workload.capacity == SATURATED
    assert workload.batching == Batching((0, 500_000, 2_000_000), (1, 4))
    assert read(tmp_path, "rate_rps: 5, arrivals: {cv: 1}").arrivals.poisson


@pytest.mark.parametrize(
    ("workload", "more", "expected"),
    [
        ("rate_rps: 5, arrivals: {cv: 0}", "", "workload.arrivals.cv"),
        ("rate_rps: 5, arrivals: bursty", "", "'poisson' or 'trace'"),
        ("rate_rps: 5, arrivals: trace", "", "arrivals: trace: there is none"),
        ("rate_rps: 5, capacity: none", "", "'queueing' or 'saturated'"),
        ("rate_rps: 5", "batching: {queue_delays: [2]}", "expected a duration with its unit"),
        ("rate_rps: 5", "batching: {instances: [0]}", "batching.instances.0"),
        ("rate_rps: 5", "batching: {instances: []}", "batching.instances"),
        ("rate_rps: 5", "batching: {delay: 0ms}", "unknown key; did you mean queue_delays?"),
    ],
)
def test_mistakes(tmp_path: Path, workload: str, more: str, expected: str) -> None:
    with pytest.raises(SpecError, match=re.escape(expected)) as raised:
        read(tmp_path, workload, more)
    assert "\n" not in str(raised.value)


def trace_of(folder: Path, times: np.ndarray, digits: int = 6) -> tuple[float, ...]:
    (folder / "t.csv").write_text("timestamp\n" + "\n".join(f"{t:.{digits}f}" for t in times))
    return read(folder, "trace: t.csv, arrivals: trace").arrivals.trace


def test_a_trace_counts_in_mean_gaps_whatever_the_hour(tmp_path: Path) -> None:
    """Regular requests, ten times as many in one hour as in the next: nothing but regularity remains."""
    start = 1_767_225_600.0
    times = start + np.concatenate((np.arange(0, 3_600, 0.5), np.arange(3_600, 7_200, 5.0))) + 0.25
    trace = trace_of(tmp_path, times)
    assert len(trace) == len(times)
    assert trace[0] == 0
    assert trace[-1] == pytest.approx(len(times), rel=1e-3)
    gaps = np.diff(trace)
    assert gaps.std() < 0.03 and gaps.mean() == pytest.approx(1.0, rel=1e-3)


def test_bursts_within_an_hour_remain(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gaps = rng.gamma(0.25, 4.0, 20_000)
    trace = trace_of(tmp_path, 1_767_225_600.0 + gaps.cumsum() / gaps.sum() * 3_599)
    found = np.diff(trace)
    assert found.std() / found.mean() == pytest.approx(gaps.std() / gaps.mean(), rel=0.01)


def test_whole_seconds_are_too_coarse_unless_requests_are_rare(tmp_path: Path) -> None:
    start = 1_767_225_600
    with pytest.raises(SpecError, match=r"whole seconds, too coarse .*; give fractions of seconds"):
        trace_of(tmp_path, start + np.arange(0, 3_000, 2), digits=0)
    assert len(trace_of(tmp_path, start + np.arange(0, 36_000, 60), digits=0)) == 600
