"""Hours of traces in fewer periods."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.spec.blocks import merged

HOURS = [f"{hour:02}:00" for hour in range(24)]


def beyond(rates: list[dict[str, float]], blocks: list[list[str]]) -> float:
    return sum(
        (max(one[hour] for hour in block) - one[hour]) / (max(one.values()) or 1.0)
        for one in rates
        for block in blocks
        for hour in block
    )


def hours_of(name: str) -> list[str]:
    first, last = int(name[:2]), int(name[6:8])
    return [f"{hour % 24:02}:00" for hour in range(first, last if last > first else last + 24)]


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=24, max_size=24), min_size=1, max_size=2),
    st.integers(2, 3),
)
def test_as_good_as_every_way_to_divide_the_day(drawn: list[list[int]], at_most: int) -> None:
    rates = [dict(zip(HOURS, map(float, one), strict=True)) for one in drawn]
    periods, found = merged(rates, at_most)
    assert sum(periods.values()) == 24 and len(periods) <= at_most
    blocks = [hours_of(name) for name in periods]
    assert sorted(hour for block in blocks for hour in block) == HOURS
    for one, by_block in zip(rates, found, strict=True):
        assert by_block == {n: max(one[h] for h in hours_of(n)) for n in periods}
    every = (
        [[HOURS[hour % 24] for hour in range(a, b)] for a, b in pairwise((*cuts, cuts[0] + 24))]
        for cuts in combinations(range(24), at_most)
    )
    assert beyond(rates, blocks) == pytest.approx(min(beyond(rates, way) for way in every))


def test_part_of_a_day_is_not_turned() -> None:
    rates = [{"09:00": 5.0, "10:00": 1.0, "11:00": 1.0, "20:00": 5.0}]
    periods, found = merged(rates, 2)
    assert sum(periods.values()) == 4
    assert not any(name.startswith("20:00") and periods[name] > 1 for name in periods)
    assert set(found[0].values()) == {5.0}


def test_equal_hours_need_one_period() -> None:
    assert merged([dict.fromkeys(HOURS, 2.0)], 5) == ({"00:00-24:00": 24.0}, [{"00:00-24:00": 2.0}])
