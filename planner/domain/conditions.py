"""What a machine told of itself while latencies were taken, so that one can see how far to trust them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Range = tuple[float, float]
"""Least and most."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """None throughout where it could not be read; that is never 0.

    GPU figures are of the GPU that it ran on, read at the end of each turn, still under load.
    """

    drift: float | None = None
    """How far the last turn's median lies from the first's, as a share of it; 0 where that is no more than
    noise, None where it was not judged."""
    throttled: tuple[str, ...] | None = None
    """What held clocks down in turns that are among the samples; empty: nothing did."""
    cpu_joules: float | None = None
    """Of one inference (a whole batch), all CPU packages of the machine."""
    gpu_joules: float | None = None
    """Of one inference (a whole batch)."""
    gpu_compute_ns: float | None = None
    """Of one inference (a whole batch): its kernels alone, by the device's clock. The samples hold the
    transfers too."""
    gpu_clock_mhz: Range | None = None
    """Of its multiprocessors."""
    gpu_temperature_c: Range | None = None
    gpu_power_w: Range | None = None

    def joined(self, other: Conditions, share: float) -> Conditions:
        """Of samples of which the ``share`` was taken under ``other``: the worst of both, joules averaged."""
        return Conditions(
            drift=max(_known(self.drift, other.drift), key=abs, default=None),
            throttled=_united(self.throttled, other.throttled),
            cpu_joules=_average(self.cpu_joules, other.cpu_joules, share),
            gpu_joules=_average(self.gpu_joules, other.gpu_joules, share),
            gpu_compute_ns=_average(self.gpu_compute_ns, other.gpu_compute_ns, share),
            gpu_clock_mhz=_widest(self.gpu_clock_mhz, other.gpu_clock_mhz),
            gpu_temperature_c=_widest(self.gpu_temperature_c, other.gpu_temperature_c),
            gpu_power_w=_widest(self.gpu_power_w, other.gpu_power_w),
        )


NOT_TOLD = Conditions()


def over(all_of: Iterable[tuple[Conditions, int]]) -> Conditions:
    """Of turns, each with how many samples it holds, in the order taken."""
    found, count = NOT_TOLD, 0
    for conditions, samples in all_of:
        count += samples
        found = found.joined(conditions, samples / count)
    return found


def _known(*values: float | None) -> list[float]:
    return [value for value in values if value is not None]


def _united(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(dict.fromkeys((*one, *other)))


def _average(one: float | None, other: float | None, share: float) -> float | None:
    """What is not known of some samples is taken to be as it is of the others."""
    if one is None or other is None:
        return other if one is None else one
    return (1 - share) * one + share * other


def _widest(one: Range | None, other: Range | None) -> Range | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one[0], other[0]), max(one[1], other[1])
