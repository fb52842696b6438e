"""Dividing GPUs: against listing every way, and against where NVIDIA allows a profile to start."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.optimize.slices import Tenant, divisions, fit_together, most_on_one

# Compute and memory slices of the profiles of A100 and H100, and the memory slices at which one may start, as
# `nvidia-smi mig -lgipp` lists them (MIG User Guide, "Supported MIG Profiles").
PLACES = {
    (1, 1): (0, 1, 2, 3, 4, 5, 6),
    (1, 2): (0, 2, 4, 6),
    (2, 2): (0, 2, 4),
    (3, 4): (0, 4),
    (4, 4): (0,),
    (7, 8): (0,),
}


def within_the_sums(
    compute: int, memory: int, kinds: list[tuple[int, int]]
) -> Iterator[list[tuple[int, int]]]:
    if not kinds:
        yield []
        return
    first, *others = kinds
    for count in range(8):
        left = compute - count * first[0], memory - count * first[1]
        if min(left) < 0:
            return
        for rest in within_the_sums(*left, others):
            yield [first] * count + rest


def has_places(slices: list[tuple[int, int]], taken: int = 0) -> bool:
    if not slices:
        return True
    largest = max(slices, key=lambda s: s[1])
    rest = list(slices)
    rest.remove(largest)
    span = (1 << largest[1]) - 1
    return any(
        has_places(rest, taken | span << start) for start in PLACES[largest] if not taken & span << start
    )


def test_every_set_within_the_sums_has_a_place_on_the_gpu() -> None:
    sets = list(within_the_sums(7, 8, list(PLACES)))
    assert len(sets) > 50
    assert all(has_places(slices) for slices in sets)
    assert not has_places([(4, 4), (4, 4)])


@pytest.mark.parametrize(
    ("slices", "most"), [((1, 1), 7), ((1, 2), 4), ((2, 2), 3), ((3, 4), 2), ((7, 8), 1)]
)
def test_how_many_of_one_profile_fit_is_what_nvidia_lists(slices: tuple[int, int], most: int) -> None:
    assert most_on_one(slices) == most


def fits_by_listing(slices: list[tuple[int, int]], gpus: int) -> bool:
    """Every replica on every GPU."""
    for places in product(range(gpus), repeat=len(slices)):
        used = [[0, 0] for _ in range(gpus)]
        for (compute, memory), gpu in zip(slices, places, strict=True):
            used[gpu][0] += compute
            used[gpu][1] += memory
        if all(compute <= 7 and memory <= 8 for compute, memory in used):
            return True
    return not slices


KINDS = st.lists(st.sampled_from(list(PLACES)), min_size=1, max_size=3, unique=True)


@settings(max_examples=100, deadline=None)
@given(KINDS, st.lists(st.integers(0, 3), min_size=3, max_size=3), st.integers(1, 2))
def test_fitting_together_is_finding_a_gpu_for_each(
    kinds: list[tuple[int, int]], counts: list[int], gpus: int
) -> None:
    pairs = list(zip(kinds, counts, strict=False))
    slices = [kind for kind, count in pairs for _ in range(count)]
    if len(slices) <= 7:
        assert fit_together(pairs, gpus) == fits_by_listing(slices, gpus)


@settings(max_examples=60, deadline=None)
@given(
    KINDS,
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9), st.booleans()), min_size=3, max_size=3),
    st.integers(1, 2),
    st.integers(2, 12),
)
def test_divisions_are_the_ways_that_no_other_matches(
    kinds: list[tuple[int, int]], figures: list[tuple[int, int, bool]], gpus: int, threads: int
) -> None:
    tenants = [
        Tenant(kind, own, ((int(second), float(rate)),))
        for kind, (own, rate, second) in zip(kinds, figures, strict=False)
    ]

    def takes(way: tuple[int, ...]) -> tuple[float, float]:
        total = [0.0, 0.0]
        for tenant, count in zip(tenants, way, strict=True):
            [(axis, rate)] = tenant.takes
            total[axis] += rate * count
        return total[0], total[1]

    every = [
        way
        for way in product(range(7 * gpus + 1), repeat=len(tenants))
        if sum(n * t.threads for n, t in zip(way, tenants, strict=True)) <= threads
        and fit_together([(t.slices, n) for t, n in zip(tenants, way, strict=True)], gpus)
    ]
    worth = {takes(way) for way in every}
    best = {a for a in worth if not any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in worth)}
    found = divisions(tenants, gpus, threads, axes=2, most=10_000)
    assert found is not None
    assert set(found) <= set(every)
    assert best <= {takes(way) for way in found}


def test_too_many_ways_are_none() -> None:
    tenants = [Tenant((1, 1), 1, ((axis, 1.0),)) for axis in range(4)]
    assert divisions(tenants, 4, 64, axes=4, most=50) is None
