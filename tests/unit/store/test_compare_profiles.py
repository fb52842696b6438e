"""Faster, slower or neither: right where the truth is known, silent where nothing can be known."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from planner.domain.profile import Configuration, Environment, Profile, imported_environment
from planner.domain.published import Published
from planner.errors import StoreError
from planner.store import Change, compare

ENVIRONMENT = Environment("CPU", "genoa", ("avx2",), 2, 8 << 30, "Linux", (("onnxruntime", "1"),))
CONFIGURATION = Configuration("m" * 64, "int8", "v" * 64, "genoa", "onnxruntime", 4, 1, 2, ())


def taken(scale: float, seed: int, count: int = 600, environment: Environment = ENVIRONMENT) -> Profile:
    """Skewed latencies around ``scale`` ms."""
    rng = random.Random(seed)
    samples = tuple(round(scale * 1e6 * (0.9 + rng.expovariate(10))) for _ in range(count))
    return Profile(CONFIGURATION, environment, samples, 1, "")


def verdicts(before: Profile, after: Profile) -> list[str]:
    (comparison,) = compare([before], [after]).comparisons
    return [change.verdict for change in comparison.changes]


def test_a_clear_change_is_told_in_both_directions() -> None:
    assert verdicts(taken(1, 1), taken(0.7, 2)) == ["faster", "faster"]
    assert verdicts(taken(0.7, 1), taken(1, 2)) == ["slower", "slower"]


def test_what_did_not_change_seldom_seems_to() -> None:
    told = [verdict for seed in range(60) for verdict in verdicts(taken(1, seed), taken(1, seed + 1000))]
    assert len(told) - told.count("no significant change") <= 0.05 * len(told)


@pytest.mark.parametrize("truth", [0.98, 1.02, 1.1])
def test_the_interval_holds_the_true_ratio(truth: float) -> None:
    held = 0
    for seed in range(40):
        (comparison,) = compare([taken(1, seed)], [taken(truth, seed + 500)]).comparisons
        for change in comparison.changes:
            assert change.low is not None and change.high is not None and change.ratio is not None
            assert change.low <= change.ratio <= change.high
            held += change.low <= truth <= change.high
    assert held >= 0.95 * 80


def test_a_percentile_takes_its_samples() -> None:
    (comparison,) = compare([taken(1, 1, count=200)], [taken(0.5, 2, count=200)]).comparisons
    median, p99 = comparison.changes
    assert median.verdict == "faster"
    assert p99 == Change(99.0, None, None, None)
    assert p99.verdict == "not known"


def test_of_published_percentiles_no_interval_is_known() -> None:
    environment = imported_environment("a paper", ())
    before = Profile(
        CONFIGURATION, environment, (), 0, "", source="a paper", published=Published(((99.0, 40),))
    )
    after = replace(before, published=Published(((99.0, 20),)))
    (comparison,) = compare([before], [after]).comparisons
    median, p99 = comparison.changes
    assert (median.ratio, median.verdict) == (None, "not known")
    assert (p99.ratio, p99.verdict) == (0.5, "not known")


def test_environments_are_compared_knowingly_only() -> None:
    other = replace(ENVIRONMENT, libraries=(("onnxruntime", "2"),), cores=4)
    before, after = taken(1, 1), taken(0.7, 2, environment=other)
    with pytest.raises(StoreError, match=r"1 configurations are in both.*--across-environments"):
        compare([before], [after])
    (comparison,) = compare([before], [after], across_environments=True).comparisons
    assert comparison.differences == ("cores 2, then 4", "onnxruntime 1, then 2")
    assert comparison.changes[0].verdict == "faster"


def test_the_same_environment_goes_first_and_the_rest_is_counted() -> None:
    other = replace(ENVIRONMENT, cores=4)
    alone = replace(taken(1, 5), configuration=replace(CONFIGURATION, batch_size=8))
    compared = compare(
        [taken(1, 1), alone], [taken(1, 2, environment=other), taken(1, 3)], across_environments=True
    )
    (comparison,) = compared.comparisons
    assert comparison.after == taken(1, 3)
    assert comparison.differences == ()
    assert (compared.only_before, compared.only_after) == (1, 1)


def test_nothing_in_common_is_an_error() -> None:
    other = replace(taken(1, 2), configuration=replace(CONFIGURATION, batch_size=8))
    with pytest.raises(StoreError, match="no configuration is in both"):
        compare([taken(1, 1)], [other], across_environments=True)
