"""Measuring for guided profiling, with a scripted stand-in for the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from planner.domain.conditions import NOT_TOLD, Conditions
from planner.domain.profile import Configuration, Environment
from planner.errors import BackendError
from planner.profiling.bench import BUSY, ROUNDS, Bench, Job, group_jobs, well_known
from planner.profiling.guided import PROBE_ITERATIONS, SAMPLE_SHARE
from planner.profiling.replicas import Measurement
from planner.store import ProfileStore

ENVIRONMENT = Environment("CPU", "genoa", (), 2, 8 << 30, "Linux", ())
MS = 1_000_000


def job(variant: str, batch: int) -> Job:
    return Job(
        Configuration("m" * 64, variant, variant, "d", "b", batch, 1, 2, ()), Path(variant), Path("feed")
    )


class Machine:
    """Latencies in ms by batch size; every start and every turn is logged.

    ``speeds``: what the latencies of each turn are multiplied with, 1 when they run out.
    """

    def __init__(
        self,
        spread: float = 0.0,
        loads: Sequence[float] = (),
        speeds: Sequence[float] = (),
        conditions: Sequence[Conditions] = (),
    ) -> None:
        self.spread, self.loads = spread, iter(loads)
        self.speeds, self.conditions = iter(speeds), iter(conditions)
        self.starts: list[list[int]] = []
        self.turns: list[tuple[int, int]] = []
        self.fails_after: int | None = None
        self.resting = 0
        self.ended = 0
        self.now = 0.0

    @contextmanager
    def start(self, jobs: Sequence[Job]) -> Iterator[Machine]:
        self.starts.append([j.configuration.batch_size for j in jobs])
        self.jobs = jobs
        try:
            yield self
        finally:
            self.ended += 1

    def rest(self) -> None:
        self.resting += 1

    def measure(self, samples: int, timeout_s: float, feed: int = 0) -> Measurement:
        size = self.jobs[feed].configuration.batch_size
        if self.fails_after is not None and len(self.turns) >= self.fails_after:
            raise BackendError("the replica's process has died")
        self.turns.append((size, samples))
        self.now += 1.0
        size *= next(self.speeds, 1.0)
        taken = tuple(round(size * MS * (1 + self.spread * (k % 10))) for k in range(samples))
        conditions = next(self.conditions, NOT_TOLD)
        return Measurement(taken, 1000 + len(self.turns), next(self.loads, None), conditions)


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
        "fp32/b/d/t1": [1],
        "int8/b/d/t1": [1, 2, 4],
    }


def test_batch_sizes_take_turns_in_one_process_and_a_second_run_measures_nothing(tmp_path: Path) -> None:
    machine = Machine()
    _, group = sorted(group_jobs(JOBS), key=lambda g: g.name)
    first = bench(machine, tmp_path, JOBS)
    samples = first.full(group, 2, False)
    assert machine.starts == [[1, 2, 4]]
    assert [size for size, _ in machine.turns] == [1, 2, 2, 1, 1, 2, 2, 1]
    assert all(len(s) >= 459 for s in samples.values())
    assert first.measured == set(group.prefix(2))

    again = bench(machine, tmp_path, JOBS)
    assert again.full(group, 2, False) == samples
    assert machine.starts == [[1, 2, 4]]
    assert (again.measured, again.reused()) == (set(), 2)


def test_a_profile_of_another_engine_is_not_reused(tmp_path: Path) -> None:
    """Two builds of one variant are not equally fast: what was measured of one says nothing of the other."""
    engine = tmp_path / "engine"
    c = Configuration("m" * 64, "fp16", "f" * 64, "L4", "tensorrt", 1, 1, 1, ())
    jobs = [Job(c, engine, Path("feed"))]
    (group,) = group_jobs(jobs)
    for content, measured in ((b"first", True), (b"first", False), (b"built again", True)):
        engine.write_bytes(content)
        one = bench(Machine(), tmp_path / "store", jobs)
        one.full(group, 1, False)
        assert bool(one.measured) == measured
        stored = ProfileStore(tmp_path / "store").find(c, ENVIRONMENT)
        assert stored is not None and stored.engine_sha256 == hashlib.sha256(content).hexdigest()


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


def test_a_probe_ends_at_the_first_batch_size_over_the_budget(tmp_path: Path) -> None:
    machine = Machine()
    (group,) = group_jobs([job("int8", size) for size in (1, 2, 4, 8)])
    probed = bench(machine, tmp_path, [job("int8", size) for size in (1, 2, 4, 8)]).probe(group, 1.5 * MS)
    assert [c.batch_size for c in probed] == [1, 2]
    assert {size for size, _ in machine.turns} == {1, 2}


def test_a_probe_goes_on_where_only_its_first_turn_was_over_the_budget(tmp_path: Path) -> None:
    """The median decides, as it does where all is probed."""
    machine = Machine(speeds=[1.0, 3.0])
    jobs = [job("int8", size) for size in (1, 2, 4)]
    (group,) = group_jobs(jobs)
    probed = bench(machine, tmp_path, jobs).probe(group, 3 * MS)
    assert [c.batch_size for c in probed] == [1, 2, 4]
    assert machine.starts == [[1, 2, 4]]


def test_a_sample_becomes_part_of_the_profile(tmp_path: Path) -> None:
    machine = Machine()
    _, group = sorted(group_jobs(JOBS), key=lambda g: g.name)
    one = bench(machine, tmp_path, JOBS)
    probed, sampled = one.probe(group), one.sample(group, 2)
    full = one.full(group, 2, False)
    for c in group.prefix(2):
        assert len(sampled[c]) == 459 // SAMPLE_SHARE
        assert sampled[c][:PROBE_ITERATIONS] == probed[c]
        assert full[c][: len(sampled[c])] == sampled[c]
    assert sum(n for size, n in machine.turns if size == 1) <= 459 + 3 * ROUNDS


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


def test_what_drifts_is_measured_until_it_has_settled(tmp_path: Path) -> None:
    """The slow turns of the beginning do not count."""
    (group,) = group_jobs([job("int8", 1)])
    (c,) = group.configurations
    machine = Machine(speeds=[1.3, 1.2, 1.1])
    one = bench(machine, tmp_path, JOBS)
    samples = one.full(group, 1, False)[c]
    assert len(machine.turns) == 3 + ROUNDS
    assert set(samples) == {MS}
    assert len(samples) >= 459
    stored = ProfileStore(tmp_path).find(c, ENVIRONMENT)
    assert stored == one.profiles[c]
    assert stored.conditions.drift == 0.0


@pytest.mark.parametrize("fresh", [False, True], ids=["first", "confirmation"])
def test_what_keeps_drifting_is_marked(tmp_path: Path, fresh: bool) -> None:
    (group,) = group_jobs([job("int8", 1)])
    (c,) = group.configurations
    machine = Machine()
    one = bench(machine, tmp_path, JOBS)
    if fresh:
        one.full(group, 1, False)
        machine.turns.clear()
    machine.speeds = iter([1.1**turn for turn in range(100)])
    one.full(group, 1, fresh)
    assert len(machine.turns) == 2 * ROUNDS
    assert one.profiles[c].conditions.drift == pytest.approx(1.1 ** (ROUNDS - 1) - 1)
    assert bench(machine, tmp_path, JOBS).full(group, 1, fresh)[c] == one.profiles[c].judged_ns
    assert len(machine.turns) == 2 * ROUNDS, "what is marked is not measured for ever"


def test_a_probe_says_nothing_of_drift(tmp_path: Path) -> None:
    (group,) = group_jobs([job("int8", 1)])
    one = bench(Machine(speeds=[2.0]), tmp_path, JOBS)
    one.probe(group)
    assert one.profiles[group.configurations[0]].conditions.drift is None


def test_a_throttled_turn_is_taken_again_and_else_marked(tmp_path: Path) -> None:
    (group,) = group_jobs([job("int8", 1)])
    (c,) = group.configurations
    hot, calm = Conditions(throttled=("temperature",)), Conditions(throttled=())
    cooled = Machine(conditions=[hot, calm, calm, calm, calm])
    one = bench(cooled, tmp_path / "cooled", JOBS)
    one.full(group, 1, False)
    assert len(cooled.turns) == ROUNDS + 1
    assert one.profiles[c].conditions.throttled == ()
    never = Machine(conditions=[hot] * 100)
    two = bench(never, tmp_path / "never", JOBS)
    two.full(group, 1, False)
    assert len(never.turns) == 2 * ROUNDS
    assert two.profiles[c].conditions.throttled == ("temperature",)


def test_energy_is_the_turns_average_and_of_a_gpu_there_is_a_range(tmp_path: Path) -> None:
    (group,) = group_jobs([job("int8", 4)])
    (c,) = group.configurations
    turns = [
        Conditions(gpu_joules=None, gpu_clock_mhz=(1980, 1980), gpu_temperature_c=(50, 50)),
        Conditions(gpu_joules=2.0, gpu_clock_mhz=(1700, 1700), gpu_temperature_c=(60, 60)),
        Conditions(gpu_joules=2.0, gpu_clock_mhz=(1900, 1900), gpu_temperature_c=(61, 61)),
        Conditions(gpu_joules=2.0, cpu_joules=0.0),
    ]
    one = bench(Machine(conditions=turns), tmp_path, JOBS)
    one.full(group, 1, False)
    profile = one.profiles[c]
    assert profile.conditions.gpu_clock_mhz == (1700, 1980)
    assert profile.conditions.gpu_temperature_c == (50, 61)
    assert profile.gpu_joules_per_request == pytest.approx(0.5)
    assert profile.cpu_joules_per_request is None, "a counter that never moved tells nothing"
    assert ProfileStore(tmp_path).find(c, ENVIRONMENT) == profile


def test_the_engine_stays_loaded_until_another_is_asked_for(tmp_path: Path) -> None:
    machine = Machine()
    fp32, int8 = sorted(group_jobs(JOBS), key=lambda g: g.name)
    with bench(machine, tmp_path, JOBS) as one:
        one.probe(int8)
        one.sample(int8, 2)
        one.full(int8, 2, False)
        one.full(int8, 2, True)
        assert (machine.starts, machine.ended) == ([[1, 2, 4]], 0)
        assert machine.resting == 4, "it rests between the steps"
        one.full(int8, 2, True)
        assert machine.resting == 4, "nothing was asked of it"
        one.probe(fp32)
        assert (machine.starts, machine.ended) == ([[1, 2, 4], [1]], 1)
        one.full(int8, 3, False)
        assert (machine.starts, machine.ended) == ([[1, 2, 4], [1], [1, 2, 4]], 2)
    assert machine.ended == 3


def test_a_failure_ends_the_engine_and_it_can_be_started_again(tmp_path: Path) -> None:
    machine = Machine()
    (_, int8) = sorted(group_jobs(JOBS), key=lambda g: g.name)
    one = bench(machine, tmp_path, JOBS)
    one.probe(int8)
    machine.fails_after = len(machine.turns)
    with pytest.raises(BackendError):
        one.full(int8, 1, False)
    assert machine.ended == 1
    machine.fails_after = None
    one.full(int8, 1, False)
    assert len(machine.starts) == 2
