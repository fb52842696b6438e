"""The knapsack against listing every filling."""

from __future__ import annotations

from itertools import product

from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.optimize.packing import Item, best_filling, how_many_fit, unbeaten_fillings

ITEMS = st.lists(
    st.builds(Item, st.integers(1, 5), st.integers(0, 6), st.integers(1, 30).map(float)),
    min_size=1,
    max_size=4,
)
LIMITS = st.tuples(st.integers(0, 12), st.integers(0, 14))


def every_filling(items: list[Item], limits: tuple[int, int]) -> list[tuple[float, int, int]]:
    """Worth and use of every filling."""
    ranges = [range(how_many_fit(item, limits) + 1) for item in items]
    found = []
    for counts in product(*ranges):
        pairs = list(zip(counts, items, strict=True))
        first, second = sum(n * i.first for n, i in pairs), sum(n * i.second for n, i in pairs)
        if first <= limits[0] and second <= limits[1]:
            found.append((sum(n * i.value for n, i in pairs), first, second))
    return found


@settings(max_examples=500, deadline=None)
@given(ITEMS, LIMITS)
def test_the_best_filling_is_the_best_of_all(items: list[Item], limits: tuple[int, int]) -> None:
    best = best_filling(items, limits)
    assert best.value == max(value for value, _, _ in every_filling(items, limits))
    pairs = list(zip(best.counts, items, strict=True))
    assert best.value == sum(n * i.value for n, i in pairs)
    assert best.first == sum(n * i.first for n, i in pairs) <= limits[0]
    assert best.second == sum(n * i.second for n, i in pairs) <= limits[1]


@settings(max_examples=300, deadline=None)
@given(ITEMS, LIMITS)
@example([Item(1, 0, 3.0), Item(4, 1, 12.0)], (4, 1))  # as good with one item as with four, but not as lean
def test_unbeaten_fillings_are_exactly_the_pareto_front(items: list[Item], limits: tuple[int, int]) -> None:
    every = set(every_filling(items, limits))
    front = {
        (value, first, second)
        for value, first, second in every
        if not any(v >= value and a <= first and b <= second for v, a, b in every - {(value, first, second)})
    }
    found = unbeaten_fillings(items, limits, most=10_000)
    assert found is not None
    assert sorted((f.value, f.first, f.second) for f in found) == sorted(front)


def test_a_large_instance_with_near_equal_items_is_packed_exactly() -> None:
    # 192 threads, both resources bind, worth almost proportional to use: where pruning has least to go by.
    items = [Item(t, 900 + 350 * t, 10 * t**0.97) for t in (1, 2, 3, 4, 6, 8)]
    limits = (192, 192 * 700)
    best = best_filling(items, limits)
    # Dynamic programming over both resources in steps of 50, which divides every use.
    table = [[0.0] * (limits[1] // 50 + 1) for _ in range(limits[0] + 1)]
    for a in range(limits[0] + 1):
        row = table[a]
        for item in items:
            if item.first <= a:
                before, step = table[a - item.first], item.second // 50
                for b in range(step, len(row)):
                    row[b] = max(row[b], before[b - step] + item.value)
    assert best.value >= table[-1][-1] * (1 - 1e-12)


def test_more_unbeaten_fillings_than_allowed_is_told() -> None:
    assert unbeaten_fillings([Item(1, 1, 1.0)], (50, 50), most=50) is None
    assert len(unbeaten_fillings([Item(1, 1, 1.0)], (50, 50), most=51) or []) == 51
