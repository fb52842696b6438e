"""Which floors hold, which are open, and how many samples would close them."""

from __future__ import annotations

import numpy as np
import pytest

from planner.domain.quality import AccuracyFloor, Quality
from planner.quality import assess, samples_needed, undecided
from planner.quality.intervals import tango, wilson, z_value

Z2 = z_value(0.95) ** 2


def judged(lost: int, gained: int, samples: int) -> Quality:
    labels = np.zeros(samples, int)
    ours, theirs = labels.copy(), labels.copy()
    ours[:lost], theirs[lost : lost + gained] = 1, 1
    return assess("accuracy", [np.eye(2)[ours]], [np.eye(2)[theirs]], labels)


def max_drop(limit: float, by: str = "interval") -> AccuracyFloor:
    return AccuracyFloor("accuracy", None, limit, by)


def minimum(limit: float, by: str = "interval") -> AccuracyFloor:
    return AccuracyFloor("accuracy", limit, None, by)


@pytest.mark.parametrize(("lost", "gained", "samples"), [(0, 0, 100), (3, 1, 200), (10, 8, 500)])
def test_samples_needed_would_do_and_no_fewer(lost: int, gained: int, samples: int) -> None:
    quality = judged(lost, gained, samples)
    limit = quality.drop + 0.4 * (quality.drop_high - quality.drop)
    needed = samples_needed(quality, max_drop(limit))
    assert needed is not None and needed > samples

    def upper(n: float) -> float:
        return float(tango(lost / samples * n, gained / samples * n, n, 0.95)[1])

    assert upper(needed * 1.2) <= limit < upper(needed * 0.8)
    assert samples_needed(quality, max_drop(quality.drop)) is None


@pytest.mark.parametrize(("wrong", "samples"), [(0, 50), (5, 200), (60, 200)])
def test_samples_needed_for_an_absolute_floor(wrong: int, samples: int) -> None:
    quality = judged(wrong, 0, samples)
    limit = quality.value - 0.4 * (quality.value - quality.low)
    needed = samples_needed(quality, minimum(limit))
    assert needed is not None

    def lower(n: float) -> float:
        return float(wilson((1 - wrong / samples) * n, n, 0.95)[0])

    assert lower(needed * 1.25) >= limit > lower(needed * 0.75)


def test_samples_needed_of_a_bootstrapped_error() -> None:
    """The interval at as many samples of the same distribution ends about at the limit."""
    rng = np.random.default_rng(0)

    def quality_of(n: int) -> Quality:
        labels = rng.normal(size=n)
        theirs = labels + rng.uniform(-1, 1, n)
        ours = theirs + 0.3 * rng.uniform(-1, 1, n)
        return assess("mae", [ours], [theirs], labels)

    quality = quality_of(200)
    limit = quality.drop + 0.3 * (quality.drop_high - quality.drop)
    needed = samples_needed(quality, AccuracyFloor("mae", None, limit))
    assert needed is not None
    larger = quality_of(needed)
    assert larger.drop_high - larger.drop == pytest.approx(limit - quality.drop, rel=0.25)


def test_undecided_only_where_the_estimate_holds_and_the_interval_does_not() -> None:
    quality = judged(0, 0, 100)
    assert quality.drop_high == pytest.approx(0.037, abs=1e-3)
    text = undecided(quality, max_drop(0.005))
    assert text == "too few samples to decide: about 770 like these would do"
    assert undecided(quality, max_drop(0.05)) is None  # holds
    assert undecided(quality, max_drop(0.005, by="point")) is None  # the estimate decides, and holds
    assert undecided(judged(20, 0, 100), max_drop(0.005)) is None  # missed
    assert undecided(quality, max_drop(0)) is None  # no number of samples shows exactly nothing


def error(value: float, low: float, high: float) -> Quality:
    return Quality("mae", value, low, high, 0.1, 0.05, 0.2, 0.95, 400, higher_is_better=False)


def test_where_less_is_better_the_minimum_is_a_most() -> None:
    quality = error(2.0, 1.8, 2.2)
    assert minimum(2.3).shortfall(quality) == pytest.approx(-0.1)
    assert minimum(2.1).shortfall(quality) == pytest.approx(0.1)
    assert minimum(2.1, by="point").shortfall(quality) == pytest.approx(-0.1)
    assert undecided(quality, minimum(2.1)) is not None
    assert undecided(quality, minimum(1.9)) is None
    assert max_drop(0.15).shortfall(quality) == pytest.approx(0.05)


@pytest.mark.parametrize("floor", [minimum(0.99), minimum(0.99, "point"), max_drop(-0.01), minimum(0.2)])
@pytest.mark.parametrize("quality", [judged(3, 1, 100), error(0.5, 0.4, 0.6)])
def test_the_floor_that_holds_just_holds(floor: AccuracyFloor, quality: Quality) -> None:
    limit = floor.that_holds(quality)
    just = AccuracyFloor(
        floor.metric,
        None if floor.minimum is None else limit,
        None if floor.max_drop is None else limit,
        floor.by,
    )
    assert just.shortfall(quality) == pytest.approx(0)
