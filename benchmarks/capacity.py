"""How long one capacity takes, and how far it is from closed forms, a finer lattice and a simulation.

    python benchmarks/capacity.py

The planner keeps BLAS out of it, but for solving systems as large as the number of measured batch sizes; so
there are no threads to pin.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from fractions import Fraction
from time import process_time

import numpy as np

from planner.capacity import capacity, sojourn_percentile_ns, sojourn_tail
from planner.capacity.service import service_laws
from planner.capacity.sojourn import grid, sojourn

MS = 1_000_000
REPEATS = 15
Service = dict[int, list[int]]


def profile(size: int, spread: float) -> Service:
    """Powers of two up to ``size``, 1000 lognormal samples each (p99 / p50 = ``spread``)."""
    rng = np.random.default_rng(size)
    sigma = math.log(spread) / 2.326
    sizes = [2**k for k in range(size.bit_length()) if 2**k <= size]
    return {b: [round(v) for v in (MS + MS / 5 * b) * np.exp(sigma * rng.normal(size=1000))] for b in sizes}


def times() -> None:
    print(f"One capacity, p99, process time in ms of {REPEATS} runs; budget in services of the largest batch")
    print(f"{'B':>4} {'p99/p50':>8} {'budget':>7} {'least':>8} {'median':>8} {'rate':>10} {'batch':>7}")
    for size in (1, 8, 32, 128):
        for spread in (1.02, 3.0):
            service = profile(size, spread)
            laws = service_laws(service, size)
            for services in (0.7, 1.5, 4.0, 200.0):
                alone = float(np.percentile(laws.samples_ns[0], 99))
                budget = round(max(services * float(laws.mean_ns[-1]), 1.3 * alone))
                spent = []
                for _ in range(REPEATS):
                    start = process_time()
                    found = capacity(service, size, 99, budget)
                    spent.append((process_time() - start) * 1e3)
                least, median = min(spent), statistics.median(spent)
                print(
                    f"{size:>4} {spread:>8} {services:>7} {least:>8.1f} {median:>8.1f} "
                    f"{found.rate_rps:>10.1f} {found.mean_batch_size:>7.1f}"
                )


def closed_forms() -> None:
    print("\nM/D/1: P(T > x) / exact - 1")
    for load in (0.3, 0.6, 0.9):
        row = []
        for services in (1.5, 2.0, 3.7, 6.25, 10.5):
            total = sum(
                (-x) ** k / math.factorial(k) * Fraction(math.exp(x))
                for k in range(int(services - 1) + 1)
                for x in (Fraction(load) * (Fraction(services - 1) - k),)
            )
            exact = float(1 - (1 - Fraction(load)) * total)
            row.append(f"{sojourn_tail({1: [MS]}, 1, load * 1e3, services * MS) / exact - 1:+.1e}")
        print(f"  load {load}: ", *row)
    print("M/M/1: capacity / exact - 1, p99, from 4000 quantiles")
    quantiles = -np.log1p(-(np.arange(4000) + 0.5) / 4000)
    samples = np.round(quantiles / quantiles.mean() * MS).astype(int).tolist()
    for load in (0.1, 0.5, 0.9):
        budget = round(math.log(100) * MS / (1 - load))
        print(f"  load {load}: {capacity({1: samples}, 1, 99, budget).rate_rps / (load * 1e3) - 1:+.1e}")


def finer_lattice() -> None:
    print(
        "\nAgainst a lattice 8 times as fine: relative error of the tail, and what it moves the capacity by"
    )
    for size in (1, 8, 32, 128):
        for spread in (1.02, 3.0):
            service = profile(size, spread)
            laws = service_laws(service, size)
            for services in (1.5, 4.0):
                budget = round(max(services * float(laws.mean_ns[-1]), 1.3 * laws.samples_ns[0][-11]))
                rate = capacity(service, size, 99, budget).rate_rps
                usual, fine = grid(laws, budget), grid(laws, budget, 2048)
                tails = [sojourn(on, r).tail(budget) for on, r in ((usual, rate), (fine, rate))]
                above = sojourn(usual, rate * 1.001).tail(budget)
                error = math.log(tails[0] / tails[1])
                slope = math.log(above / tails[0]) / 1e-3
                print(
                    f"  B {size:>3}, p99/p50 {spread}, budget {services}: {error:+.1e} {error / slope:+.1e}"
                )


def simulate(service: Service, size: int, rate: float, requests: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1e9 / rate, requests))
    times = arrivals.tolist()
    draws = {b: iter(rng.choice(np.asarray(s, float), requests)) for b, s in service.items()}
    size_of = [0] + [min(b for b in service if b >= wanted) for wanted in range(1, size + 1)]
    done, first, free = np.empty(requests), 0, 0.0
    while first < requests:
        start = max(free, times[first])
        last = bisect_right(times, start, first, min(first + size, requests))
        free = start + next(draws[size_of[last - first]])
        done[first:last] = free
        first = last
    return (done - arrivals)[requests // 10 :]


def simulation() -> None:
    print("\nAgainst 10 simulations of 200,000 requests: percentile / simulated - 1 (standard error)")
    for size in (1, 8, 32, 128):
        for spread in (1.02, 3.0):
            service = profile(size, spread)
            limit = service_laws(service, size).limit_per_ns * 1e9
            for load in (0.2, 0.6):
                rate, at = load * limit, (50, 90, 99)
                runs = [np.percentile(simulate(service, size, rate, 200_000, seed), at) for seed in range(10)]
                mean, error = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / math.sqrt(len(runs))
                found = [sojourn_percentile_ns(service, size, rate, p) for p in at]
                row = [
                    f"p{p} {f / m - 1:+.2%} ({e / m:.2%})"
                    for p, f, m, e in zip(at, found, mean, error, strict=True)
                ]
                print(f"  B {size:>3}, p99/p50 {spread}, load {load}: ", *row)


if __name__ == "__main__":
    times()
    closed_forms()
    finer_lattice()
    simulation()
