"""Profiles taken on other machines, in place of measuring: nothing can be added to them."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from math import inf

from planner.domain.profile import Configuration, Profile, samples_for
from planner.errors import BackendError
from planner.profiling.bench import Bench
from planner.profiling.guided import PROBE_ITERATIONS, SAMPLE_SHARE, Group, Samples


class Recorded:
    """``probe`` and ``full`` of ``guided.Measures``, of full profiles."""

    def __init__(self, profiles: Iterable[Profile], percentile: float) -> None:
        self.profiles = {profile.configuration: profile for profile in profiles}
        self._needed = samples_for(percentile)

    def probe(self, group: Group, budget_ns: float = inf) -> Mapping[Configuration, Samples]:
        return {c: self._first_of(c, PROBE_ITERATIONS) for c in group.configurations}

    def sample(self, group: Group, count: int) -> Mapping[Configuration, Samples]:
        few = max(self._needed // SAMPLE_SHARE, PROBE_ITERATIONS)
        return {c: self._first_of(c, few) for c in group.prefix(count)}

    def full(self, group: Group, count: int, again: bool) -> Mapping[Configuration, Samples]:
        """The samples there are; fresh ones cannot be had where the device is not."""
        profiles = {c: self._of(c) for c in group.prefix(count)}
        return {c: profile.in_service(profile.judged_ns) for c, profile in profiles.items()}

    def _first_of(self, configuration: Configuration, count: int) -> Samples:
        profile = self._of(configuration)
        return profile.in_service(profile.samples_ns[:count])

    def _of(self, configuration: Configuration) -> Profile:
        profile = self.profiles[configuration]
        if len(profile.samples_ns) < self._needed:
            raise BackendError(
                f"{configuration.describe()} on {configuration.device}: {len(profile.samples_ns)} samples, "
                f"{self._needed} are needed; measure it again there"
            )
        return profile


class Everywhere:
    """The bench of this machine and the profiles of others, as one."""

    def __init__(self, here: Bench, elsewhere: Recorded) -> None:
        self.here, self.elsewhere = here, elsewhere
        self.profiles: Mapping[Configuration, Profile] = ChainMap(here.profiles, elsewhere.profiles)
        """Also those that are yet to be taken here."""

    @property
    def measured(self) -> set[Configuration]:
        return self.here.measured

    def reused(self) -> int:
        return self.here.reused() + len(self.elsewhere.profiles)

    def probe(self, group: Group, budget_ns: float = inf) -> Mapping[Configuration, Samples]:
        return self._of(group).probe(group, budget_ns)

    def sample(self, group: Group, count: int) -> Mapping[Configuration, Samples]:
        return self._of(group).sample(group, count)

    def full(self, group: Group, count: int, again: bool) -> Mapping[Configuration, Samples]:
        return self._of(group).full(group, count, again)

    def _of(self, group: Group) -> Bench | Recorded:
        return self.elsewhere if group.configurations[0] in self.elsewhere.profiles else self.here
