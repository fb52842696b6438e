"""A profiling campaign with a scripted stand-in for the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from planner.domain.profile import Configuration, Environment
from planner.domain.progress import Step
from planner.errors import BackendError
from planner.profiling.local import Job, profile_all
from planner.profiling.replicas import Measurement
from planner.profiling.screening import PROBE_SAMPLES
from planner.store import ProfileStore
from planner.units import NS_PER_MS

ENVIRONMENT = Environment("CPU", "genoa", (), 2, 8 << 30, "Linux", ())


def job(variant: str, batch: int) -> Job:
    return Job(
        Configuration("m" * 64, variant, variant, "d", "b", batch, 1, 2, ()), Path(variant), Path("feed")
    )


def machine(log: list[tuple[str, int, int]], ms: dict[str, float]) -> Callable[[Job, int], Measurement]:
    def measure(job: Job, samples: int) -> Measurement:
        c = job.configuration
        log.append((c.variant, c.batch_size, samples))
        base = round(ms[c.variant] * NS_PER_MS * c.batch_size**0.5)
        return Measurement(tuple(base + i for i in range(samples)), 1000, None)

    return measure


def test_every_sample_counts_once_and_a_second_run_measures_nothing(tmp_path: Path) -> None:
    jobs = [job("fp32", 1), job("fp32", 4), job("int8", 1), job("int8", 4)]
    store = ProfileStore(tmp_path)
    log: list[tuple[str, int, int]] = []
    steps: list[Step] = []
    first = profile_all(
        jobs,
        store,
        ENVIRONMENT,
        99,
        40 * NS_PER_MS,
        measure=machine(log, {"fp32": 10, "int8": 5}),
        progress=steps.append,
    )
    assert {(r, b) for r, b, n in log if n == PROBE_SAMPLES} == {
        (j.configuration.variant, j.configuration.batch_size) for j in jobs
    }
    full = [(r, b) for r, b, n in log if n == 459 - PROBE_SAMPLES]
    assert full == [("fp32", 1), ("int8", 1), ("int8", 4)], "fp32 at batch 4 is dominated by int8"
    assert all(len(p.samples_ns) == 459 for p in first.profiles)
    assert (first.measured, first.reused) == (4, 0)
    assert any(step.seconds_left for step in steps if step.stage == "measuring")

    log.clear()
    second = profile_all(
        jobs, store, ENVIRONMENT, 99, 40 * NS_PER_MS, measure=machine(log, {"fp32": 1, "int8": 1})
    )
    assert log == []
    assert (second.profiles, second.rejections) == (first.profiles, first.rejections)
    assert (second.measured, second.reused) == (0, 4)


def test_a_higher_percentile_only_adds_what_is_missing(tmp_path: Path) -> None:
    store, log = ProfileStore(tmp_path), []
    jobs = [job("fp32", 1)]
    profile_all(jobs, store, ENVIRONMENT, 90, 10**9, measure=machine(log, {"fp32": 10}))
    profile_all(jobs, store, ENVIRONMENT, 99, 10**9, measure=machine(log, {"fp32": 10}))
    assert [n for _, _, n in log] == [30, 14, 415]


def test_a_crashing_engine_is_a_rejection_and_the_rest_goes_on(tmp_path: Path) -> None:
    working = machine([], {"fp32": 10})

    def measure(job: Job, samples: int) -> Measurement:
        if job.configuration.variant == "int8":
            raise BackendError("int8.onnx: the replica's process has died (killed by signal 11)")
        return working(job, samples)

    campaign = profile_all(
        [job("int8", 1), job("fp32", 1)], ProfileStore(tmp_path), ENVIRONMENT, 99, 10**9, measure=measure
    )
    assert [p.configuration.variant for p in campaign.profiles] == ["fp32"]
    (rejection,) = campaign.rejections
    assert "signal 11" in rejection.reason


def test_an_interrupt_keeps_what_is_finished(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    working = machine([], {"fp32": 10})
    calls = iter(range(100))

    def measure(job: Job, samples: int) -> Measurement:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return working(job, samples)

    jobs = [job("fp32", 1), job("fp32", 2)]
    with pytest.raises(KeyboardInterrupt):
        profile_all(jobs, store, ENVIRONMENT, 99, 10**9, measure=measure)
    assert sorted(len(p.samples_ns) for p in store.all()) == [30, 459]
