"""False alarms and power of the latency rule, by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from planner.gate.significance import LEVEL, LOOKS, level_of_each, mean_interval, slowdown

Draw = Callable[[np.random.Generator], float]


def normal(sd: float) -> Draw:
    return lambda rng: sd * float(rng.standard_normal())


def heavy(sd: float) -> Draw:
    """One launch in ten is disturbed, five times as much, on one side or the other."""
    return lambda rng: sd * float(rng.standard_normal()) * (5.0 if rng.random() < 0.1 else 1.0)


def student(sd: float) -> Draw:
    return lambda rng: sd * float(rng.standard_t(3)) / math.sqrt(3)


@pytest.mark.parametrize("law", [normal, heavy, student])
@pytest.mark.parametrize("sd", [0.02, 0.2])
def test_without_a_change_the_alarms_stay_within_the_level(law: Callable[[float], Draw], sd: float) -> None:
    # With nothing allowed, so that every excess over 1 counts; at 2 %, where alarms can be counted.
    level, runs = 0.02, 3000
    rng, draw = np.random.default_rng(3), law(sd)
    alarms = sum(slowdown(lambda: draw(rng), 0.0, level).slower for _ in range(runs))
    # Three standard deviations above what the level says.
    assert alarms <= level * runs + 3 * math.sqrt(level * runs)


def test_at_the_gate_s_own_level_nothing_is_made_up_in_thousands_of_runs() -> None:
    rng, draw = np.random.default_rng(5), heavy(0.05)
    level = level_of_each(3)
    assert not any(slowdown(lambda: draw(rng), 0.05, level).slower for _ in range(3000))


@pytest.mark.parametrize("sd", [0.01, 0.03])
def test_20_percent_are_caught(sd: float) -> None:
    rng = np.random.default_rng(7)
    found = [slowdown(lambda: math.log(1.2) + normal(sd)(rng), 0.05, level_of_each(3)) for _ in range(500)]
    assert all(one.slower for one in found)
    assert all(1.05 < one.low <= one.ratio <= one.high for one in found)


def test_where_launches_differ_much_more_of_them_decide() -> None:
    rng = np.random.default_rng(11)
    found = [slowdown(lambda: math.log(1.2) + normal(0.06)(rng), 0.05, level_of_each(3)) for _ in range(300)]
    assert {one.launches for one in found} == set(LOOKS)
    assert np.mean([one.slower for one in found]) > 0.9


def test_what_is_allowed_ends_at_the_first_look() -> None:
    rng = np.random.default_rng(13)
    found = slowdown(lambda: math.log(1.03) + normal(0.001)(rng), 0.05, LEVEL)
    assert (found.launches, found.slower) == (LOOKS[0], False)
    assert found.ratio == pytest.approx(1.03, abs=0.002)


def test_the_interval_is_student_s() -> None:
    from scipy.stats import t

    values = [0.1, 0.3, 0.2, 0.25, 0.05]
    expected = t.interval(
        0.98, len(values) - 1, np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    )
    assert mean_interval(values, 0.01) == pytest.approx(expected)


def test_the_level_is_shared_out() -> None:
    assert level_of_each(4) * 4 == pytest.approx(LEVEL)
    assert level_of_each(0) == LEVEL
