"""The turns of one configuration: which of them count, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from planner.domain.conditions import Conditions, over
from planner.profiling.drift import drift
from planner.profiling.replicas import Measurement


@dataclass(slots=True)
class Turns:
    """Those that count; where they drift, the oldest are left out. ``feed``: the number of the inputs."""

    feed: int
    needed: int
    """Samples."""
    kept: list[Measurement] = field(default_factory=list)
    left_out: int = 0
    seconds: float = 0.0
    """That all took, also what was left out."""
    memory_bytes: int = 0
    """The peak of the first one."""

    def take(self, turn: Measurement, seconds: float) -> None:
        self.kept.append(turn)
        self.seconds += seconds

    def leave_out_oldest(self) -> None:
        del self.kept[0]
        self.left_out += 1

    @property
    def count(self) -> int:
        """Of samples."""
        return sum(len(turn.samples_ns) for turn in self.kept)

    @property
    def samples_ns(self) -> tuple[int, ...]:
        return tuple(ns for turn in self.kept for ns in turn.samples_ns)

    @property
    def foreign_load(self) -> float | None:
        """The highest of any turn."""
        return max((t.foreign_load for t in self.kept if t.foreign_load is not None), default=None)

    @property
    def drift(self) -> float | None:
        """Of the last turn from the first that counts."""
        return drift(self.kept[0].samples_ns, self.kept[-1].samples_ns) if len(self.kept) > 1 else None

    @property
    def conditions(self) -> Conditions:
        found = over((turn.conditions, len(turn.samples_ns)) for turn in self.kept)
        # Counters advance in steps; one that has not moved in all turns tells nothing.
        return replace(
            found, drift=self.drift, cpu_joules=found.cpu_joules or None, gpu_joules=found.gpu_joules or None
        )
