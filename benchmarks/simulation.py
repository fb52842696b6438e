"""How long a million simulated requests and a simulated capacity take: python benchmarks/simulation.py

Beside it a loop over the same batches, one after another, in plain Python; ratios are of one run on one core.
"""

from __future__ import annotations

from bisect import bisect_right
from time import perf_counter

import numpy as np

from planner.capacity import Replica, Stream, arrival_times, service_laws, simulate, simulated_capacity
from planner.domain.workload import Arrivals

MS = 1_000_000
SERVICES = {
    "batch 1": ({1: [MS]}, 1, 0.7),
    "batch 8, padded": ({1: [MS], 2: [round(1.2 * MS)], 8: [2 * MS, round(2.1 * MS)]}, 8, 2.8),
    "batch 64": ({1: [MS], 8: [2 * MS], 64: [9 * MS]}, 64, 6.5),
}
ROWS, REQUESTS = 400, 2_500


def loop(arrived: list[float], size: int, delay: float, time_ns: list[float]) -> float:
    """The last completion of one instance, batch by batch."""
    first, free, count = 0, 0.0, len(arrived)
    while first < count:
        full = arrived[first + size - 1] if first + size <= count else float("inf")
        start = max(free, min(arrived[first] + delay, full))
        last = bisect_right(arrived, start, first, min(first + size, count))
        free = start + time_ns[last - first]
        first = last
    return free


def main() -> None:
    print(f"{'':16} {'simulated':>10} {'loop':>8} {'ratio':>6}   {'capacity, cv 2':>15} {'budget':>7}")
    for name, (service, size, per_ms) in SERVICES.items():
        laws = service_laws(service, size)
        arrived = arrival_times(
            Arrivals(cv=2.0), 1.0, per_ms / MS, (ROWS, REQUESTS), np.random.default_rng(0)
        )
        start = perf_counter()
        simulate(Replica(laws, 1, MS // 2), arrived, np.random.default_rng(1))
        ours = perf_counter() - start
        time_ns = [0.0] + [float(service[min(b for b in service if b >= n)][0]) for n in range(1, size + 1)]
        rows = arrived.tolist()
        start = perf_counter()
        for row in rows:
            loop(row, size, MS / 2, time_ns)
        theirs = perf_counter() - start
        start = perf_counter()
        simulated_capacity(Replica(laws, 1, MS // 2), Stream(Arrivals(cv=2.0), (1e-9,)), 99, 20 * MS)
        searched = perf_counter() - start
        print(f"{name:16} {ours:9.2f}s {theirs:7.2f}s {theirs / ours:6.1f}   {searched:14.2f}s {'20 ms':>7}")


if __name__ == "__main__":
    main()
