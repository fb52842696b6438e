"""Which configurations are not worth measuring in full, judged from 30 samples each.

Pure functions of the samples: a second run with stored probes comes to the same verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from planner.domain.profile import Configuration, Profile
from planner.domain.variant import BASELINE_RECIPE
from planner.units import format_ms

PROBE_SAMPLES = 30
CONFIDENCE = 0.999
CLEARLY = 1.1
"""A rival must be this much faster, and no more than this much larger, to spare a variant measurement."""


@dataclass(frozen=True, slots=True)
class Interval:
    low_ns: int
    high_ns: int


def median_interval(samples_ns: tuple[int, ...]) -> Interval:
    """Distribution-free interval of the median at 99.9 % confidence, by order statistics.

    The k-th smallest of n lies above the median with probability P(Bin(n, 1/2) < k). Two-sided; with
    fewer than 11 samples the whole range is returned. Source: David & Nagaraja, Order Statistics, 7.1.
    """
    ordered = sorted(samples_ns)
    n = len(ordered)
    tail, skipped = 0.0, 0
    while skipped < n // 2:
        tail += math.comb(n, skipped) / 2**n
        if tail > (1 - CONFIDENCE) / 2:
            break
        skipped += 1
    skipped = max(skipped - 1, 0)
    return Interval(ordered[skipped], ordered[n - 1 - skipped])


def screen(probes: Mapping[Configuration, Profile], budget_ns: int) -> dict[Configuration, str]:
    """The configurations that clearly cannot serve or are dominated, each with its reason.

    Looks at the first ``PROBE_SAMPLES`` samples of each only, however many a stored profile holds by now.

    Over budget: even the median is above it. Dominated batch: a smaller batch has at least its
    throughput, so waiting for company never pays. Dominated variant: another one is clearly faster at
    every batch size in about the same memory. fp32 at batch 1 is spared the last two: it is the baseline.
    """
    medians = {c: median_interval(profile.samples_ns[:PROBE_SAMPLES]) for c, profile in probes.items()}
    reasons: dict[Configuration, str] = {}
    for configuration, median in medians.items():
        if median.low_ns > budget_ns:
            reasons[configuration] = (
                f"over the SLO: the median is at least {format_ms(median.low_ns)}, "
                f"the budget {format_ms(budget_ns)} (from {PROBE_SAMPLES} samples)"
            )
    _drop_dominated_batches(medians, reasons)
    _drop_dominated_variants(probes, medians, reasons)
    return reasons


def _drop_dominated_batches(
    medians: Mapping[Configuration, Interval], reasons: dict[Configuration, str]
) -> None:
    for configuration in sorted(medians, key=lambda c: c.batch_size):
        if configuration in reasons:
            continue
        best_rps = configuration.batch_size / medians[configuration].low_ns
        for smaller in medians:
            if (
                _family(smaller) == _family(configuration)
                and smaller.batch_size < configuration.batch_size
                and smaller not in reasons
                and smaller.batch_size / medians[smaller].high_ns >= best_rps
            ):
                reasons[configuration] = (
                    f"dominated: batch {configuration.batch_size} has no more throughput than "
                    f"batch {smaller.batch_size}"
                )
                break


def _drop_dominated_variants(
    probes: Mapping[Configuration, Profile],
    medians: Mapping[Configuration, Interval],
    reasons: dict[Configuration, str],
) -> None:
    families: dict[tuple[str, str, str, int], dict[int, Configuration]] = {}
    for configuration in probes:
        families.setdefault(_family(configuration), {})[configuration.batch_size] = configuration
    for family, members in families.items():
        rival = _clearly_faster(family, families, probes, medians, reasons)
        if rival is None:
            continue
        for batch_size, configuration in members.items():
            baseline = configuration.variant == BASELINE_RECIPE and batch_size == 1
            if configuration not in reasons and not baseline:
                reasons[configuration] = f"dominated: {rival} is clearly faster at every batch size"


def _clearly_faster(
    family: tuple[str, str, str, int],
    families: Mapping[tuple[str, str, str, int], Mapping[int, Configuration]],
    probes: Mapping[Configuration, Profile],
    medians: Mapping[Configuration, Interval],
    reasons: Mapping[Configuration, str],
) -> str | None:
    members = families[family]
    for rival, others in sorted(families.items()):
        comparable = rival != family and rival[1:] == family[1:] and set(others) == set(members)
        if not comparable or all(c in reasons for c in others.values()):
            continue
        if all(
            medians[others[b]].high_ns * CLEARLY < medians[members[b]].low_ns
            and probes[others[b]].memory_bytes <= probes[members[b]].memory_bytes * CLEARLY
            for b in members
        ):
            return rival[0]
    return None


def _family(configuration: Configuration) -> tuple[str, str, str, int]:
    """Configurations that differ in batch size only; the variant comes first."""
    return (configuration.variant, configuration.device, configuration.backend, configuration.threads)
