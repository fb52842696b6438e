"""Other ways to the same numbers: two simulators of one replica, and the chain's dense matrix."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import simpy
from scipy.special import gammaln

Service = Mapping[int, Sequence[int]]
Simulator = Callable[[Service, int, float, int, int], np.ndarray]


def padded(service_ns: Service, batch_size: int) -> int:
    return min(size for size in service_ns if size >= batch_size)


def simulate(
    service_ns: Service, max_batch_size: int, rate_rps: float, requests: int, seed: int
) -> np.ndarray:
    """Sojourn times in ns, batch by batch down a list of arrivals; the first tenth is left out."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1e9 / rate_rps, requests))
    times = arrivals.tolist()
    draws = {size: iter(rng.choice(np.asarray(s, float), requests)) for size, s in service_ns.items()}
    size_of = [0] + [padded(service_ns, b) for b in range(1, max_batch_size + 1)]
    done = np.empty(requests)
    first, free = 0, 0.0
    while first < requests:
        start = max(free, times[first])
        last = bisect_right(times, start, first, min(first + max_batch_size, requests))
        free = start + next(draws[size_of[last - first]])
        done[first:last] = free
        first = last
    return (done - arrivals)[requests // 10 :]


def simulate_processes(
    service_ns: Service, max_batch_size: int, rate_rps: float, requests: int, seed: int
) -> np.ndarray:
    """The same with SimPy: a process that sends requests, one that batches them."""
    rng = np.random.default_rng(seed)
    env = simpy.Environment()
    queue = simpy.Store(env)
    gaps = rng.exponential(1e9 / rate_rps, requests).tolist()
    draws = {
        size: iter(rng.choice(np.asarray(s, float), requests).tolist()) for size, s in service_ns.items()
    }
    sojourns: list[float] = []

    def send():
        for gap in gaps:
            yield env.timeout(gap)
            queue.put(env.now)

    def serve():
        while True:
            batch = [(yield queue.get())]
            while queue.items and len(batch) < max_batch_size:
                batch.append((yield queue.get()))
            yield env.timeout(next(draws[padded(service_ns, len(batch))]))
            sojourns.extend(env.now - arrived for arrived in batch)

    env.process(send())
    env.process(serve())
    env.run()
    return np.array(sojourns[requests // 10 :])


def stationary(
    times_ns: np.ndarray, weights: np.ndarray, largest: Sequence[int], rate_per_ns: float, states: int
) -> np.ndarray:
    """pi of the queue left behind, from the dense transition matrix of so many states."""
    size = largest[-1]
    used = weights.any(axis=0)
    times_ns, weights = times_ns[used], weights[:, used]
    came, count = np.maximum(rate_per_ns * times_ns[:, None], 1e-300), np.arange(states)
    arrivals = weights @ np.exp(count * np.log(came) - came - gammaln(count + 1))
    moves = np.zeros((states, states))
    for q in range(states):
        left = max(q - size, 0)
        law = int(np.searchsorted(largest, min(max(q, 1), size)))
        moves[q, left:] = arrivals[law, : states - left]
        moves[q, -1] += 1 - moves[q].sum()
    balance = np.eye(states) - moves.T
    balance[0] = 1
    return np.linalg.solve(balance, np.eye(states)[0])


@pytest.fixture(scope="session", name="simulate")
def _simulate() -> Simulator:
    return simulate


@pytest.fixture(scope="session", name="simulate_processes")
def _simulate_processes() -> Simulator:
    return simulate_processes


@pytest.fixture(scope="session", name="stationary")
def _stationary() -> Callable[..., np.ndarray]:
    return stationary
