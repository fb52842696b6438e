"""How long it takes to verify a fleet by a million requests, on one core: python benchmarks/verifying.py

Fleets of so many replicas at 95 % of their capacity each; beside it what the exact analysis has.
"""

from __future__ import annotations

from time import process_time

import numpy as np

from planner.capacity import Replica, capacity_of, service_laws
from planner.capacity.sojourn import percentile_ns
from planner.domain.workload import POISSON, Arrivals, Slo
from planner.units import NS_PER_MS
from planner.verifying import Alike, simulated

MS = NS_PER_MS
SLO = Slo(percentile=99, latency_ns=30 * MS)
REQUESTS = 1_000_000


def main() -> None:
    print(f"{'replicas':>8} {'batch':>6} {'cv':>4} {'simulated':>10} {'s':>6} {'p99, ms':>22} {'exact':>6}")
    for largest in (1, 8, 32):
        rng = np.random.default_rng(1)
        sizes = [size for size in (1, 2, 4, 8, 16, 32) if size <= largest]
        samples = {b: (rng.lognormal(0, 0.1, 1000) * (3 + b / 2) * MS).astype(int).tolist() for b in sizes}
        laws = service_laws(samples, largest)
        rate = 0.95 * capacity_of(laws, SLO.percentile, SLO.budget_ns).rate_rps
        for count in (1, 20, 200):
            for cv in (1.0, 2.0):
                begin = process_time()
                fleet = [Alike(Replica(laws), count, count * rate)]
                arrivals = POISSON if cv == 1 else Arrivals(cv=cv)
                found = simulated(fleet, arrivals, count * rate, SLO, REQUESTS, seed=0)
                seconds, seen = process_time() - begin, found.whole
                times = [ns / MS for ns in (seen.percentile_ns, seen.low_ns, seen.high_ns)]
                exact = f"{percentile_ns(laws, rate, SLO.percentile) / MS:.2f}" if cv == 1 else ""
                print(
                    f"{count:8} {largest:6} {cv:4.0f} {found.simulated:10,} {seconds:6.2f} "
                    f"{times[0]:6.2f} ({times[1]:5.2f} to {times[2]:5.2f}) {exact:>6}"
                )


if __name__ == "__main__":
    main()
