"""Whether latencies have changed between two sets of profiles, or merely look so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from planner.domain.order_statistics import percentile_interval
from planner.domain.profile import Configuration, Environment, Profile
from planner.errors import StoreError, SupportError

CONFIDENCE = 0.95
"""Of each verdict. Among twenty comparisons of what has not changed, one is expected to say that it has."""
COMPARED = (50.0, 99.0)

Verdict = Literal["faster", "slower", "no significant change", "not known"]


@dataclass(frozen=True, slots=True)
class Change:
    """Of one percentile, from the first set to the second: ``ratio`` below 1 is faster.

    ``low``..``high`` holds the ratio at ``CONFIDENCE``; None where samples are missing or too few. ``ratio``
    is None where a percentile is not known at all.
    """

    percentile: float
    ratio: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> Verdict:
        if self.low is None or self.high is None:
            return "not known"
        if self.high < 1:
            return "faster"
        return "slower" if self.low > 1 else "no significant change"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One configuration in both sets; ``differences`` of their environments, empty where it is the same."""

    configuration: Configuration
    before: Profile
    after: Profile
    changes: tuple[Change, ...]
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """``only_before`` and ``only_after``: how many profiles have no counterpart."""

    comparisons: tuple[Comparison, ...]
    only_before: int
    only_after: int


def compare(
    before: Iterable[Profile], after: Iterable[Profile], across_environments: bool = False
) -> Compared:
    """Compare the profiles of equal configuration and, unless told otherwise, equal environment.

    Raises StoreError where nothing matches, and where configurations match in other environments only:
    these may be compared, but not by oversight.
    """
    pairs, left, right = _pairs(list(before), list(after), across_environments)
    if not pairs:
        elsewhere = len(_pairs(left, right, True)[0])
        if elsewhere:
            raise StoreError(
                f"{elsewhere} configurations are in both, but were taken in different environments; "
                "compare them all the same with --across-environments"
            )
        raise StoreError("no configuration is in both; planner profiles list shows what there is")
    comparisons = tuple(
        Comparison(
            configuration=one.configuration,
            before=one,
            after=other,
            changes=tuple(change(one, other, percentile) for percentile in COMPARED),
            differences=differences(one.environment, other.environment),
        )
        for one, other in pairs
    )
    return Compared(comparisons, len(left), len(right))


def change(before: Profile, after: Profile, percentile: float) -> Change:
    """The ratio of a percentile, and an interval that assumes nothing about the distributions.

    By order statistics, each side's percentile lies in an interval with probability 1 - (1 - C) / 2; both do
    with at least C (Bonferroni), and then the ratio lies between the quotients of their ends. That takes
    samples that do not depend on one another; slow drift makes it too narrow.
    """
    ratio = _ratio(before, after, percentile)
    if before.published or after.published:
        return Change(percentile, ratio, None, None)
    each = 1 - (1 - CONFIDENCE) / 2
    one = percentile_interval(before.samples_ns, percentile, each)
    other = percentile_interval(after.samples_ns, percentile, each)
    if one is None or other is None:
        return Change(percentile, ratio, None, None)
    return Change(percentile, ratio, other[0] / one[1], other[1] / one[0])


def differences(one: Environment, other: Environment) -> tuple[str, ...]:
    """What differs between two environments, such as ``onnxruntime 1.22.0, then 1.23.1``."""
    found = [
        f"{what} {before or 'unknown'}, then {after or 'unknown'}"
        for what, before, after in (
            ("CPU", one.cpu_model, other.cpu_model),
            ("architecture", one.cpu_architecture, other.cpu_architecture),
            ("cores", one.cores, other.cores),
            ("memory bytes", one.memory_bytes, other.memory_bytes),
            ("system", one.system, other.system),
        )
        if before != after
    ]
    before, after = dict(one.libraries), dict(other.libraries)
    found += [
        f"{name} {before.get(name, 'absent')}, then {after.get(name, 'absent')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if not found and one != other:
        found.append("instruction sets" if set(one.cpu_flags) != set(other.cpu_flags) else "order of listing")
    return tuple(found)


def _ratio(before: Profile, after: Profile, percentile: float) -> float | None:
    try:
        return after.percentile_ns(percentile) / before.percentile_ns(percentile)
    except SupportError:
        return None


def _pairs(
    before: list[Profile], after: list[Profile], across_environments: bool
) -> tuple[list[tuple[Profile, Profile]], list[Profile], list[Profile]]:
    """Matching profiles, and those of either side that have no match."""
    pairs = []
    left, right = list(before), list(after)
    for same_environment in (True, False) if across_environments else (True,):
        for one in list(left):
            other = next((p for p in right if _match(one, p, same_environment)), None)
            if other is not None:
                pairs.append((one, other))
                left.remove(one)
                right.remove(other)
    return pairs, left, right


def _match(one: Profile, other: Profile, same_environment: bool) -> bool:
    return one.configuration == other.configuration and (
        not same_environment or one.environment == other.environment
    )
