"""Candidates of profiles: their instances and delays, what they are called, what they take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.capacity import instances_of, no_instances, replica_of, servings
from planner.domain.profile import Configuration, Environment, Profile
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import Arrivals, Batching, Slo, Workload
from planner.profiling.bench import group_configurations

MS = 1_000_000
ENVIRONMENT = Environment("cpu", "x86_64", (), 4, 8 << 30, "Linux", ())


def workload(percentile: float = 90, latency_ms: float = 30, **more) -> Workload:
    slo = Slo(percentile, round(latency_ms * MS), headroom=0.1)
    return Workload("w", 300, slo, AccuracyFloor("accuracy", 0.5, None, "interval"), **more)


def profile(batch_size: int, ms: float, replicas: int = 4) -> Profile:
    samples = tuple(round(ms * MS * (0.9 + 0.2 * k / 99)) for k in range(100))
    configuration = Configuration(
        "m", "fp32", "f", "genoa", "onnxruntime", batch_size, 2, replicas, (("x", (batch_size,)),)
    )
    return Profile(configuration, ENVIRONMENT, samples, 100 << 20, "")


def test_instances_take_so_many_threads_and_bytes() -> None:
    asked = workload(batching=Batching(instances=(1, 2, 3, 8)))
    made, rejected = servings(asked, [profile(1, 8), profile(4, 12)], 0.1, "genoa")
    assert not rejected
    found = {(s.candidate.instances, s.candidate.max_batch_size): s for s in made}
    assert set(found) == {(k, b) for k in (1, 2, 3) for b in (1, 4)}, "8 did not run side by side"
    for (k, b), serving in found.items():
        c = serving.candidate
        assert c.id == f"fp32/onnxruntime/genoa/t2/b{b}" + (f"/i{k}" if k > 1 else "")
        assert (c.threads, c.memory_bytes, c.side_by_side) == (2 * k, k * (100 << 20), 4 // k)
        assert 0 < c.packed_capacity_rps < c.capacity_rps < 0.9 * serving.capacity_rps
        assert serving.capacity_low_rps <= serving.capacity_rps <= serving.capacity_high_rps
        assert replica_of(serving, asked).instances == k
        assert serving.candidate.latency_ns == serving.sojourn_ns <= asked.slo.budget_ns
    assert found[2, 1].capacity_rps > 2 * found[1, 1].capacity_rps, "of two queues one may idle"


def test_the_promise_is_lowered_by_what_is_unsure_of_the_samples_too() -> None:
    asked = workload(arrivals=Arrivals(cv=2.0))
    (sure,), (unsure,) = (
        servings(asked, [replace(profile(1, 8), samples_ns=profile(1, 8).samples_ns * times)], 0.1, "genoa")[
            0
        ]
        for times in (40, 1)
    )
    assert sure.capacity_rps == pytest.approx(unsure.capacity_rps, rel=0.01), "the same distribution"
    assert sure.capacity_low_rps > unsure.capacity_low_rps


def test_on_one_device_each_number_is_measured() -> None:
    asked = workload(batching=Batching(instances=(1, 2)))
    one, two, three = (profile(1, 8, replicas).configuration for replicas in (1, 2, 3))
    assert [instances_of(c, asked, side_by_side=False) for c in (one, two, three)] == [(1,), (2,), ()]
    assert no_instances(three, asked) == (
        "3 ran side by side while it was measured, batching.instances asks for 1, 2"
    )
    (serving,), _ = servings(asked, [profile(1, 8, 2)], 0.1, "T4", side_by_side=False)
    assert (serving.candidate.instances, serving.candidate.side_by_side) == (2, 1)


def test_a_delay_that_leaves_no_time_is_a_rejection() -> None:
    asked = workload(batching=Batching(queue_delays_ns=(25 * MS,)))
    made, (rejection,) = servings(asked, [profile(1, 8), profile(4, 12)], 0.1, "genoa")
    assert [s.candidate.max_batch_size for s in made] == [1], "a batch of one waits for nobody"
    assert rejection.subject.startswith("fp32/onnxruntime/genoa/t2/b4/d25ms")
    assert "of an unloaded replica is 33.6 ms, the budget 30 ms" in rejection.reason


def test_groups_are_of_one_number_of_replicas() -> None:
    configurations = [profile(b, 8, replicas).configuration for replicas in (1, 2) for b in (4, 1)]
    groups = group_configurations(configurations)
    assert [g.name for g in groups] == ["fp32/onnxruntime/genoa/t2/x1", "fp32/onnxruntime/genoa/t2/x2"]
    assert all([c.batch_size for c in g.configurations] == [1, 4] for g in groups)
    (alone,) = group_configurations(configurations[:2])
    assert alone.name == "fp32/onnxruntime/genoa/t2"
