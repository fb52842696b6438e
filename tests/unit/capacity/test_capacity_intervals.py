"""The capacity's interval: it covers the truth about as often as it says, and narrows with samples."""

from __future__ import annotations

import numpy as np

from planner.capacity import capacity, capacity_interval

MS = 1_000_000


def draw(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    return tuple(round(ns) for ns in MS * np.exp(0.15 * rng.standard_normal(count)))


def test_the_lower_end_is_below_the_true_capacity_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    truth = capacity({1: draw(rng, 200_000)}, 1, 95, 4 * MS).rate_rps
    intervals = [capacity_interval({1: draw(rng, 300)}, 1, 95, 4 * MS, seed=k) for k in range(30)]
    held = sum(i.low_rps <= truth for i in intervals)
    assert held >= 25  # of 30 at 95 %: 25 or more with a probability of 99.7 %
    above = sum(i.rate_rps > truth for i in intervals)
    assert above > 8, "the estimate itself is too high about half of the time"


def test_more_samples_narrow_it() -> None:
    rng = np.random.default_rng(2)
    few, many = (capacity_interval({1: draw(rng, n)}, 1, 95, 4 * MS) for n in (100, 6_400))
    assert many.high_rps - many.low_rps < (few.high_rps - few.low_rps) / 3


def test_what_is_certain_has_no_width() -> None:
    found = capacity_interval({1: (MS,), 2: (MS,)}, 2, 99, 5 * MS)
    assert found.low_rps == found.rate_rps == found.high_rps > 0


def test_neighbours_that_move_together_widen_it() -> None:
    rng = np.random.default_rng(4)
    slow = np.repeat(rng.standard_normal(40), 20)
    together = tuple(round(ns) for ns in MS * np.exp(0.15 * slow))
    apart = tuple(int(v) for v in rng.permutation(together))
    widths = [(i := capacity_interval({1: s}, 1, 95, 4 * MS)).high_rps - i.low_rps for s in (together, apart)]
    assert widths[0] > 1.3 * widths[1]
