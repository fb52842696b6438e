"""Items in portions that fit."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from planner.variants.portions import portions


@given(st.lists(st.integers(0, 12)), st.integers(1, 20))
def test_nothing_is_lost_and_no_portion_is_too_large_or_too_small(items: list[int], room: int) -> None:
    found = list(portions(items, lambda size: size, room))
    assert [item for portion in found for item in portion] == items
    assert all(portion and (sum(portion) <= room or len(portion) == 1) for portion in found)
    assert all(sum(one) + after[0] > room for one, after in pairwise(found))
