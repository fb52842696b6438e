"""What a candidate costs by itself, always full: against counting by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Demand, Problem
from planner.optimize import cheapest_when_full

GIB = 1 << 30


def offer(name: str, vcpus: int, gib: int | None, usd: float, gpus: float = 0, device: str = "cpu") -> Offer:
    memory = None if gib is None else gib * GIB
    return Offer("cloud", name, "here", device, gpus, vcpus, memory, "on-demand", usd, "a list", "2026-01-01")


def candidate(
    threads: int, gib: int, side_by_side: int, rps: float, packed: float, device: str = "cpu"
) -> Candidate:
    return Candidate("c", "w", "int8", "b", device, threads, 1, gib * GIB, rps, side_by_side, packed)


@given(
    st.lists(st.tuples(st.integers(1, 16), st.integers(1, 32), st.floats(0.01, 5)), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_the_best_number_of_replicas_on_the_best_offer(
    sold: list[tuple[int, int, float]], threads: int, gib: int, side_by_side: int
) -> None:
    offers = tuple(offer(f"o{k}", *one) for k, one in enumerate(sold))
    c = candidate(threads, gib, side_by_side, 100.0, 80.0)
    costs = []
    for vcpus, memory, usd in sold:
        for count in range(1, min(vcpus // threads, memory // gib) + 1):
            rate = count * (100.0 if count <= side_by_side else 80.0)
            costs.append(usd / (rate * 3600) * 1e6)
    found = cheapest_when_full(Problem((Demand("w", 1.0),), (c,), offers))
    if not costs:
        assert found == {}
    else:
        assert found["c"].usd_per_million_requests == approx(min(costs))
        assert found["c"].rate_rps == approx(found["c"].offer.usd_per_hour / min(costs) * 1e6 / 3600)


def test_a_replica_for_each_gpu_and_nothing_on_half_a_one() -> None:
    c = candidate(1, 0, 1, 10.0, 8.0, "gpu")
    four, half = offer("four", 8, None, 4.0, 4, "gpu"), offer("half", 8, None, 0.1, 0.5, "gpu")
    found = cheapest_when_full(Problem((Demand("w", 1.0),), (c,), (four, half)))
    assert (found["c"].offer.instance_type, found["c"].replicas, found["c"].rate_rps) == ("four", 4, 32.0)
