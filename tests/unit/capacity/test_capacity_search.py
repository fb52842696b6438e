from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.capacity import capacity, sojourn_percentile_ns, sojourn_tail
from planner.capacity.search import _Late, _loose_rps, _peak
from planner.capacity.service import service_laws
from planner.capacity.sojourn import STEPS

MS = 1_000_000
PADDED = {1: [MS], 2: [1_100_000], 4: [1_500_000], 8: [2_500_000]}
ONE_IS_SLOW = {1: [9 * MS], 2: [3 * MS], 4: [2 * MS]}
FOUR_ARE_SLOW = {3: [2_500_000], 4: [3 * MS], 8: [1_400_000]}
SPIKY_ALONE = {1: [MS] * 99 + [8 * MS], 2: [1_200_000], 8: [1_500_000]}

# BERT-large, int8, sequence length 128: mean latency in ms by batch size. Source: NVIDIA/TensorRT,
# demo/BERT/README.md, T4 at commit 1d6bf36 (TensorRT 8.5.1), L4 at 69b9d45 (10.2.0).
BERT_MS = {
    "T4": {1: 3.61, 2: 5.34, 4: 8.7, 8: 14.12, 12: 22.22, 16: 28.37},
    "L4": {1: 1.77, 2: 2.43, 4: 3.60, 8: 6.24, 12: 8.28, 16: 11.12},
}


def interpolated(device: str, size: int) -> dict[int, list[int]]:
    batches, means = zip(*BERT_MS[device].items(), strict=True)
    return {b: [round(float(np.interp(b, batches, means)) * MS)] for b in range(1, size + 1)}


@pytest.mark.parametrize(
    ("device", "size", "budget_ms", "rate"),
    [
        ("T4", 8, 20, 317),
        ("T4", 4, 10, 109.8),
        ("T4", 8, 10, 109.7),
        ("L4", 12, 20, 1239),
    ],
)
def test_bert_large(device, size, budget_ms, rate):
    """Rates worked out with another implementation, before this one was written."""
    service = interpolated(device, size)
    found = capacity(service, size, 99, budget_ms * MS)
    assert found.rate_rps == pytest.approx(rate, rel=1e-3)
    by_throughput = max(b / s[0] * 1e9 for b, s in service.items() if s[0] <= budget_ms * MS)
    assert found.rate_rps < 0.9 * by_throughput


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("percentile", [90, 99])
def test_m_m_1(load, percentile):
    quantiles = -np.log1p(-(np.arange(4000) + 0.5) / 4000)
    samples = np.round(quantiles / quantiles.mean() * MS).astype(int).tolist()
    budget = round(-math.log(1 - percentile / 100) * MS / (1 - load))
    assert capacity({1: samples}, 1, percentile, budget).rate_rps == pytest.approx(load * 1e3, rel=1e-2)


@pytest.mark.parametrize("services", [1.05, 1.6, 2.5, 4.0, 9.0])
def test_m_d_1(services):
    found = capacity({1: [MS]}, 1, 95, round(services * MS))
    load = found.rate_rps * 1e-3
    wait = services - 1
    terms = (
        (-load * (wait - k)) ** k / math.factorial(k) * math.exp(load * (wait - k))
        for k in range(int(wait) + 1)
    )
    assert 1 - (1 - load) * math.fsum(terms) == pytest.approx(0.05, rel=2e-3)
    assert found.utilisation == pytest.approx(load, rel=1e-6)


def test_what_it_says_of_the_rate_holds():
    found = capacity(PADDED, 8, 99, 4 * MS)
    assert sojourn_percentile_ns(PADDED, 8, found.rate_rps, 99) == pytest.approx(
        found.sojourn_percentile_ns, rel=1e-3
    )
    assert 0.999 * 4 * MS < found.sojourn_percentile_ns <= 4 * MS
    assert 0 < found.truncated_mass < 1e-6
    assert found.lattice_step_ns <= 4 * MS / 256


def test_the_share_of_late_requests_is_that_of_a_simulation(simulate):
    found = capacity(PADDED, 8, 99, 4 * MS)
    late = [np.mean(simulate(PADDED, 8, found.rate_rps, 60_000, seed) > 4 * MS) for seed in range(6)]
    error = np.std(late, ddof=1) / math.sqrt(len(late))
    assert error < 0.001
    assert abs(np.mean(late) - 0.01) < 4 * error


class TestNothingHolds:
    def test_a_request_alone_is_over_budget(self):
        found = capacity({1: [100] * 98 + [300, 300], 2: [120]}, 2, 99, 299)
        assert found.rate_rps == 0
        assert (found.sojourn_percentile_ns, found.utilisation) == (300, 0)

    def test_a_request_alone_uses_up_the_whole_allowance(self):
        assert capacity({1: [100] * 99 + [300]}, 1, 99, 299).rate_rps == 0

    def test_a_budget_of_exactly_one_service_leaves_room_for_whom_finds_it_idle(self):
        found = capacity({1: [MS]}, 1, 99, MS)
        assert found.rate_rps == pytest.approx(10, rel=1e-3)
        assert found.utilisation == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("service", "percentile", "budget_ns"),
    [(ONE_IS_SLOW, 95, 13_500_000), (SPIKY_ALONE, 99.7, 8_800_000), (FOUR_ARE_SLOW, 99, 5_445_403)],
)
def test_the_first_rate_that_fails_counts(service, percentile, budget_ns):
    """At low rates requests go alone, which is slow here; a bisection finds a rate beyond the gap."""
    size, allowed = max(service), 1 - percentile / 100
    low, high = 0.0, service_laws(service, size).limit_per_ns * 1e9
    for _ in range(30):
        middle = (low + high) / 2
        holds = sojourn_tail(service, size, middle, budget_ns) <= allowed
        low, high = (middle, high) if holds else (low, middle)
    found = capacity(service, size, percentile, budget_ns).rate_rps
    assert 0 < found < 0.5 * low
    assert sojourn_tail(service, size, found, budget_ns) <= allowed
    assert sojourn_tail(service, size, found * 1.02, budget_ns) > allowed


@pytest.mark.parametrize("service", [PADDED, ONE_IS_SLOW, FOUR_ARE_SLOW, SPIKY_ALONE])
@pytest.mark.parametrize("services", [1.2, 3.0, 10.0])
def test_between_two_rates_the_late_share_stays_below_the_chord(service, services):
    """What lets the scan take long steps; services that are slower alone make that share fall and rise."""
    laws = service_laws(service, max(service))
    late = _Late(laws, 0.01, services * float(laws.mean_ns.max()))
    points = [late.scan(share * late.limit_rps, STEPS) for share in np.linspace(0.02, 0.9, 12)]
    for start in range(12):
        for end in range(start + 2, 12):
            between = max(value for _, value in points[start + 1 : end])
            assert between <= _peak(late, points[start], points[end]) + 0.02
        if start:
            first = (0.0, math.log(max(late.alone, 1e-10) / 0.01))
            assert max(value for _, value in points[:start]) <= _peak(late, first, points[start]) + 0.02


@pytest.mark.parametrize("size", [1, 8, 32])
@pytest.mark.parametrize("services", [10, 40, 400])
def test_what_is_certain_of_loose_budgets_holds(size, services):
    service = {b: [MS + 100_000 * b] * 99 + [3 * (MS + 100_000 * b)] for b in (1, 8, 32)}
    laws = service_laws(service, size)
    budget = services * float(laws.mean_ns[-1])
    certain = _loose_rps(laws, 0.01, budget)
    assert 0 < certain < laws.limit_per_ns * 1e9
    for share in (0.2, 0.6, 1.0):
        assert sojourn_tail(service, size, share * certain, budget) <= 0.01
    if services == 400:
        assert certain > 0.9 * laws.limit_per_ns * 1e9


@st.composite
def services(draw):
    """Plausible ones: sorted by batch, spread by up to 3, some sizes left out."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 4, 8, 16]), min_size=1, max_size=4, unique=True))
    spread = draw(st.lists(st.floats(1, 3), min_size=1, max_size=8))
    fixed, each = draw(st.integers(10_000, 1_000_000)), draw(st.integers(0, 500_000))
    return {b: [round((fixed + each * b) * s) for s in spread] for b in sizes}, draw(
        st.integers(1, max(sizes))
    )


percentiles = st.sampled_from([50, 90, 95, 99, 99.9])
looseness = st.floats(1.001, 40) | st.floats(40, 1000)


@settings(max_examples=25, deadline=None)
@given(service=services(), percentile=percentiles, loose=looseness, share=st.floats(0.02, 1))
def test_every_rate_up_to_the_capacity_holds(service, percentile, loose, share):
    samples, size = service
    laws = service_laws(samples, size)
    budget = round(loose * laws.longest_ns)
    found = capacity(samples, size, percentile, budget)
    assert 0 < found.rate_rps < laws.limit_per_ns * 1e9
    assert found.sojourn_percentile_ns <= budget * (1 + 1e-9)
    assert 0 < found.utilisation <= 1
    assert 1 - 1e-9 <= found.mean_batch_size <= size * (1 + 1e-9)
    assert sojourn_tail(samples, size, found.rate_rps * share, budget) <= (1 - percentile / 100) * 1.002


@settings(max_examples=12, deadline=None)
@given(service=services(), percentile=percentiles, loose=st.floats(1.01, 100), more=st.floats(1.01, 3))
def test_more_budget_more_capacity_slower_service_less(service, percentile, loose, more):
    samples, size = service
    budget = round(loose * service_laws(samples, size).longest_ns)
    base = capacity(samples, size, percentile, budget).rate_rps
    looser = capacity(samples, size, percentile, round(budget * more)).rate_rps
    slower = {b: [round(v * more) for v in s] for b, s in samples.items()}
    assert looser >= base * (1 - 1e-3)
    assert capacity(slower, size, percentile, budget).rate_rps <= base * (1 + 1e-3)


@settings(max_examples=12, deadline=None)
@given(service=services(), percentile=percentiles, loose=st.floats(1.001, 100), factor=st.integers(2, 10**6))
def test_time_scales(service, percentile, loose, factor):
    samples, size = service
    budget = round(loose * service_laws(samples, size).longest_ns)
    scaled = {b: [v * factor for v in s] for b, s in samples.items()}
    base = capacity(samples, size, percentile, budget)
    found = capacity(scaled, size, percentile, budget * factor)
    assert found.rate_rps * factor == pytest.approx(base.rate_rps, rel=1e-4)
    assert found.mean_batch_size == pytest.approx(base.mean_batch_size, rel=1e-3)


@pytest.mark.parametrize("size", [1, 8, 32, 128])
def test_outliers_and_loose_budgets(size):
    service = {b: [MS + 100_000 * b] * 199 + [20 * (MS + 100_000 * b)] for b in (1, 8, 32, 128)}
    rates = [capacity(service, size, 99, budget * MS).rate_rps for budget in (3, 100, 30_000)]
    limit = service_laws(service, size).limit_per_ns * 1e9
    assert 0 < rates[0] < rates[1] < rates[2] < limit
    assert rates[2] > 0.98 * limit


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="budget_ns must be above 0, got 0"):
        capacity(PADDED, 8, 99, 0)
    with pytest.raises(ValueError, match="between 0 and 100, got 0"):
        capacity(PADDED, 8, 0, MS)
    with pytest.raises(ValueError, match="max_batch_size 16"):
        capacity(PADDED, 16, 99, MS)


def test_rare_outliers_at_a_loose_budget() -> None:
    """Close to the limit of stability the tail's decay is 1e-8 then: rounding must leave something of it."""
    service = {1: [90_000] * 300 + [23_000_000]}
    found = capacity(service, 1, 90, 100_000_000)
    assert 0.8 < found.utilisation < 1
    assert found.sojourn_percentile_ns <= 100_000_000
