"""Guided profiling against measuring everything, on a bench with recorded latencies."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, log
from statistics import mean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.domain.profile import Configuration
from planner.errors import BackendError
from planner.profiling.guided import (
    MARGIN,
    Bounded,
    Capacity,
    Choice,
    Group,
    Level,
    Measures,
    Optimum,
    all_choices,
    fastest,
    guide,
    within,
)

MS = 1_000_000
FIRST, AGAIN = "first", "again"
"""How a choice was measured in full."""


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
        self.full: list[tuple[str, int, str]] = []
        self.broken: set[str] = set()

    @staticmethod
    def _draw(seed: int, c: Configuration, ms: float) -> tuple[int, ...]:
        rng = random.Random(f"{seed} {c.variant} {c.batch_size}")
        return tuple(round(ms * MS * (1 + 0.1 * rng.random())) for _ in range(40))

    def measures(self, floor: bool = True) -> Measures:
        return Measures(
            floor_ns=lambda c: min(self.samples[c]) * 0.5 if floor else 0.0,
            probe=self._probe,
            sample=lambda group, count: {c: self.samples[c][:20] for c in group.prefix(count)},
            full=lambda group, count, again: self._full(group, count, AGAIN if again else FIRST),
            capacity_rps=self.capacity_rps,
            most_rps=self.capacity_rps,
        )

    def capacity_rps(
        self, by_class: Mapping[str, Mapping[int, Sequence[int]]], largest: int, instances: int = 1
    ) -> Capacity:
        """Throughput of the best batch size whose worst case, twice, is within the budget."""
        (service,) = by_class.values()
        able = [b / (sum(s) / len(s)) for b, s in service.items() if 2 * max(s) <= self.budget_ns]
        best = instances * max(able, default=0.0) * 1e9
        return best, best, (1.0,)

    def _probe(self, group: Group) -> dict[Configuration, tuple[int, ...]]:
        if group.name in self.broken:
            raise BackendError(f"{group.name}: out of memory")
        self.probed.append(group.name)
        return {c: self.samples[c][:10] for c in group.configurations}

    def _full(self, group: Group, count: int, how: str) -> dict[Configuration, tuple[int, ...]]:
        self.full.append((group.name, count, how))
        return {c: self.samples[c] for c in group.prefix(count)}


class Market:
    """One price a group; the cheapest number of replicas of one choice that takes the rate."""

    def __init__(self, prices: Mapping[str, float], rate_rps: float) -> None:
        self.prices, self.rate_rps = prices, rate_rps

    def cost(self, bounded: Bounded) -> float:
        if bounded.capacity_rps <= 0:
            return float("inf")
        return self.prices[bounded.choice.group] * max(ceil(self.rate_rps / bounded.capacity_rps), 1)

    def solve(self, bounds: Sequence[Bounded]) -> Optimum | None:
        best = min(bounds, key=lambda b: (self.cost(b), b.choice.group, b.choice.count), default=None)
        if best is None or self.cost(best) == float("inf"):
            return None
        return Optimum(self.cost(best), frozenset([best.choice]), self.cost(best))


def exhaustive_cost(bench: Bench, market: Market) -> float:
    bounds = [
        Bounded(
            Choice(group.name, count),
            Level.MEASURED,
            *bench.capacity_rps(
                {"": {c.batch_size: bench.samples[c] for c in group.prefix(count)}}, 2 ** (count - 1)
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
    assert bench.full == [("fast", 3, FIRST), ("fast", 3, AGAIN)]


def test_the_baseline_is_measured_whatever_wins() -> None:
    bench = Bench({"fast": (1.0, 1.5), "fp32": (8.0, 15.0)}, budget_ms=100)
    market = Market({"fast": 1.0, "fp32": 1.0}, 1_000)
    guide(bench.groups, bench.measures(), market.solve, always=[Choice("fp32", 1)])
    assert ("fp32", 1, FIRST) in bench.full
    assert ("fp32", 2, FIRST) not in bench.full


def scripted(
    rates: Mapping[str, Mapping[str, float]],
) -> tuple[tuple[Group, ...], Measures, list[tuple[str, str]]]:
    """Groups of one batch size that take what the script says, by how they are measured, and a log of that.

    ``most`` is what probe and sample leave possible.
    """
    groups = tuple(Group(name, (configuration(name, 1),)) for name in rates)
    log: list[tuple[str, str]] = []

    def take(group: Group, how: str) -> dict[Configuration, tuple[int, ...]]:
        log.append((group.name, how))
        return {group.configurations[0]: (round(1e9 / rates[group.name][how]),)}

    def capacity(
        by_class: Mapping[str, Mapping[int, Sequence[int]]], largest: int, instances: int
    ) -> Capacity:
        rate = 1e9 / min(by_class[""][1])
        return rate, rate, (1.0,)

    few = {g.configurations[0]: (round(1e9 / rates[g.name]["most"] / MARGIN),) * 10 for g in groups}
    measures = Measures(
        floor_ns=lambda c: 0.0,
        probe=lambda group: {c: few[c] for c in group.configurations},
        sample=lambda group, count: {c: few[c] for c in group.configurations},
        full=lambda group, count, again: take(group, AGAIN if again else FIRST),
        capacity_rps=capacity,
        most_rps=capacity,
    )
    return groups, measures, log


def by_capacity(bounds: Sequence[Bounded]) -> Optimum | None:
    """A fleet costs what its capacity is short of: the best candidate is the one that takes most."""
    best = max(bounds, key=lambda b: b.capacity_rps, default=None)
    if best is None:
        return None
    cost = 1e6 / best.capacity_rps if best.capacity_rps < float("inf") else 0.0
    return Optimum(cost, frozenset([best.choice]), cost)


def test_the_second_best_is_not_measured_where_its_bound_is_lower() -> None:
    groups, measures, log = scripted({"a": {"most": 110, FIRST: 100, AGAIN: 100}, "b": {"most": 95}})
    found = guide(groups, measures, by_capacity)
    assert found.used == {Choice("a", 1)}
    assert log == [("a", FIRST), ("a", AGAIN)]


def test_only_what_is_left_of_several_measured_ones_is_confirmed() -> None:
    rates = {"a": {"most": 120, FIRST: 100}, "b": {"most": 110, FIRST: 105, AGAIN: 104}}
    groups, measures, log = scripted(rates)
    found = guide(groups, measures, by_capacity)
    assert found.used == {Choice("b", 1)}
    assert log == [("a", FIRST), ("b", FIRST), ("b", AGAIN)]


def test_a_choice_that_looked_better_than_it_is_loses_to_the_next() -> None:
    """The first profile of ``lucky`` is flattering; the fresh one is not."""
    rates = {
        "lucky": {"most": 120, FIRST: 112, AGAIN: 100},
        "honest": {"most": 110, FIRST: 105, AGAIN: 105},
    }
    groups, measures, log = scripted(rates)
    found = guide(groups, measures, by_capacity)
    assert found.used == {Choice("honest", 1)}
    assert log == [("lucky", FIRST), ("lucky", AGAIN), ("honest", FIRST), ("honest", AGAIN)]


def test_confirmation_takes_most_of_the_flattery_out_of_the_promise() -> None:
    """Four candidates and noisy profiles: what is promised of the chosen one, over what it truly takes, on
    average of many runs; and what the best first profile would have promised."""
    rng = random.Random(5)
    promised, unconfirmed = [], []
    for _ in range(400):
        true = {f"g{k}": 100 * (1 + 0.05 * rng.random()) for k in range(4)}
        rates = {name: {"most": rate * (1.03 + 0.03 * rng.random())} for name, rate in true.items()}
        for name, of_one in rates.items():
            first, again = (min(true[name] * (1 + rng.gauss(0, 0.02)), of_one["most"]) for _ in range(2))
            of_one |= {FIRST: first, AGAIN: again}
        best = max(rates, key=lambda name: rates[name][FIRST])
        unconfirmed.append(rates[best][FIRST] / true[best] - 1)
        groups, measures, _ = scripted(rates)
        found = guide(groups, measures, by_capacity)
        (winner,) = found.used or ()
        promise = next(b.capacity_rps for b in found.bounds if b.choice == winner)
        promised.append(promise / true[winner.group] - 1)
    noise = stdev(a - b for a, b in zip(unconfirmed, promised, strict=True)) / 400**0.5
    assert mean(unconfirmed) > mean(promised) + 3 * noise


def test_of_equal_optima_the_one_that_is_known_best_and_has_fewest_batch_sizes_is_taken() -> None:
    bench = Bench({"a": (1.0, 1.5, 2.0), "b": (1.0, 1.5, 2.0)}, budget_ms=100)
    market = Market({"a": 1.0, "b": 1.0}, 10)
    found = guide(bench.groups, bench.measures(), market.solve, always=[Choice("b", 1)])
    assert found.used == {Choice("b", 1)}
    assert bench.full == [("b", 1, FIRST), ("b", 1, AGAIN)]


def test_the_fastest_possible_holds_as_often_as_it_says() -> None:
    """Of an exponential law, whose quantiles are known: 5 % may fail, of 400 samples."""
    rng, count = random.Random(1), 57

    def fails() -> bool:
        below = fastest([rng.expovariate(1) for _ in range(count)], 0.0)
        assert len(below) == count
        assert list(below) == sorted(below)
        return any(time > -log(1 - k / count) for k, time in enumerate(below))

    assert 0 < sum(fails() for _ in range(400)) <= 0.05 * 400 + 3 * (0.05 * 0.95 * 400) ** 0.5


def test_probing_ends_at_the_first_batch_size_over_the_budget() -> None:
    bench = Bench({"a": (1.0, 2.0, 9.0, 20.0)}, budget_ms=100)
    (group,) = bench.groups
    probed = {c: bench.samples[c][:10] for c in group.prefix(3)}
    assert within(group, probed, 5 * MS) == 2
    assert within(group, probed, 50 * MS) == 3


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


def test_instances_are_choices_of_their_own_and_need_no_measuring_of_their_own() -> None:
    bench = Bench({"fast": (2.0, 3.0), "slow": (9.0, 20.0)}, budget_ms=100)
    groups = tuple(replace(group, instances=(1, 2)) for group in bench.groups)
    market = Market({"fast": 1.0, "slow": 1.0}, 1_200)
    found = guide(groups, bench.measures(), market.solve)
    assert found.used == {Choice("fast", 2, 2)}, "two of them, in batches of two, take it all"
    assert {b.choice for b in found.bounds} == {
        Choice(name, count, instances)
        for name in ("fast", "slow")
        for count in (1, 2)
        for instances in (1, 2)
    }
    assert {(name, count) for name, count, _ in bench.full} == {("fast", 2)}
