"""Percentiles in place of samples: the step distribution is above every distribution that has them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.domain.profile import Configuration, Profile, imported_environment
from planner.domain.published import STEPS, Published
from planner.errors import SupportError

LEVELS = (50.0, 90.0, 95.0, 99.0)
CONFIGURATION = Configuration("", "fp16", "", "T4", "tensorrt", 1, 1, 1, (), "bert")


def percentile(ordered: list[int], level: float) -> int:
    """Nearest rank."""
    return ordered[math.ceil(level / 100 * len(ordered)) - 1]


@st.composite
def distributions(draw: st.DrawFn) -> tuple[list[int], tuple[float, ...]]:
    """A hundred to four hundred equally likely times, and which percentiles of them are told."""
    samples = draw(st.lists(st.integers(1, 10**7), min_size=100, max_size=400))
    levels = draw(st.lists(st.sampled_from(LEVELS), min_size=1, unique=True))
    return sorted(samples), tuple(sorted(levels))


@given(distributions(), st.booleans())
def test_no_quantile_is_understated_up_to_the_last_percentile(
    distribution: tuple[list[int], tuple[float, ...]], with_mean: bool
) -> None:
    samples, levels = distribution
    known = tuple((level, percentile(samples, level)) for level in levels)
    mean = sum(samples) / len(samples) if with_mean else None
    steps = Published(known, mean).steps_ns()
    assert list(steps) == sorted(steps)
    assert len(steps) == STEPS
    for i, step in enumerate(steps):
        u = (i + 1) / STEPS
        if u <= levels[-1] / 100:
            # Half a nanosecond is what rounding takes.
            assert step + 0.5 >= percentile(samples, u * 100 - 1e-9)
    if mean is not None:
        assert sum(steps) / STEPS >= mean - 1
    for level, ns in known:
        assert steps[math.ceil(level / 100 * STEPS) - 1] == ns


def test_without_a_mean_each_time_takes_the_next_percentile() -> None:
    steps = Published(((50.0, 10), (90.0, 20), (99.0, 50))).steps_ns()
    assert [steps.count(ns) for ns in (10, 20, 50, 80)] == [100, 80, 18, 2], "the tail: 50 + (50 - 20)"


def test_a_mean_tells_how_many_times_can_be_near_p95() -> None:
    slow = Published(((95.0, 80_000), (99.0, 90_000))).steps_ns()
    known = Published(((95.0, 80_000), (99.0, 90_000)), 50_000).steps_ns()
    assert all(a <= b for a, b in zip(known, slow, strict=True))
    # Q(u) <= (mean - 0.04 * 80 us - 0.01 * 90 us) / (0.95 - u), Markov's inequality, by hand.
    assert known[0] == round((50_000 - 3_200 - 900) / (0.95 - 1 / STEPS))
    assert known[99] == 80_000, "the bound is above p95 by then"


def test_a_mean_beyond_the_percentiles_raises_the_assumed_tail() -> None:
    published = Published(((95.0, 100), (99.0, 110)), 500)
    assert sum(published.steps_ns()) / STEPS == pytest.approx(500, rel=1e-3)


@pytest.mark.parametrize(
    ("percentiles", "mean", "wrong"),
    [
        ((), 5.0, "at least one percentile"),
        (((95.0, 10), (90.0, 20)), None, "ascend"),
        (((95.0, 10), (99.0, 9)), None, "p99 is below p95"),
        (((100.0, 10),), None, "between 0 and 100"),
        (((50.0, 100), (99.0, 200)), 40.0, "imply at least 51"),
    ],
)
def test_what_cannot_be_is_refused(
    percentiles: tuple[tuple[float, int], ...], mean: float | None, wrong: str
) -> None:
    with pytest.raises(ValueError, match=wrong):
        Published(percentiles, mean)


def test_a_profile_tells_the_percentiles_that_it_was_given_and_no_others() -> None:
    published = Published(((95.0, 30), (99.0, 40)), 25.0)
    profile = Profile(
        CONFIGURATION, imported_environment("a paper", ()), (), 0, "", source="a paper", published=published
    )
    assert profile.percentile_ns(99) == 40
    assert profile.mean_ns() == 25
    assert profile.samples is None
    assert profile.service_ns == published.steps_ns()
    with pytest.raises(SupportError, match=r"p90 is not known, a paper gives p95, p99"):
        profile.percentile_ns(90)
    with pytest.raises(SupportError, match="no mean"):
        replace(profile, published=replace(published, mean_ns=None)).mean_ns()


def test_a_profile_holds_samples_or_percentiles_with_a_source() -> None:
    environment, published = imported_environment("a paper", ()), Published(((99.0, 40),))
    with pytest.raises(ValueError, match="one of the two"):
        Profile(CONFIGURATION, environment, (1, 2), 0, "", source="a paper", published=published)
    with pytest.raises(ValueError, match="one of the two"):
        Profile(CONFIGURATION, environment, (), 0, "")
    with pytest.raises(ValueError, match="source"):
        Profile(CONFIGURATION, environment, (), 0, "", published=published)


def test_each_source_is_an_environment_of_its_own() -> None:
    ids = {imported_environment(*what).id for what in (("a", ()), ("b", ()), ("a", (("tensorrt", "10"),)))}
    assert len(ids) == 3
