"""A launch of two engines, with replicas that do as they are told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from planner.gate.latency import FEWEST, MOST, ROUNDS, launch
from planner.profiling.bench import Running
from planner.profiling.replicas import Measurement

OLD, NEW = Path("old"), Path("new")


class Machine:
    """All engines slow down together, by ``drift`` with every turn."""

    def __init__(self, took_ns: dict[Path, float], drift: float = 0.0) -> None:
        self.took_ns, self.drift, self.pace = took_ns, drift, 1.0
        self.started: list[Path] = []
        self.turns: list[tuple[Path, int]] = []
        self.awake: set[Path] = set()

    @contextmanager
    def _running(self, engine: Path) -> Iterator[Running]:
        self.started.append(engine)
        yield Scripted(self, engine)
        self.awake.discard(engine)

    def start(self, engine: Path) -> AbstractContextManager[Running]:
        return self._running(engine)


class Scripted:
    def __init__(self, machine: Machine, engine: Path) -> None:
        self.machine, self.engine = machine, engine

    def measure(self, samples: int, timeout_s: float, feed: int = 0) -> Measurement:
        machine = self.machine
        assert not machine.awake, "the other one has to rest meanwhile"
        machine.awake.add(self.engine)
        machine.turns.append((self.engine, samples))
        machine.pace *= 1 + machine.drift
        took = round(machine.took_ns[self.engine] * machine.pace)
        return Measurement((took,) * samples, 0, None)

    def rest(self) -> None:
        self.machine.awake.discard(self.engine)


@pytest.mark.parametrize("new_first", [False, True])
def test_the_ratio_is_that_of_the_engines(new_first: bool) -> None:
    machine = Machine({OLD: 1e6, NEW: 1.2e6})
    assert launch(OLD, NEW, new_first, machine.start) == pytest.approx(math.log(1.2), rel=1e-6)
    assert machine.started == ([NEW, OLD] if new_first else [OLD, NEW])


def test_what_slows_both_down_is_no_difference() -> None:
    # 3 % with every turn, so that the last are more than half as slow again.
    machine = Machine({OLD: 1e6, NEW: 1e6}, drift=0.03)
    assert abs(launch(OLD, NEW, False, machine.start)) < 0.031
    assert machine.pace > 1.6


def test_they_take_turns_and_neither_always_goes_first() -> None:
    machine = Machine({OLD: 1e6, NEW: 1e6})
    launch(OLD, NEW, False, machine.start)
    rounds = [engine for engine, _ in machine.turns[2:]]
    pairs = [tuple(rounds[k : k + 2]) for k in range(0, len(rounds), 2)]
    assert len(pairs) == ROUNDS
    assert {frozenset(pair) for pair in pairs} == {frozenset((OLD, NEW))}
    assert len(set(pairs)) == 2


@pytest.mark.parametrize(("took_ns", "expected"), [(1e6, 30), (1e9, FEWEST), (1e3, MOST)])
def test_a_turn_takes_about_as_long_whatever_the_engine(took_ns: float, expected: int) -> None:
    machine = Machine({OLD: took_ns, NEW: took_ns})
    launch(OLD, NEW, False, machine.start)
    assert {samples for _, samples in machine.turns[2:]} == {expected}
