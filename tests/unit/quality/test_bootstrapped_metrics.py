"""The intervals of metrics that are no proportions: against an explicit loop, and what they promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from planner.domain.quality import Quality
from planner.quality import assess, metric
from planner.quality.intervals import bootstrap, widened, z_value

Z = z_value(0.95)
Make = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray, np.ndarray]]


def regression(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sample in twenty fails by about as much as the error is."""
    labels = rng.normal(size=n)
    theirs = labels + rng.uniform(-1, 1, n)
    failed = rng.random(n) < 0.05
    return np.where(failed, labels + rng.uniform(-1.5, 1.5, n), theirs), theirs, labels


def rare_failures(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One in a hundred: most sets of 40 show none."""
    labels = rng.normal(size=n)
    theirs = labels + rng.uniform(-1, 1, n)
    return theirs + (rng.random(n) < 0.01) * np.sign(theirs - labels), theirs, labels


def binary(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.r_[0, 1, (rng.random(n - 2) < 0.3).astype(int)]
    theirs = labels + 0.5 * rng.normal(size=n)
    return np.where(rng.random(n) < 0.03, rng.normal(size=n), theirs) - 0.5, theirs - 0.5, labels


def transcripts(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    length = rng.integers(2, 12, (n, 1))
    labels = np.where(np.arange(12) < length, rng.integers(1, 9, (n, 12)), -1)
    theirs = np.where((labels > 0) & (rng.random((n, 12)) < 0.05), 9, labels)
    return np.where((labels > 0) & (rng.random((n, 1)) < 0.02), 8, theirs), theirs, labels


def coverage(name: str, make: Make, n: int, trials: int) -> tuple[np.ndarray, list[Quality]]:
    """How often each end of value and drop is on its side of the truth, that of 40,000 samples."""
    rng = np.random.default_rng(7)
    ours, theirs, labels = make(rng, 40_000)
    m = metric(name)
    every = np.ones((1, len(labels)))
    truth, base = (m.combine(m.observe([o], labels, [theirs]), labels, every)[0] for o in (ours, theirs))
    drop = (base - truth) if m.higher_is_better else truth - base
    held, qualities = [], []
    for seed in range(trials):
        o, b, labels = make(rng, n)
        q = assess(m, [o], [b], labels, seed=seed, resamples=300)
        held.append((q.low <= truth, truth <= q.high, q.drop_low <= drop, drop <= q.drop_high))
        qualities.append(q)
    return np.mean(held, axis=0), qualities


@pytest.mark.parametrize(
    ("name", "make", "n"),
    [
        ("mae", regression, 30),
        ("rmse", regression, 100),
        ("mae", rare_failures, 40),
        ("f1", binary, 60),
        ("auc", binary, 60),
        ("wer", transcripts, 80),
    ],
)
def test_each_end_holds_its_promise(name: str, make: Make, n: int) -> None:
    """97.5 % asked of each end; 200 trials leave 1.1 % of noise."""
    held, _ = coverage(name, make, n, 200)
    assert (held >= 0.95).all(), held


def test_without_the_guard_rare_failures_go_unseen() -> None:
    """Why there is one: the plain bootstrap says "no drop" wherever no failure was drawn."""
    rng = np.random.default_rng(0)
    above = []
    for seed in range(100):
        ours, theirs, labels = rare_failures(rng, 40)
        drops = np.abs(ours - labels) - np.abs(theirs - labels)
        high = bootstrap(lambda w, d=drops: (w @ d / 40)[:, None], 40, 0.95, seed, 300)[1, 0]
        above.append(high >= 0.01)
    assert np.mean(above) < 0.5


@pytest.mark.parametrize("name", ["rmse", "f1", "wer"])
def test_the_bootstrap_is_that_of_an_explicit_loop(name: str) -> None:
    make = {"rmse": regression, "f1": binary, "wer": transcripts}[name]
    ours, theirs, labels = make(np.random.default_rng(2), 120)
    quality = assess(name, [ours], [theirs], labels)
    m, sign = metric(name), 1 if quality.higher_is_better else -1
    rng, drawn = np.random.default_rng(5), []
    for _ in range(500):
        i = rng.integers(0, 120, 120)
        mine, rest = (
            float(m.combine(m.observe([side[i]], labels[i], [theirs[i]]), labels[i], np.ones((1, 120)))[0])
            for side in (ours, theirs)
        )
        drawn.append((mine, sign * (rest - mine)))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    for k, (estimate, ends) in enumerate(
        (
            (quality.value, (quality.low, quality.high)),
            (quality.drop, (quality.drop_low, quality.drop_high)),
        )
    ):
        expected = widened(estimate, low[k], high[k], 120, quality.stake, 0.95)
        width = expected[1] - expected[0]
        assert ends == pytest.approx(np.clip(expected, -1, 1 if name == "f1" else 99), abs=0.1 * width)


@pytest.mark.parametrize("name", ["f1", "auc", "cosine", "miou", "cer", "mae", "rmse", "perplexity"])
def test_samples_that_all_agree_still_leave_doubt(name: str) -> None:
    """As many failures as may hide behind n samples, and fewer the more samples there are."""
    widths = []
    for n in (100, 400):
        labels = np.arange(n) % 2
        output, wanted = np.eye(2)[labels] * 0.9 + 0.05, labels
        if name in ("mae", "rmse", "cosine"):
            wanted = np.eye(2)[labels]
        if name in ("cer", "miou"):
            output, wanted = labels[:, None], labels[:, None]
        if name == "perplexity":
            output, wanted = output[:, None], labels[:, None]
        quality = assess(name, [output], [output], wanted)
        assert quality.drop == 0 and quality.drop_low == pytest.approx(-quality.drop_high)
        assert quality.drop_high == pytest.approx(Z**2 * quality.stake / n)
        assert quality.low < quality.value or quality.high > quality.value
        widths.append(quality.drop_high)
    assert widths[0] == pytest.approx(4 * widths[1])


def test_widened_meets_its_equation_and_keeps_the_estimate_inside() -> None:
    low, high = widened(0.9, 0.87, 0.92, 200, 1.5, 0.95)
    growth = np.sqrt(200 / 199) * 1.971957 / Z  # t of 199 degrees of freedom
    for seen, w in ((0.03, 0.9 - low), (0.02, high - 0.9)):
        variance = 200 * (seen * growth) ** 2 / Z**2
        assert 200 * w**2 == pytest.approx(Z**2 * (variance + 1.5 * w), rel=1e-5)
    assert widened(0.5, 0.6, 0.7, 50, 0, 0.95)[0] == 0.5
    assert widened(1.0, 1.0, 1.0, 1, 1, 0.95) == pytest.approx((1 - Z**2, 1 + Z**2))


def test_the_stake_is_what_a_whole_failure_costs() -> None:
    """Against the metric itself with one more sample failed, where failures are all alike."""
    n = 400
    labels = np.arange(n) % 4
    right = np.eye(4)[labels]
    failed = right.copy()
    failed[0] = [-9, 9, 9, 9]
    for name in ("f1", "auc"):
        quality = assess(name, [right], [right], labels, resamples=2)
        cost = n * (1 - assess(name, [failed], [right], labels, resamples=2).value)
        assert 0.6 * quality.stake <= cost <= 1.02 * quality.stake
    maps = labels[:, None] * np.ones((1, 5), int)
    wrong = maps.copy()
    wrong[0] = 1
    quality = assess("miou", [maps], [maps], maps, resamples=2)
    cost = n * (1 - assess("miou", [wrong], [maps], maps, resamples=2).value)
    assert quality.stake <= cost <= 2.02 * quality.stake
