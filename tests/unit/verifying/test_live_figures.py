"""Predictions with overheads, and the figures made of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exported_plans import blank
from scripted_engines import local_model

from planner.capacity import Replica, capacity, service_laws, simulate, sojourn_percentile_ns
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import Slo, Workload
from planner.serving.batcher import Batched
from planner.verifying import live
from planner.verifying.driving import Endpoint, Engines, Load, Overhead, Run, split_cores
from planner.verifying.live import driven, interval_ns, notes, predict, service_ratio, with_hops

MS = 1_000_000
SERVICE = {1: [10 * MS], 4: [20 * MS]}


def workload(latency_ms: float = 60.0) -> Workload:
    floor = AccuracyFloor("accuracy", None, 0.05)
    return Workload("double", 100.0, Slo(99.0, round(latency_ms * MS)), floor)


def added(hop_ms: float, wake_ms: float) -> Overhead:
    hop, wake = round(hop_ms * MS), round(wake_ms * MS)
    return Overhead({}, dict.fromkeys(SERVICE, (hop,)), (wake,), True)


def test_a_hop_is_served_and_what_is_outside_is_not() -> None:
    laws = service_laws(SERVICE, 4)
    found = predict(laws, added(hop_ms=2, wake_ms=1), local_model(blank), workload(), 60.0)
    longer = {size: [ns + 2 * MS for ns in samples] for size, samples in SERVICE.items()}
    expected = capacity(longer, 4, 99.0, 59 * MS)
    assert found.capacity_rps == pytest.approx(expected.rate_rps, rel=1e-6)
    assert found.percentile_ns == pytest.approx(sojourn_percentile_ns(longer, 4, 60.0, 99.0) + MS, rel=1e-6)
    assert found.overhead_ns == 3 * MS
    assert found.mean_batch_size is not None and found.mean_batch_size > 1


def test_without_overhead_it_is_the_plan_s_own() -> None:
    found = predict(service_laws(SERVICE, 4), None, local_model(blank), workload(), 60.0)
    assert found.capacity_rps == pytest.approx(capacity(SERVICE, 4, 99.0, 60 * MS).rate_rps, rel=1e-6)
    assert found.overhead_ns == 0


def test_above_the_limit_the_percentile_is_infinite() -> None:
    found = predict(service_laws(SERVICE, 4), None, local_model(blank), workload(), 500.0)
    assert np.isinf(found.percentile_ns) and found.mean_batch_size is None


def test_hops_are_drawn_for_each_batch_size() -> None:
    longer = with_hops(service_laws(SERVICE, 4), {1: (1, 3), 4: (100,)})
    assert {float(ns) - 10 * MS for ns in longer.samples_ns[0]} <= {1.0, 3.0}
    assert [float(ns) - 20 * MS for ns in longer.samples_ns[1]] == [100.0]


def test_the_service_ratio_compares_batches_of_the_same_size() -> None:
    laws = service_laws(SERVICE, 4)
    batches = [Batched(1, 1, 1, 0, 11 * MS), Batched(3, 3, 4, 0, 22 * MS)]
    assert service_ratio(batches, laws) == pytest.approx(1.1)
    assert service_ratio([], laws) is None


def test_the_interval_holds_the_percentile_though_requests_are_not_independent() -> None:
    # One long M/D/1 run after the other, judged each by itself: sojourns within it are far from independent.
    laws = service_laws({1: [10 * MS]}, 1)
    truth = sojourn_percentile_ns({1: [10 * MS]}, 1, 60.0, 95.0)
    rng = np.random.default_rng(1)
    runs, requests = 100, 20_000
    arrived = np.cumsum(rng.exponential(1e9 / 60.0, (runs, requests)), axis=1)
    sojourn = simulate(Replica(laws), arrived, rng).sojourn_ns
    intervals = [interval_ns(row, 95.0) for row in sojourn]
    inside = sum(low <= truth <= high for low, high in intervals)
    assert inside >= 94, "99 % are meant to, a run's beginning at an empty queue costs little"
    assert np.mean([high / low for low, high in intervals]) < 1.3


def test_with_too_few_requests_the_interval_ends_at_the_largest() -> None:
    sojourn = np.arange(1, 41, dtype=np.int64)
    assert interval_ns(sojourn, 99.0)[1] == 40


@pytest.mark.parametrize("ours", [True, False], ids=["engines", "endpoint"])
def test_a_run_that_others_disturbed_says_so(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of an endpoint: what is busy may be the very service."""
    none, rows = np.array([], np.int64), Path("rows.npz")
    target = (
        Engines(Path("engine"), "scripted", 1, 1, (1,), 0, True, rows)
        if ours
        else Endpoint("http://localhost", "double", True, rows, ())
    )
    run = Run(Load(60.0, 99.0, 60 * MS, 1.0, 0), True, "", 1.0, none, none, (), 0, True)
    monkeypatch.setattr(live, "apart", lambda *_, **__: run)
    for foreign, told in ((0.3, ours), (0.01, False)):
        monkeypatch.setattr(live, "watched", lambda call, foreign=foreign: (call(), foreign))
        found = driven(target, workload().slo, 60.0, 1.0, 0)
        assert any("Others took 30% of this machine" in note for note in notes(found, workload())) == told


@pytest.mark.parametrize(
    ("cores", "wanted", "own", "engines"),
    [
        ([0, 1], 1, [0], [1]),
        ([0, 1, 2, 5], 2, [0, 1], [2, 5]),
        ([0, 1], 2, [], []),
        ([], 1, [], []),
    ],
)
def test_the_load_generator_gets_what_engines_do_not(
    cores: list[int], wanted: int, own: list[int], engines: list[int]
) -> None:
    assert split_cores(cores, wanted) == (own, engines)
