"""Screening: what 30 samples are enough to rule out, and what they are not."""

from __future__ import annotations

import math

import pytest

from planner.domain.profile import Configuration, Environment, Profile
from planner.profiling.screening import PROBE_SAMPLES, median_interval, screen
from planner.units import NS_PER_MS

ENVIRONMENT = Environment("CPU", "genoa", (), 2, 8 << 30, "Linux", ())


def probe(variant: str, batch: int, ms: float, memory: int = 100, spread: float = 0.01) -> Profile:
    samples = tuple(
        round(ms * NS_PER_MS * (1 + spread * (i / PROBE_SAMPLES - 0.5))) for i in range(PROBE_SAMPLES)
    )
    configuration = Configuration("m", variant, variant, "d", "b", batch, 1, 2, ())
    return Profile(configuration, ENVIRONMENT, samples, memory, "")


def verdicts(*probes: Profile, budget_ms: float = 1000) -> dict[str, str]:
    found = screen({p.configuration: p for p in probes}, round(budget_ms * NS_PER_MS))
    return {f"{c.variant}/{c.batch_size}": reason.split(":")[0] for c, reason in found.items()}


def test_the_median_interval_covers_at_its_confidence() -> None:
    n = PROBE_SAMPLES
    interval = median_interval(tuple(range(n)))
    below = sum(math.comb(n, k) for k in range(interval.low_ns + 1)) / 2**n
    assert below <= 0.0005
    assert below + math.comb(n, interval.low_ns + 1) / 2**n > 0.0005, "no wider than it must be"
    assert interval.high_ns == n - 1 - interval.low_ns


def test_a_median_over_the_budget_is_out_and_a_tail_over_it_is_not() -> None:
    assert verdicts(probe("fp32", 1, 30), budget_ms=20) == {"fp32/1": "over the SLO"}
    assert verdicts(probe("fp32", 1, 19.9, spread=0.5), budget_ms=20) == {}


def test_a_batch_without_throughput_is_dominated() -> None:
    slow = [probe("int8", 1, 10), probe("int8", 2, 21), probe("int8", 4, 36)]
    assert verdicts(*slow) == {"int8/2": "dominated"}


def test_batches_are_compared_within_a_variant_only() -> None:
    assert verdicts(probe("fp32", 1, 10), probe("int8", 2, 21)) == {}


def test_a_variant_that_is_slower_everywhere_is_dominated_but_the_baseline_is_kept() -> None:
    probes = [probe("fp32", 1, 10), probe("fp32", 4, 30), probe("int8", 1, 5), probe("int8", 4, 15)]
    assert verdicts(*probes) == {"fp32/4": "dominated"}


@pytest.mark.parametrize("rival", [probe("int8", 4, 16), probe("int8", 4, 7, memory=200)])
def test_a_rival_must_win_at_every_batch_and_take_no_more_memory(rival: Profile) -> None:
    assert verdicts(probe("fp16", 1, 10), probe("fp16", 4, 15), probe("int8", 1, 5), rival) == {}


def test_only_the_probe_is_judged_however_long_the_profile() -> None:
    long = probe("fp32", 1, 19)
    extended = Profile(
        long.configuration, ENVIRONMENT, long.samples_ns + (10**12,) * 1000, long.memory_bytes, ""
    )
    assert verdicts(extended, budget_ms=20) == verdicts(long, budget_ms=20) == {}
