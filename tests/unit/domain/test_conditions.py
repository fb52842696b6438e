"""What turns tell together: the worst of all, and joules as if they had been measured as one."""

from __future__ import annotations

from functools import reduce
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.domain.conditions import NOT_TOLD, Conditions, over

TURNS = st.lists(st.tuples(st.floats(0.001, 1000), st.integers(1, 500)), min_size=1, max_size=6)


@given(TURNS)
def test_joules_are_the_average_over_all_samples(turns: list[tuple[float, int]]) -> None:
    found = over((Conditions(cpu_joules=joules), samples) for joules, samples in turns)
    each = [joules for joules, samples in turns for _ in range(samples)]
    assert found.cpu_joules == pytest.approx(fmean(each))
    assert found.gpu_joules is None


def test_what_one_does_not_tell_the_other_does() -> None:
    known = Conditions(0.0, (), 1.0, 2.0, 9.0, (3, 4), (5, 6), (7, 8))
    assert known.joined(NOT_TOLD, 0.5) == known
    assert NOT_TOLD.joined(known, 0.5) == known
    assert over([]) == NOT_TOLD


def test_the_worst_stays() -> None:
    turns = [
        Conditions(0.06, ("temperature",), gpu_clock_mhz=(1900, 1900)),
        Conditions(-0.08, (), gpu_clock_mhz=(1500, 1600)),
        Conditions(0.0, ("power cap", "temperature"), gpu_clock_mhz=(1980, 1980)),
    ]
    found = reduce(lambda one, other: one.joined(other, 0.5), turns)
    assert found.drift == -0.08
    assert found.throttled == ("temperature", "power cap")
    assert found.gpu_clock_mhz == (1500, 1980)
