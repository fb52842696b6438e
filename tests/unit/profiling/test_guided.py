"""Guided profiling against measuring everything, on a bench with recorded latencies."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.domain.profile import Configuration
from planner.errors import BackendError
from planner.profiling.guided import Bounded, Choice, Group, Level, Measures, all_choices, guide

MS = 1_000_000


def configuration(name: str, batch_size: int) -> Configuration:
    return Configuration("m", name, name, "cpu", "onnxruntime", batch_size, 1, 1, (("x", (batch_size, 4)),))


class Bench:
    """Latencies by group and batch size, prices by group; counts what is asked of it."""

    def __init__(self, latencies_ms: Mapping[str, Sequence[float]], budget_ms: float, seed: int = 0) -> None:
        self.groups = tuple(
            Group(name, tuple(configuration(name, 2**k) for k in range(len(of_group))))
            for name, of_group in latencies_ms.items()
        )
        self.samples = {
            c: self._draw(seed, c, of_group[k])
            for (_, of_group), group in zip(latencies_ms.items(), self.groups, strict=True)
            for k, c in enumerate(group.configurations)
        }
        self.budget_ns = budget_ms * MS
        self.probed: list[str] = []
        self.full: list[tuple[str, int, bool]] = []
        self.broken: set[str] = set()

    @staticmethod
    def _draw(seed: int, c: Configuration, ms: float) -> tuple[int, ...]:
        rng = random.Random(f"{seed} {c.variant} {c.batch_size}")
        return tuple(round(ms * MS * (1 + 0.1 * rng.random())) for _ in range(40))

    def measures(self, floor: bool = True) -> Measures:
        return Measures(
            lambda c: min(self.samples[c]) * 0.5 if floor else 0.0, self._probe, self._full, self.capacity_rps
        )

    def capacity_rps(self, service: Mapping[int, Sequence[int]], largest: int) -> tuple[float, float]:
        """Throughput of the best batch size whose worst case, twice, is within the budget."""
        able = [b / (sum(s) / len(s)) for b, s in service.items() if 2 * max(s) <= self.budget_ns]
        best = max(able, default=0.0) * 1e9
        return best, best

    def _probe(self, group: Group) -> dict[Configuration, tuple[int, ...]]:
        if group.name in self.broken:
            raise BackendError(f"{group.name}: out of memory")
        self.probed.append(group.name)
        return {c: self.samples[c][:10] for c in group.configurations}

    def _full(self, group: Group, count: int, again: bool) -> dict[Configuration, tuple[int, ...]]:
        self.full.append((group.name, count, again))
        return {c: self.samples[c] for c in group.prefix(count)}


class Market:
    """One price a group; the cheapest number of replicas of one choice that takes the rate."""

    def __init__(self, prices: Mapping[str, float], rate_rps: float) -> None:
        self.prices, self.rate_rps = prices, rate_rps

    def cost(self, bounded: Bounded) -> float:
        if bounded.capacity_rps <= 0:
            return float("inf")
        return self.prices[bounded.choice.group] * max(ceil(self.rate_rps / bounded.capacity_rps), 1)

    def solve(self, bounds: Sequence[Bounded]) -> frozenset[Choice] | None:
        best = min(bounds, key=lambda b: (self.cost(b), b.choice.group, b.choice.count), default=None)
        if best is None or self.cost(best) == float("inf"):
            return None
        return frozenset([best.choice])


def exhaustive_cost(bench: Bench, market: Market) -> float:
    bounds = [
        Bounded(
            Choice(group.name, count),
            Level.MEASURED,
            *bench.capacity_rps(
                {c.batch_size: bench.samples[c] for c in group.prefix(count)}, 2 ** (count - 1)
            ),
        )
        for group in bench.groups
        if group.name not in bench.broken
        for count in range(1, len(group.configurations) + 1)
    ]
    return min((market.cost(b) for b in bounds), default=float("inf"))


LATENCIES = st.lists(st.lists(st.floats(0.5, 30), min_size=1, max_size=5).map(sorted), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    LATENCIES,
    st.floats(5, 80),
    st.floats(10, 20_000),
    st.lists(st.floats(0.5, 5), min_size=6, max_size=6),
    st.booleans(),
    st.sets(st.integers(0, 5), max_size=2),
)
def test_the_plan_costs_what_measuring_everything_would_give(
    latencies: list[list[float]],
    budget_ms: float,
    rate: float,
    prices: list[float],
    floor: bool,
    broken: set[int],
) -> None:
    bench = Bench({f"g{i}": of_group for i, of_group in enumerate(latencies)}, budget_ms)
    bench.broken = {f"g{i}" for i in broken}
    market = Market({f"g{i}": price for i, price in enumerate(prices)}, rate)
    found = guide(bench.groups, bench.measures(floor), market.solve)
    expected = exhaustive_cost(bench, market)
    if found.used is None:
        assert expected == float("inf")
        return
    by_choice = {b.choice: b for b in found.bounds}
    assert {by_choice[c].level for c in found.used} == {Level.CONFIRMED}
    assert min(market.cost(by_choice[c]) for c in found.used) == pytest.approx(expected)
    assert set(found.failed) <= bench.broken


def test_what_cannot_win_is_not_measured() -> None:
    slow = {f"slow{i}": (20.0, 30.0, 50.0) for i in range(8)}
    bench = Bench({"fast": (1.0, 1.5, 2.0), **slow}, budget_ms=100)
    market = Market(dict.fromkeys(["fast", *slow], 1.0), 5_000)
    found = guide(bench.groups, bench.measures(), market.solve)
    assert found.used == {Choice("fast", 3)}
    assert bench.probed == ["fast"]
    assert bench.full == [("fast", 3, False), ("fast", 3, True)]


def test_the_baseline_is_measured_whatever_wins() -> None:
    bench = Bench({"fast": (1.0, 1.5), "fp32": (8.0, 15.0)}, budget_ms=100)
    market = Market({"fast": 1.0, "fp32": 1.0}, 1_000)
    guide(bench.groups, bench.measures(), market.solve, always=[Choice("fp32", 1)])
    assert ("fp32", 1, False) in bench.full
    assert ("fp32", 2, False) not in bench.full


def test_a_choice_that_looked_better_than_it_is_loses_to_the_next() -> None:
    """The first profile of ``lucky`` is flattering; the fresh one is not."""
    bench = Bench({"lucky": (1.0,), "honest": (1.05,)}, budget_ms=100)
    market = Market({"lucky": 1.0, "honest": 1.0}, 50_000)
    measures = bench.measures()

    def full(group: Group, count: int, again: bool) -> dict[Configuration, tuple[int, ...]]:
        taken = bench._full(group, count, again)
        slower = 1.4 if again and group.name == "lucky" else 1.0
        return {c: tuple(round(ns * slower) for ns in samples) for c, samples in taken.items()}

    found = guide(
        bench.groups,
        Measures(measures.floor_ns, measures.probe, full, measures.capacity_rps),
        market.solve,
    )
    assert found.used == {Choice("honest", 1)}
    assert bench.full.count(("lucky", 1, True)) == 1


def test_a_group_that_fails_is_told_once_though_all_of_it_was_asked_for() -> None:
    bench = Bench({"broken": (1.0, 1.5, 2.0), "sound": (2.0, 3.0)}, budget_ms=100)
    bench.broken = {"broken"}
    market = Market({"broken": 1.0, "sound": 1.0}, 1_000)
    everything = all_choices(bench.groups, bench.measures())
    found = guide(bench.groups, bench.measures(), market.solve, always=everything)
    assert found.failed == {"broken": "broken: out of memory"}
    assert {b.choice.group for b in found.bounds} == {"sound"}
    assert all(b.level >= Level.MEASURED for b in found.bounds)

    unasked = [Choice("broken", 2), Choice("broken", 1)]
    assert guide(bench.groups, bench.measures(), market.solve, always=unasked).failed == found.failed


def test_no_fleet_serves() -> None:
    bench = Bench({"slow": (20.0,)}, budget_ms=1)
    found = guide(bench.groups, bench.measures(), Market({"slow": 1.0}, 10).solve)
    assert found.used is None
