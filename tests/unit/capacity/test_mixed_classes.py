"""Several classes of requests in one queue: against simulated requests, and in the limits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.capacity import (
    Replica,
    ServiceLaws,
    best_of_classes,
    capacity_of,
    mixed_laws,
    packed_classes,
    service_laws,
    simulate,
    subsets,
)
from planner.capacity.mixed import weights
from planner.capacity.sojourn import grid, percentile_ns, sojourn
from planner.domain.problem import EACH, TIME, RequestClass
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import SATURATED, Arrivals, Batching, Slo, Workload
from planner.units import NS_PER_S

Array = npt.NDArray[np.float64]
MS = 1_000_000


def laws(
    base_ms: float, per_request_ms: float, sizes: Sequence[int], spread: float = 0.1, seed: int = 0
) -> ServiceLaws:
    rng = np.random.default_rng((seed, int(base_ms * 100)))
    return service_laws(
        {
            b: np.round((base_ms + per_request_ms * b) * MS * rng.lognormal(0, spread, 500))
            .astype(int)
            .tolist()
            for b in sizes
        },
        sizes[-1],
    )


def workload(budget_ms: float, shares: Sequence[float], **changes: object) -> Workload:
    classes = tuple(RequestClass(f"c{k}", share) for k, share in enumerate(shares))
    slo = Slo(99, int(budget_ms * MS))
    return Workload("w", 1000.0, slo, AccuracyFloor("agreement", 0.9, None), classes=classes, **changes)  # type: ignore[arg-type]


def requests_simulated(
    by_class: Sequence[ServiceLaws], shares: Sequence[float], rate_rps: float, count: int, seed: int = 0
) -> Array:
    """Sojourn times in ns of Poisson requests, each of a class, in one greedy queue: a loop over batches."""
    rng = np.random.default_rng(seed)
    arrived = (rng.exponential(NS_PER_S / rate_rps, count)).cumsum()
    of = rng.choice(len(shares), count, p=np.array(shares) / sum(shares))
    most = by_class[0].max_batch_size
    sojourns, at, free = np.empty(count), 0, 0.0
    while at < count:
        start = max(free, arrived[at])
        end = min(at + most, int(np.searchsorted(arrived, start, side="right")))
        padded_to = by_class[int(of[at:end].max())]
        samples = padded_to.samples_ns[int(np.searchsorted(padded_to.largest, end - at))]
        free = start + samples[rng.integers(len(samples))]
        sojourns[at:end] = free - arrived[at:end]
        at = end
    return sojourns[count // 20 :]


def late_share(by_class: Sequence[ServiceLaws], rates: Sequence[float], budget_ms: float) -> float:
    """By the exact analysis, of a random request."""
    served = [(of, rate) for of, rate in zip(by_class, rates, strict=True) if rate > 0]
    mixed = mixed_laws([of for of, _ in served], [rate for _, rate in served])
    return sojourn(grid(mixed, budget_ms * MS), sum(rates)).tail(budget_ms * MS)


def test_the_largest_of_a_batch_by_counting() -> None:
    shares = (0.5, 0.3, 0.2)
    for size in (1, 2, 5):
        found = np.zeros(3)
        for batch in product(range(3), repeat=size):
            found[max(batch)] += np.prod([shares[c] for c in batch])
        assert weights(np.cumsum(shares), size) == pytest.approx(found)


def test_all_of_one_class_have_its_laws() -> None:
    alone = laws(1, 0.5, (1, 2, 4))
    assert mixed_laws([alone], [0.3]) is alone


def test_the_mean_of_a_mixture_is_that_of_the_classes() -> None:
    short, long = laws(1, 0.5, (1, 4, 8)), laws(3, 2, (1, 2, 8))
    mixed = mixed_laws([short, long], [0.7, 0.3])
    for size, mean_ns in zip(mixed.largest, mixed.mean_ns, strict=True):
        none_long = 0.7**size
        parts = [of.mean_ns[int(np.searchsorted(of.largest, size))] for of in (short, long)]
        assert mean_ns == pytest.approx(none_long * parts[0] + (1 - none_long) * parts[1], rel=1e-12)


@pytest.mark.parametrize(
    ("shares", "sizes", "load"),
    [
        ((0.7, 0.3), (1, 2, 4, 8), 0.6),
        ((0.95, 0.05), (1, 4, 8), 0.7),
        ((0.5, 0.3, 0.2), (1, 2, 4), 0.5),
        ((0.9, 0.1), (1,), 0.6),
        ((0.98, 0.02), (1, 8, 32), 0.6),
    ],
)
def test_against_requests_that_are_simulated(
    shares: tuple[float, ...], sizes: tuple[int, ...], load: float
) -> None:
    by_class = [laws(1 + k, 0.4 * 3**k, sizes) for k in range(len(shares))]
    mixed = mixed_laws(by_class, shares)
    rate = load * mixed.limit_per_ns * NS_PER_S
    sojourns = requests_simulated(by_class, shares, rate, 150_000)
    for percentile in (50, 90, 99):
        seen = float(np.percentile(sojourns, percentile))
        assert percentile_ns(mixed, rate, percentile) == pytest.approx(seen, rel=0.035)


def test_the_simulation_takes_a_mixture_as_the_exact_analysis_does() -> None:
    mixed = mixed_laws([laws(1, 0.4, (1, 2, 4)), laws(2, 2, (1, 2, 4))], [0.8, 0.2])
    rate = 0.6 * mixed.limit_per_ns * NS_PER_S
    arrived = np.random.default_rng(1).exponential(NS_PER_S / rate, (64, 4000)).cumsum(axis=1)
    seen = simulate(Replica(mixed), arrived, np.random.default_rng(2)).sojourn_ns[:, 500:]
    exact = percentile_ns(mixed, rate, 99)
    assert float(np.percentile(seen, 99)) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("only", [0, 1])
def test_a_share_near_1_is_as_good_as_that_class_alone(only: int) -> None:
    by_class = [laws(1, 0.5, (1, 2, 4, 8)), laws(2, 1.5, (1, 2, 4, 8))]
    rare = 1e-6
    shares = (1 - rare, rare) if only == 0 else (rare, 1 - rare)
    alone = capacity_of(by_class[only], 99, 40 * MS).rate_rps
    taken = best_of_classes(by_class, shares, 1, workload(40, shares))
    assert taken.analysis.rate_rps == pytest.approx(alone, rel=2e-3)


@settings(max_examples=12, deadline=None)
@given(
    st.floats(0.3, 3),
    st.floats(0.05, 1),
    st.floats(1.2, 6),
    st.floats(0.05, 0.95),
    st.sampled_from([(1,), (1, 2, 4), (1, 8)]),
    st.floats(1.3, 12),
    st.floats(0.02, 0.5),
)
def test_fewer_requests_of_some_class_are_no_worse(
    base: float,
    each: float,
    times: float,
    share: float,
    sizes: tuple[int, ...],
    room: float,
    spread: float,
) -> None:
    by_class = [laws(base, each, sizes, spread), laws(base * times, each * times, sizes, spread, seed=1)]
    budget = room * float(by_class[1].mean_ns[-1]) / MS
    taken = best_of_classes(by_class, (share, 1 - share), 1, workload(budget, (share, 1 - share)))
    rate = taken.analysis.low_rps
    if rate <= 0:
        return
    full = [part * rate for part in taken.parts]
    for less in (0.0, 0.05, 0.3, 0.6, 0.9, 1.0):
        assert late_share(by_class, (full[0] * less, full[1]), budget) <= 0.01 * 1.02
        assert late_share(by_class, (full[0], full[1] * less), budget) <= 0.01 * 1.02


def test_what_is_late_even_alone_cannot_hide_behind_others() -> None:
    short, late = laws(1, 0.5, (1, 2, 4)), laws(60, 1, (1, 2, 4))
    mix = workload(50, (0.995, 0.005))
    assert capacity_of(mixed_laws([short, late], (0.995, 0.005)), 99, 50 * MS).rate_rps > 0
    taken = best_of_classes([short, late], (0.995, 0.005), 1, mix)
    assert taken.analysis.low_rps == 0
    assert taken.decisive == (1,)


def test_a_class_that_is_nearly_late_alone_decides() -> None:
    """p99 of the large ones alone is just within the budget: a mix that hides them would take more."""
    short = laws(1, 0.2, (1, 2, 4))
    tight = service_laws({b: [40 * MS] * 991 + [60 * MS] * 9 for b in (1, 2, 4)}, 4)
    taken = best_of_classes([short, tight], (0.99, 0.01), 1, workload(50, (0.99, 0.01)))
    alone = capacity_of(tight, 99, 50 * MS).rate_rps
    assert taken.decisive == (1,)
    assert taken.analysis.low_rps * 0.01 == pytest.approx(alone)
    assert taken.analysis.low_rps < capacity_of(mixed_laws([short, tight], (99, 1)), 99, 50 * MS).rate_rps
    assert taken.analysis.sojourn_ns <= 50 * MS


def test_simulated_capacities_of_a_mix_are_near_the_exact_one() -> None:
    by_class = [laws(1, 0.4, (1, 2, 4)), laws(2, 1.5, (1, 2, 4))]
    shares = (0.7, 0.3)
    exact = best_of_classes(by_class, shares, 1, workload(30, shares)).analysis.rate_rps
    bursty = workload(30, shares, arrivals=Arrivals(cv=1.0 + 1e-9))
    simulated = best_of_classes(by_class, shares, 1, bursty).analysis
    assert simulated.low_rps <= exact <= simulated.high_rps * 1.01
    assert simulated.low_rps == pytest.approx(exact, rel=0.03)


def test_queues_ignored_loads_add_up() -> None:
    by_class = [laws(1, 0.5, (1, 4)), laws(2, 2, (1, 4))]
    asked = workload(50, (0.5, 0.5), capacity=SATURATED, batching=Batching())
    taken = best_of_classes(by_class, (0.5, 0.5), 2, asked)
    each = [2 * 4 / (float(of.mean_ns[-1]) / NS_PER_S) for of in by_class]
    assert taken.mixing == TIME
    assert taken.analysis.low_rps == pytest.approx(max(each))
    assert [part * taken.analysis.low_rps for part in taken.parts] == pytest.approx(each)
    slower = packed_classes(taken, by_class, (0.5, 0.5), asked, 1.25).analysis.low_rps
    assert slower == pytest.approx(max(each) / 1.25, rel=1e-3)
    late = best_of_classes([by_class[0], laws(60, 1, (1, 4))], (0.5, 0.5), 1, asked)
    assert late.analysis.low_rps == 0


def test_one_class_is_served_each_and_sets_are_listed() -> None:
    taken = best_of_classes([laws(1, 0.5, (1, 2))], (0.4,), 1, workload(20, (0.4, 0.6)))
    assert (taken.mixing, taken.parts, taken.decisive) == (EACH, (1.0,), (0,))
    assert subsets(["a", "b"]) == [("a",), ("b",), ("a", "b")]
    assert subsets([""]) == [("",)]
    assert len(subsets("abcd")) == 15


def test_what_makes_no_sense_is_named() -> None:
    a, b = laws(1, 0.5, (1, 2)), laws(1, 0.5, (1, 2, 4))
    with pytest.raises(ValueError, match="one max batch size"):
        mixed_laws([a, b], [1, 1])
    with pytest.raises(ValueError, match="shares must be above 0"):
        mixed_laws([a, a], [1, 0])
    with pytest.raises(ValueError, match="2 classes have 1 shares"):
        mixed_laws([a, a], [1])
