"""Drift from the first turn to the last: told where there is some, and neither for noise nor for a trifle."""

from __future__ import annotations

import numpy as np
import pytest

from planner.profiling.drift import BLOCKS, drift

MS = 1_000_000


def turn(median_ms: float, sigma: float, seed: int, count: int = 115) -> list[int]:
    drawn = np.random.default_rng(seed).lognormal(0.0, sigma, count)
    return [round(x * median_ms * MS) for x in drawn]


def wavy(seed: int, count: int = 115) -> list[int]:
    """Latencies that resemble their neighbours (a first-order autoregression, 0.8)."""
    rng = np.random.default_rng(seed)
    level, found = 0.0, []
    for step in rng.normal(0, 0.1, count):
        level = 0.8 * level + step
        found.append(round(np.exp(level) * 10 * MS))
    return found


def test_a_slower_last_turn_is_told_by_its_share() -> None:
    assert drift(turn(10, 0.1, 1), turn(11, 0.1, 2)) == pytest.approx(0.1, abs=0.04)
    assert drift(turn(11, 0.1, 1), turn(10, 0.1, 2)) == pytest.approx(-0.09, abs=0.04)


def test_a_certain_trifle_is_no_drift() -> None:
    assert drift(turn(10, 0.001, 1), turn(10.4, 0.001, 2)) == 0.0


def test_noise_is_no_drift() -> None:
    """Even of latencies that resemble their neighbours, and whose medians often differ by more than 5 %."""
    pairs = [(wavy(seed), wavy(1000 + seed)) for seed in range(300)]
    differ = [abs(np.median(b) / np.median(a) - 1) > 0.05 for a, b in pairs]
    told = [bool(drift(a, b)) for a, b in pairs]
    assert sum(differ) > 60
    assert sum(told) < 30


def test_few_samples_tell_nothing() -> None:
    assert drift(turn(10, 0.1, 1, BLOCKS - 1), turn(20, 0.1, 2)) is None


def test_turns_of_few_values_are_told_apart() -> None:
    """Clocks that tick coarsely: nothing but ties within a turn, all of them apart between the two."""
    assert drift([10 * MS] * 40, [10 * MS] * 40) == 0.0
    assert drift([10 * MS] * 40, [12 * MS] * 40) == pytest.approx(0.2)
