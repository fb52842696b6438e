"""The simulator against a plain loop over the same numbers, closed forms, SimPy, and the exact analysis."""

from __future__ import annotations

import math

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.capacity import Replica, arrival_times, service_laws, simulate, sojourn_tail
from planner.domain.workload import Arrivals

MS = 1_000_000
POISSON, BURSTY = Arrivals(), Arrivals(cv=2.0)
SPREAD = {1: [MS, MS, 3 * MS], 2: [2 * MS], 4: [2 * MS, 5 * MS], 8: [4 * MS]}


def plain(replica: Replica, arrived: list[float], fixed: dict[int, float]) -> list[float]:
    """One run, batch by batch, by the batcher's own words; ``fixed``: the time of each measured size."""
    size, delay = (
        replica.laws.max_batch_size,
        replica.queue_delay_ns if replica.laws.max_batch_size > 1 else 0,
    )
    free, done = [0.0] * replica.instances, []
    waiting = list(arrived)
    while waiting:
        full = waiting[size - 1] if len(waiting) >= size else math.inf
        start = max(min(free), min(waiting[0] + delay, full))
        batch = [at for at in waiting[:size] if at <= start]
        end = start + fixed[min(b for b in fixed if b >= len(batch))]
        free[free.index(min(free))] = end
        done += [end] * len(batch)
        waiting = waiting[len(batch) :]
    return done


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 40), max_size=30).map(sorted), min_size=1, max_size=4),
    st.sets(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 30),
    st.integers(1, 3),
    st.sampled_from([0, 1, 7]),
)
def test_batches_are_what_a_plain_loop_makes_them(
    runs: list[list[int]], sizes: set[int], service: int, instances: int, delay: int
) -> None:
    fixed = {b: float(service + 2 * b) for b in sizes}
    replica = Replica(service_laws({b: [int(ns)] for b, ns in fixed.items()}, max(sizes)), instances, delay)
    width = max(map(len, runs)) + 1
    arrived = np.array([[*run, *[math.inf] * (width - len(run))] for run in runs], dtype=float)
    served = simulate(replica, arrived, np.random.default_rng(0))
    for row, run in enumerate(runs):
        assert served.done_ns[row, : len(run)].tolist() == plain(replica, list(map(float, run)), fixed)
        assert np.isinf(served.done_ns[row, len(run) :]).all()
        assert np.isnan(served.sojourn_ns[row, len(run) :]).all()
    assert (served.batches <= np.array([len(run) for run in runs])).all()


@pytest.mark.parametrize(("size", "rate_rps"), [(1, 400), (2, 700), (8, 1_200), (8, 300)])
def test_one_greedy_instance_is_the_exact_analysis(size: int, rate_rps: float) -> None:
    replica = Replica(service_laws(SPREAD, size))
    arrived = arrival_times(POISSON, 1.0, rate_rps / 1e9, (200, 3_000), np.random.default_rng(1))
    sojourns = simulate(replica, arrived, np.random.default_rng(2)).sojourn_ns[:, 500:]
    for at_ns in (4.5 * MS, 8.2 * MS, 12.4 * MS):
        late = (sojourns > at_ns).mean(axis=1)
        error = late.std() / math.sqrt(len(late))
        assert late.mean() == pytest.approx(sojourn_tail(SPREAD, size, rate_rps, at_ns), abs=4 * error + 1e-4)


@pytest.mark.parametrize("instances", [1, 2, 5])
def test_exponential_services_are_erlangs(instances: int) -> None:
    """P(T > t) of M/M/k: Erlang's C and, of those that wait, an exponential wait besides the service."""
    mean, load = float(MS), 0.7 * instances
    quantiles = -mean * np.log1p(-(np.arange(4_000) + 0.5) / 4_000)
    replica = Replica(service_laws({1: np.round(quantiles).astype(int).tolist()}, 1), instances)
    arrived = arrival_times(POISSON, 1.0, load / mean, (200, 3_000), np.random.default_rng(3))
    sojourns = simulate(replica, arrived, np.random.default_rng(4)).sojourn_ns[:, 500:]
    term = load**instances / math.factorial(instances) / (1 - load / instances)
    waits = term / (sum(load**n / math.factorial(n) for n in range(instances)) + term)
    ahead = (instances - load) / mean
    for t in (1.5 * MS, 4.0 * MS):
        late = (sojourns > t).mean(axis=1)
        if instances == 1:
            expected = math.exp(-ahead * t)
        else:
            both = (math.exp(-ahead * t) / mean - ahead * math.exp(-t / mean)) / (1 / mean - ahead)
            expected = (1 - waits) * math.exp(-t / mean) + waits * both
        assert late.mean() == pytest.approx(expected, abs=4 * late.std() / math.sqrt(len(late)))


def waiting_in_simpy(arrived: np.ndarray, size: int, delay: float, instances: int) -> np.ndarray:
    """The batcher as processes: requests come, a batch is sent off when it is full or has waited enough."""
    env = simpy.Environment()
    idle = simpy.Resource(env, instances)
    queue: list[float] = []
    more = [env.event()]
    sojourns: list[float] = []

    def come():
        for at in arrived.tolist():
            yield env.timeout(at - env.now)
            queue.append(at)
            more[0].succeed()
            more[0] = env.event()

    def serve(batch: list[float], instance) -> None:
        yield env.timeout(MS + MS / 4 * len(batch))
        sojourns.extend(env.now - at for at in batch)
        idle.release(instance)

    def form():
        while len(sojourns) < len(arrived):
            instance = idle.request()
            yield instance
            while not queue:
                yield more[0]
            patience = env.timeout(max(queue[0] + delay - env.now, 0))
            while len(queue) < size and not patience.processed:
                yield patience | more[0]
            batch = queue[:size]
            del queue[:size]
            env.process(serve(batch, instance))

    env.process(come())
    env.process(form())
    env.run(until=arrived[-1] + 100 * MS)
    return np.array(sojourns)


@pytest.mark.parametrize(("delay", "instances"), [(0, 2), (MS // 2, 1), (2 * MS, 2)])
def test_delays_and_instances_are_those_of_simpy(delay: int, instances: int) -> None:
    service = {b: [round(MS + MS / 4 * b)] for b in range(1, 5)}
    arrived = arrival_times(POISSON, 1.0, 1.1 * instances / MS, (1, 20_000), np.random.default_rng(5))
    replica = Replica(service_laws(service, 4), instances, delay)
    found = simulate(replica, arrived, np.random.default_rng(6)).sojourn_ns[0]
    expected = waiting_in_simpy(arrived[0], 4, float(delay), instances)
    assert np.sort(found)[:-50] == pytest.approx(np.sort(expected)[: len(found) - 50], rel=1e-9)


@pytest.mark.parametrize("share", [1.0, 0.4, 0.05])
def test_a_share_of_gamma_arrivals_is_those_arrivals_thinned(share: float) -> None:
    rng = np.random.default_rng(7)
    gaps = np.diff(arrival_times(BURSTY, share, 1.0, (20, 5_000), rng), axis=1).ravel()
    all_of_them = arrival_times(BURSTY, 1.0, 1.0 / share, (1, round(100_000 / share)), rng)[0]
    kept = np.diff(all_of_them[rng.random(len(all_of_them)) < share])
    assert gaps.mean() == pytest.approx(1.0, rel=0.03)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(1 + share * (BURSTY.cv**2 - 1), rel=0.08)
    at = np.quantile(kept, [0.05, 0.3, 0.6, 0.9, 0.99])
    ours, theirs = ((g[:, None] <= at).mean(axis=0) for g in (gaps, kept))
    assert ours == pytest.approx(theirs, abs=0.008)


def test_a_trace_is_replayed_in_a_circle() -> None:
    trace = Arrivals(trace=(0.0, 0.1, 0.2, 3.0, 3.1))
    whole = arrival_times(trace, 1.0, 2.0, (50, 40), np.random.default_rng(8))
    gaps = np.round(np.diff(whole * 2.0, axis=1), 9)
    assert set(gaps.ravel().tolist()) == {0.1, 2.8, 1.9}
    assert (gaps[:, 5:] == gaps[:, :-5]).all()
    part = arrival_times(trace, 0.3, 2.0, (200, 400), np.random.default_rng(9))
    assert np.diff(part, axis=1).mean() == pytest.approx(0.5, rel=0.02)
    assert len({row[0] for row in whole.round(6).tolist()}) > 1, "runs start at different requests"
