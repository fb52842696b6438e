"""Intervals of percentiles against SciPy's binomial, and against draws whose percentile is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from planner.domain.order_statistics import percentile_interval


@pytest.mark.parametrize("percentile", [50, 90, 95, 99])
@pytest.mark.parametrize("n", [5, 30, 459, 1000, 5000])
def test_ends_are_the_tightest_that_the_binomial_allows(n: int, percentile: float) -> None:
    p, tail = percentile / 100, 0.025
    lows = [k for k in range(1, n + 1) if binom.cdf(k - 1, n, p) <= tail]
    highs = [k for k in range(1, n + 1) if binom.cdf(k - 1, n, p) >= 1 - tail]
    expected = (max(lows), min(highs)) if lows and highs else None
    assert percentile_interval(range(1, n + 1), percentile) == expected


def test_p99_takes_368_samples() -> None:
    assert percentile_interval(range(367), 99) is None
    assert percentile_interval(range(368), 99) is not None


def test_the_interval_holds_the_percentile_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth = -np.log(0.01)
    draws = rng.exponential(size=(2000, 800))
    ends = [percentile_interval([round(v * 1e9) for v in row], 99) for row in draws]
    held = sum(e is not None and e[0] <= truth * 1e9 <= e[1] for e in ends) / len(ends)
    assert held >= 0.945
