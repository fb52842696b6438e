from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from planner.capacity import sojourn_percentile_ns, sojourn_tail
from planner.capacity.service import service_laws
from planner.capacity.sojourn import grid, settled_ns, sojourn

MS = 1_000_000
PADDED = {1: [MS], 2: [1_100_000], 4: [1_500_000], 8: [2_500_000]}
SLOWER_IN_BATCHES = {1: [MS], 2: [3 * MS], 4: [7 * MS], 8: [20 * MS]}
NEVER_ONE = {4: [MS], 8: [2_500_000]}
ONE_IS_SLOW = {1: [9 * MS], 2: [3 * MS], 4: [2 * MS]}
WIDE = {1: [20 * MS], 128: [27 * MS, 28 * MS]}


def heavy_tailed(sizes):
    """Lognormal quantiles with p99 = 3 x p50."""
    normal = np.sort(np.random.default_rng(1).normal(size=700))
    return {b: [int(v) for v in (MS + 300_000 * b) * np.exp(0.47 * normal)] for b in sizes}


def md1_tail(load: float, services: float) -> float:
    """P(T > services * D) of M/D/1 by Erlang's series, in fractions since its terms alternate."""
    wait = services - 1
    if wait < 0:
        return 1.0
    total = Fraction(0)
    for k in range(int(wait) + 1):
        x = Fraction(load) * (Fraction(wait) - k)
        total += (-x) ** k / math.factorial(k) * Fraction(math.exp(x))
    return float(1 - (1 - Fraction(load)) * total)


@pytest.mark.parametrize("load", [0.05, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("services", [1.0, 1.3, 2.0, 3.7, 6.25, 10.5])
def test_m_d_1(load, services):
    mean = 1_234_567
    found = sojourn_tail({1: [mean] * 3}, 1, load / mean * 1e9, services * mean)
    assert found == pytest.approx(md1_tail(load, services), rel=1e-2, abs=1e-7)


@pytest.mark.parametrize("load", [0.05, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("services", [2, 4, 8])
def test_m_d_1_is_exact_where_the_lattice_holds_the_service_time(load, services):
    found = sojourn_tail({1: [MS]}, 1, load / MS * 1e9, services * MS)
    assert found == pytest.approx(md1_tail(load, services), rel=1e-8, abs=5e-10)


@pytest.mark.parametrize("load", [0.2, 0.6, 0.9])
def test_m_m_1(load):
    """T is exponential with rate mu - lambda. The quantiles leave out what lies beyond 1 - 1/8000."""
    quantiles = -np.log1p(-(np.arange(4000) + 0.5) / 4000)
    samples = np.round(quantiles / quantiles.mean() * MS).astype(int).tolist()
    for percentile in (50, 90, 99):
        expected = -math.log(1 - percentile / 100) * MS / (1 - load)
        found = sojourn_percentile_ns({1: samples}, 1, load / MS * 1e9, percentile)
        assert found == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(
    ("service", "size", "load"),
    [
        (PADDED, 8, 0.3),
        (PADDED, 8, 0.7),
        (PADDED, 6, 0.6),
        (SLOWER_IN_BATCHES, 8, 0.5),
        (NEVER_ONE, 6, 0.5),
        (ONE_IS_SLOW, 4, 0.1),
        (ONE_IS_SLOW, 4, 0.5),
        (heavy_tailed((1, 2, 4, 8, 16)), 16, 0.3),
        (heavy_tailed((1, 32)), 32, 0.2),
        (WIDE, 100, 0.6),
        (WIDE, 128, 0.9),
    ],
)
def test_percentiles_are_those_of_a_simulation(simulate, service, size, load):
    laws = service_laws(service, size)
    rate = load * laws.limit_per_ns * 1e9
    at = (50, 90, 95)
    runs = np.array([np.percentile(simulate(service, size, rate, 50_000, seed), at) for seed in range(10)])
    mean, error = runs.mean(axis=0), runs.std(axis=0, ddof=1) / math.sqrt(len(runs))
    found = np.array([sojourn_percentile_ns(service, size, rate, p) for p in at])
    assert np.all(2.4 * error < 0.015 * mean), "the simulation is too short to judge"
    assert np.all(np.abs(found - mean) < 4.5 * error + 0.002 * mean)


@pytest.mark.parametrize(("service", "size", "load"), [(PADDED, 8, 0.25), (heavy_tailed((1, 4)), 4, 0.15)])
def test_percentiles_are_those_of_a_simpy_model(simulate_processes, service, size, load):
    rate = load * service_laws(service, size).limit_per_ns * 1e9
    at = (90, 95)
    runs = np.array(
        [np.percentile(simulate_processes(service, size, rate, 24_000, s), at) for s in range(10)]
    )
    mean, error = runs.mean(axis=0), runs.std(axis=0, ddof=1) / math.sqrt(len(runs))
    assert np.all(2.26 * error < 0.01 * mean), "the simulation is too short to judge"
    found = [sojourn_percentile_ns(service, size, rate, p) for p in at]
    assert found == pytest.approx(mean, rel=0.02)


@pytest.mark.parametrize("service", [PADDED, NEVER_ONE, ONE_IS_SLOW, heavy_tailed((1, 8)), WIDE])
def test_the_exponential_tail_is_that_of_the_grid(service):
    """Two ways to one number, where the grid ends: sums over the lattice, and the closed form."""
    laws = service_laws(service, max(service))
    end = settled_ns(laws)
    for load in (0.9, 0.97, 0.99):
        found = sojourn(grid(laws, end * (1 - 1e-9), 512), load * laws.limit_per_ns * 1e9)
        resolved = found.tail(found.horizon_ns)
        closed = math.exp(found.log_scale - found.decay_per_ns * found.horizon_ns)
        assert closed == pytest.approx(resolved, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("service", [PADDED, SLOWER_IN_BATCHES, ONE_IS_SLOW, heavy_tailed((1, 2, 8))])
@pytest.mark.parametrize("load", [0.01, 0.4, 0.8, 0.99])
def test_tail_and_percentile_are_inverse(service, load):
    size = max(service)
    rate = load * service_laws(service, size).limit_per_ns * 1e9
    for percentile in (50, 90, 99, 99.9):
        at = sojourn_percentile_ns(service, size, rate, percentile)
        allowed = 1 - percentile / 100
        assert sojourn_tail(service, size, rate, at * 1.001) <= allowed * 1.001
        assert sojourn_tail(service, size, rate, at * 0.999) >= allowed * 0.999


def test_a_finer_lattice_changes_little():
    laws = service_laws(heavy_tailed((1, 2, 4, 8)), 8)
    for at in (2 * MS, 5 * MS, 12 * MS):
        for load in (0.1, 0.5, 0.9):
            rate = load * laws.limit_per_ns * 1e9
            usual, fine = (sojourn(grid(laws, at, steps), rate).tail(at) for steps in (256, 1024))
            assert usual == pytest.approx(fine, rel=2e-3, abs=1e-8)


def test_at_no_load_a_request_is_alone():
    service = {1: list(range(100, 1100)), 2: [5000]}
    assert sojourn_percentile_ns(service, 2, 0.0, 99.9) == 100 + 998
    assert sojourn_percentile_ns(service, 2, 1e-250, 50) == 100 + 499
    assert sojourn_tail(service, 2, 0.0, 1097) == pytest.approx(0.002)
    assert sojourn_tail(service, 2, 1.0, 0) == 1.0


def test_an_unstable_queue_never_ends():
    limit = 8 / 2_500_000 * 1e9
    assert sojourn_tail(PADDED, 8, limit, 1e12) == 1.0
    assert sojourn_percentile_ns(PADDED, 8, limit * 1.01, 50) == math.inf
    assert sojourn_percentile_ns(PADDED, 8, limit * 0.999, 50) < math.inf


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="rate_rps must be 0 or above, got -1"):
        sojourn_tail(PADDED, 8, -1.0, MS)
    with pytest.raises(ValueError, match="between 0 and 100, got 100"):
        sojourn_percentile_ns(PADDED, 8, 1.0, 100)
