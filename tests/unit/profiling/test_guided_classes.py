"""Guided profiling of replicas that serve several classes of requests: as cheap as measuring everything."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.domain.profile import Configuration
from planner.errors import BackendError
from planner.profiling.bench import Job, group_jobs
from planner.profiling.guided import (
    Bounded,
    ByClass,
    Capacity,
    Choice,
    Group,
    Level,
    Measures,
    Optimum,
    all_choices,
    guide,
)

MS = 1e6
CLASSES = ("short", "long")
RATES = {"short": 70.0, "long": 30.0}


def configuration(engine: str, name: str, batch_size: int) -> Configuration:
    return Configuration(
        model_sha256="m",
        variant=engine,
        variant_sha256=engine,
        device="cpu",
        backend="fake",
        batch_size=batch_size,
        threads=1,
        replicas=1,
        shapes=(("x", (batch_size, 8 if name == "short" else 64)),),
    )


class Bench:
    """Latencies by engine: of each class, by batch size."""

    def __init__(self, engines: Sequence[tuple[float, float]], broken: str = "") -> None:
        jobs = [
            Job(configuration(f"e{k}", name, size), Path(), Path(), request_class=name)
            for k in range(len(engines))
            for name in CLASSES
            for size in (1, 2)
        ]
        self.groups = group_jobs(jobs, CLASSES)
        self.broken = broken
        self.full: list[str] = []
        rng = random.Random(5)
        self.samples = {
            job.configuration: tuple(
                round(self._ms(engines, job) * MS * (1 + 0.1 * rng.random())) for _ in range(40)
            )
            for job in jobs
        }

    @staticmethod
    def _ms(engines: Sequence[tuple[float, float]], job: Job) -> float:
        base, times = engines[int(job.configuration.variant[1:])]
        size = times if job.request_class == "long" else 1.0
        return base * size * (0.5 + 0.5 * job.configuration.batch_size)

    def measures(self) -> Measures:
        return Measures(
            floor_ns=lambda c: min(self.samples[c]) * 0.5,
            probe=self._probe,
            sample=lambda group, count: {c: self.samples[c][:20] for c in group.prefix(count)},
            full=self._full,
            capacity_rps=capacity,
            most_rps=capacity,
        )

    def _probe(self, group: Group) -> Mapping[Configuration, tuple[int, ...]]:
        if group.name == self.broken:
            raise BackendError("out of memory")
        return {c: self.samples[c][:10] for c in group.configurations}

    def _full(self, group: Group, count: int, again: bool) -> Mapping[Configuration, tuple[int, ...]]:
        self.full.append(group.name)
        return {c: self.samples[c] for c in group.prefix(count)}


def capacity(by_class: ByClass, largest: int, instances: int) -> Capacity:
    """Batches of the largest class with its probability, within 40 ms; shares as in RATES."""
    rates = [RATES[name] for name in by_class]
    first = sum(rates[:-1]) / sum(rates)
    weights = [first**largest, 1 - first**largest][-len(rates) :] if len(rates) > 1 else [1.0]
    if any(max(times[largest]) > 40 * MS for times in by_class.values()):
        return 0.0, 0.0, ()
    means = [sum(times[largest]) / len(times[largest]) for times in by_class.values()]
    rate = largest * 1e9 / sum(w * m for w, m in zip(weights, means, strict=True))
    return rate, rate, tuple(r / sum(rates) for r in rates)


def cheapest(bounds: Sequence[Bounded]) -> Optimum | None:
    """One price for each replica, whatever the engine; both classes to shared ones, or each to its own."""
    best: dict[tuple[str, ...], tuple[float, Choice]] = {}
    for b in bounds:
        kind = tuple(name.rsplit("/", 1)[1] for name in b.choice.groups)
        need = sum(RATES[name] for name in kind)
        if b.capacity_rps > 0:
            cost = 0.0 if b.capacity_rps == inf else float(ceil(need / b.capacity_rps))
            best[kind] = min(best.get(kind, (inf, b.choice)), (cost, b.choice), key=lambda x: x[0])
    ways = [[("short", "long")], [("short",), ("long",)]]
    able = [way for way in ways if all(kind in best for kind in way)]
    if not able:
        return None
    way = min(able, key=lambda kinds: sum(best[kind][0] for kind in kinds))
    cost = sum(best[kind][0] for kind in way)
    return Optimum(cost, frozenset(best[kind][1] for kind in way), cost)


def exhaustive(bench: Bench) -> Optimum | None:
    of = {group.name: group for group in bench.groups}
    bounds = []
    for group in bench.groups:
        for choice in group.choices():
            if bench.broken in choice.groups:
                continue
            times = {
                of[name].request_class: {
                    c.batch_size: bench.samples[c] for c in of[name].prefix(choice.count)
                }
                for name in choice.groups
            }
            bounds.append(Bounded(choice, Level.MEASURED, *capacity(times, 2 ** (choice.count - 1), 1)))
    return cheapest(bounds)


def test_one_engine_has_a_group_for_each_class() -> None:
    short, long = Bench([(1.0, 3.0)]).groups
    assert (short.name, long.name) == ("e0/fake/cpu/t1/short", "e0/fake/cpu/t1/long")
    assert (short.smaller, long.smaller) == ((), (short.name,))
    assert [choice.groups for choice in long.choices()][:2] == [(long.name,), (short.name, long.name)]
    assert len(short.choices()) == 2
    assert long.called("w/").smaller == ("w/" + short.name,)


def test_sizes_that_only_the_smaller_class_has_are_no_hindrance() -> None:
    jobs = [
        Job(configuration("e0", name, size), Path(), Path(), request_class=name)
        for name, sizes in (("short", (1, 2, 4)), ("long", (1, 2)))
        for size in sizes
    ]
    short, long = group_jobs(jobs, CLASSES)
    assert long.smaller == (short.name,)
    odd = [*jobs[:3], replace(jobs[3], configuration=configuration("e0", "long", 3))]
    assert group_jobs(odd, CLASSES)[1].smaller == ()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 30), st.floats(1.0, 6)), min_size=1, max_size=4),
    st.sampled_from(["", "e0/fake/cpu/t1/long", "e0/fake/cpu/t1/short"]),
)
def test_the_plan_costs_what_measuring_everything_would_give(
    engines: list[tuple[float, float]], broken: str
) -> None:
    bench = Bench(engines, broken)
    guided = guide(bench.groups, bench.measures(), cheapest)
    best = exhaustive(bench)
    assert (guided.optimum is None) == (best is None)
    if guided.optimum is None or best is None:
        return
    assert guided.optimum.usd_per_hour == pytest.approx(best.usd_per_hour)
    levels = {b.choice: b.level for b in guided.bounds}
    assert all(levels[choice] is Level.CONFIRMED for choice in guided.optimum.used)
    assert broken not in bench.full


def test_all_groups_of_a_shared_replica_are_measured() -> None:
    bench = Bench([(8.0, 1.2)])
    guided = guide(bench.groups, bench.measures(), cheapest)
    assert guided.optimum is not None
    (used,) = guided.optimum.used
    assert len(used.groups) == 2
    assert set(bench.full) == set(used.groups)


def test_every_choice_within_the_budget_of_its_slowest_class() -> None:
    bench = Bench([(10.0, 3.0)])
    choices = all_choices(bench.groups, replace(bench.measures(), budget_ns=40 * MS))
    both = [choice for choice in choices if choice.beside]
    assert [choice.count for choice in both] == [1]
