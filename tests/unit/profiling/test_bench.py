"""Measuring for guided profiling, with a scripted stand-in for the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from planner.domain.profile import Configuration, Environment
from planner.errors import BackendError
from planner.profiling.bench import BUSY, Bench, Job, group_jobs, well_known
from planner.profiling.guided import PROBE_ITERATIONS
from planner.profiling.replicas import Measurement
from planner.store import ProfileStore

ENVIRONMENT = Environment("CPU", "genoa", (), 2, 8 << 30, "Linux", ())
MS = 1_000_000


def job(variant: str, batch: int) -> Job:
    return Job(
        Configuration("m" * 64, variant, variant, "d", "b", batch, 1, 2, ()), Path(variant), Path("feed")
    )


class Machine:
    """Latencies in ms by batch size; every start and every turn is logged."""

    def __init__(self, spread: float = 0.0, loads: Sequence[float] = ()) -> None:
        self.spread, self.loads = spread, iter(loads)
        self.starts: list[list[int]] = []
        self.turns: list[tuple[int, int]] = []
        self.fails_after: int | None = None
        self.now = 0.0

    @contextmanager
    def start(self, jobs: Sequence[Job]) -> Iterator[Machine]:
        self.starts.append([j.configuration.batch_size for j in jobs])
        self.jobs = jobs
        yield self

    def measure(self, samples: int, timeout_s: float, feed: int = 0) -> Measurement:
        size = self.jobs[feed].configuration.batch_size
        if self.fails_after is not None and len(self.turns) >= self.fails_after:
            raise BackendError("the replica's process has died")
        self.turns.append((size, samples))
        self.now += 1.0
        taken = tuple(round(size * MS * (1 + self.spread * (k % 10))) for k in range(samples))
        return Measurement(taken, 1000 + len(self.turns), next(self.loads, None))


def bench(machine: Machine, folder: Path, jobs: Sequence[Job]) -> Bench:
    return Bench(
        jobs,
        ProfileStore(folder),
        lambda c: ENVIRONMENT,
        99,
        start=machine.start,
        clock=lambda: machine.now,
    )


JOBS = [job("int8", 1), job("int8", 2), job("int8", 4), job("fp32", 1)]


def test_groups_share_an_engine_and_are_ascending() -> None:
    groups = group_jobs(list(reversed(JOBS)))
    assert {g.name: [c.batch_size for c in g.configurations] for g in groups} == {
        "fp32/b/t1": [1],
        "int8/b/t1": [1, 2, 4],
    }


def test_batch_sizes_take_turns_in_one_process_and_a_second_run_measures_nothing(tmp_path: Path) -> None:
    machine = Machine()
    _, group = sorted(group_jobs(JOBS), key=lambda g: g.name)
    first = bench(machine, tmp_path, JOBS)
    samples = first.full(group, 2, False)
    assert machine.starts == [[1, 2]]
    assert [size for size, _ in machine.turns] == [1, 2, 2, 1, 1, 2, 2, 1]
    assert all(len(s) >= 459 for s in samples.values())
    assert first.measured == set(group.prefix(2))

    again = bench(machine, tmp_path, JOBS)
    assert again.full(group, 2, False) == samples
    assert machine.starts == [[1, 2]]
    assert (again.measured, again.reused()) == (set(), 2)


def test_a_probe_is_part_of_the_profile_that_follows(tmp_path: Path) -> None:
    machine = Machine()
    _, group = sorted(group_jobs(JOBS), key=lambda g: g.name)
    one = bench(machine, tmp_path, JOBS)
    probed = one.probe(group)
    assert {len(s) for s in probed.values()} == {PROBE_ITERATIONS}
    taken = sum(n for size, n in machine.turns if size == 4)
    full = one.full(group, 3, False)
    assert full[group.configurations[2]][:PROBE_ITERATIONS] == probed[group.configurations[2]]
    assert sum(n for size, n in machine.turns if size == 4) - taken <= 459 - PROBE_ITERATIONS + 4
    assert one.probe(group) == probed


def test_fresh_samples_are_kept_apart(tmp_path: Path) -> None:
    machine = Machine()
    _, group = sorted(group_jobs(JOBS), key=lambda g: g.name)
    one = bench(machine, tmp_path, JOBS)
    first = one.full(group, 1, False)
    fresh = one.full(group, 1, True)
    (c,) = group.prefix(1)
    stored = ProfileStore(tmp_path).find(c, ENVIRONMENT)
    assert stored is not None
    assert stored.samples_ns == first[c] + fresh[c]
    assert stored.fresh == len(fresh[c]) >= 459
    before = len(machine.turns)
    assert one.full(group, 1, False) == first
    assert one.full(group, 1, True) == fresh
    assert len(machine.turns) == before


def test_noisy_samples_are_taken_until_the_percentile_is_known_or_time_is_up(tmp_path: Path) -> None:
    (group,) = group_jobs([job("int8", 1)])
    (c,) = group.configurations
    calm, wild = Machine(spread=0.0), Machine(spread=0.5)
    assert len(bench(calm, tmp_path / "calm", JOBS).full(group, 1, False)[c]) < 500
    many = bench(wild, tmp_path / "wild", JOBS).full(group, 1, False)[c]
    assert well_known(many, 99)


def test_a_turn_that_others_disturbed_is_taken_again_and_else_marked(tmp_path: Path) -> None:
    (group,) = group_jobs([job("int8", 1)])
    (c,) = group.configurations
    calmed = Machine(loads=[0.5, 0.0, 0.0, 0.0, 0.0])
    one = bench(calmed, tmp_path / "calmed", JOBS)
    one.full(group, 1, False)
    assert len(calmed.turns) == 5
    assert one.profiles[c].foreign_load == 0.0
    never = Machine(loads=[0.5] * 100)
    two = bench(never, tmp_path / "never", JOBS)
    two.full(group, 1, False)
    assert (two.profiles[c].foreign_load or 0) > BUSY


def test_what_was_taken_before_a_crash_is_kept_and_carried_on(tmp_path: Path) -> None:
    machine = Machine()
    _, group = sorted(group_jobs(JOBS), key=lambda g: g.name)
    one = bench(machine, tmp_path, JOBS)
    one.full(group, 1, False)
    machine.fails_after = len(machine.turns) + 3
    with pytest.raises(BackendError):
        one.full(group, 3, False)
    kept = sorted(len(p.samples_ns) for p in ProfileStore(tmp_path).all())
    assert kept[-1] >= 459
    assert sum(kept) == sum(n for _, n in machine.turns)

    machine.fails_after = None
    again = bench(machine, tmp_path, JOBS)
    again.full(group, 3, False)
    assert sum(n for _, n in machine.turns) <= 3 * 459 + 4 * 3


def test_an_unfinished_confirmation_confirms_nothing(tmp_path: Path) -> None:
    machine = Machine()
    (group,) = group_jobs([job("int8", 1)])
    one = bench(machine, tmp_path, JOBS)
    one.full(group, 1, False)
    machine.fails_after = len(machine.turns) + 2
    with pytest.raises(BackendError):
        one.full(group, 1, True)
    (profile,) = ProfileStore(tmp_path).all()
    assert profile.fresh == 0
