"""The search for the highest rate, on answers that are certain and on noisy ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.verifying.searching import highest_rps, median_of_searches


@given(limit=st.floats(1.0, 1e5), start=st.floats(0.3, 3.0), tolerance=st.floats(0.005, 0.1))
def test_it_ends_right_below_the_limit(limit: float, start: float, tolerance: float) -> None:
    tried = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = highest_rps(holds, start * limit, tolerance)
    assert limit / (1 + tolerance) <= found <= limit
    assert found in tried
    assert len(tried) < 30


def test_where_nothing_holds_it_is_0_and_ends() -> None:
    assert highest_rps(lambda rate: False, 100.0) == 0.0


def test_where_everything_holds_it_ends_with_what_was_tried() -> None:
    tried = []
    assert highest_rps(lambda rate: bool(tried.append(rate)) or True, 100.0) == max(tried)


def test_the_median_of_noisy_searches_is_near_the_limit() -> None:
    rng = np.random.default_rng(0)
    highest, found = median_of_searches(lambda rate: rate * rng.lognormal(0, 0.03) <= 200.0, 300.0)
    assert len(found) == 5
    assert highest == sorted(found)[2]
    assert highest == pytest.approx(200.0, rel=0.06)
