"""Measuring everything that can serve, whatever a plan would use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from planner.domain.problem import Rejection
from planner.domain.profile import Configuration, Profile
from planner.errors import BackendError
from planner.profiling.bench import Bench
from planner.profiling.guided import PROBE_ITERATIONS, Group, Samples, within
from planner.profiling.recorded import Everywhere
from planner.units import format_ms


@dataclass(frozen=True, slots=True)
class Campaign:
    """Full profiles, the probes they were chosen from, what was left out or failed, and how many
    configurations were measured just now."""

    profiles: tuple[Profile, ...]
    probes: tuple[Profile, ...]
    rejections: tuple[Rejection, ...]
    measured: int
    reused: int
    notes: tuple[str, ...] = ()
    """What the reader should know of how it went."""


def measure_all(bench: Bench | Everywhere, groups: Sequence[Group], budget_ns: int) -> Campaign:
    """A full profile of every configuration whose median is within the budget by its probe."""
    profiles: list[Profile] = []
    rejections: list[Rejection] = []
    for group in groups:
        try:
            count = measure_able(bench, group, budget_ns)
        except BackendError as error:
            rejections.append(Rejection("profile", group.name, str(error)))
            continue
        profiles += [bench.profiles[c] for c in group.prefix(count)]
        rejections += [
            _over(c, bench.profiles[c].samples_ns[:PROBE_ITERATIONS], budget_ns)
            for c in group.configurations[count:]
        ]
    return Campaign(
        tuple(profiles),
        tuple(bench.profiles.values()),
        tuple(rejections),
        len(bench.measured),
        bench.reused(),
    )


def measure_able(bench: Bench | Everywhere, group: Group, budget_ns: int) -> int:
    """Probe every batch size, then measure in full those that can serve; how many these are.

    Raises BackendError where the group cannot run.
    """
    count = within(group, bench.probe(group), budget_ns)
    if count:
        bench.full(group, count, again=False)
    return count


def _over(configuration: Configuration, probed: Samples, budget_ns: int) -> Rejection:
    return Rejection(
        "profile",
        configuration.describe(),
        f"over the SLO: the median is {format_ms(round(median(probed)))}, the budget {format_ms(budget_ns)} "
        f"(from {len(probed)} samples)",
    )
