"""What sensors say before and after a turn: energy, throttling, clocks.

What cannot be read is None, never 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from planner.domain.conditions import Conditions, Range
from planner.profiling.nvml import GpuReading, watching

SYS = Path("/sys")
CPU_THROTTLED = "CPU temperature"
UJ_PER_J, MJ_PER_J = 1_000_000, 1_000


@dataclass(frozen=True, slots=True)
class Package:
    """A CPU package's energy counter, in microjoules; it starts again at 0 beyond ``most_uj``."""

    name: str
    energy_uj: int
    most_uj: int


@dataclass(frozen=True, slots=True)
class Reading:
    """``packages``: of all CPU packages; ``throttles``: how often each core or package was slowed down since
    the machine started."""

    seconds: float
    packages: tuple[Package, ...] | None
    throttles: tuple[tuple[str, int], ...] | None
    gpu: GpuReading | None


Read = Callable[[], Reading]


@contextmanager
def reading(gpu: str = "", sys: Path = SYS) -> Iterator[Read]:
    """``gpu``: the UUID of the one that is measured on; empty where that is none."""
    with watching(gpu) as watched:
        yield lambda: Reading(time.monotonic(), cpu_packages(sys), cpu_throttles(sys), watched())


def cpu_packages(sys: Path = SYS) -> tuple[Package, ...] | None:
    """None unless all packages can be read; that is often left to root.

    Source: https://docs.kernel.org/power/powercap/powercap.html (RAPL, Intel and AMD)
    """
    found = []
    try:
        for zone in sorted((sys / "class" / "powercap").glob("intel-rapl:*")):
            # A part of a package (intel-rapl:0:1) is counted in it; the platform (psys) is more than CPUs.
            name = (zone / "name").read_text().strip()
            if not name.startswith("package") or zone.name.count(":") > 1:
                continue
            energy, most = (int((zone / file).read_text()) for file in ("energy_uj", "max_energy_range_uj"))
            found.append(Package(zone.name, energy, most))
    except (OSError, ValueError):
        return None
    return tuple(found) or None


def cpu_throttles(sys: Path = SYS) -> tuple[tuple[str, int], ...] | None:
    """None where the kernel does not count them (it does on Intel's CPUs).

    Source: https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-devices-system-cpu (thermal_throttle)
    """
    cpus = sys / "devices" / "system" / "cpu"
    try:
        return (
            tuple(
                (f"{file.parent.parent.name}/{file.name}", int(file.read_text()))
                for file in sorted(cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
            )
            or None
        )
    except (OSError, ValueError):
        return None


def conditions(before: Reading, after: Reading, inferences: float) -> Conditions:
    """Of the time between two readings, during which there were so many ``inferences``."""
    cpu_joules, gpu_joules = _cpu_joules(before, after), _gpu_joules(before, after)
    gpu = after.gpu
    return Conditions(
        throttled=_throttled(before, after),
        cpu_joules=None if cpu_joules is None else cpu_joules / inferences,
        gpu_joules=None if gpu_joules is None else gpu_joules / inferences,
        gpu_clock_mhz=_at(gpu.sm_clock_mhz) if gpu else None,
        gpu_temperature_c=_at(gpu.temperature_c) if gpu else None,
        gpu_power_w=_at(gpu.power_w) if gpu else None,
    )


def _at(value: float | None) -> Range | None:
    return None if value is None else (value, value)


def _cpu_joules(before: Reading, after: Reading) -> float | None:
    if before.packages is None or after.packages is None:
        return None
    if [p.name for p in before.packages] != [p.name for p in after.packages]:
        return None
    # A package takes at least minutes to count to its most: it wraps around once or not at all.
    spent = (
        (one.energy_uj - other.energy_uj) % (one.most_uj + 1)
        for one, other in zip(after.packages, before.packages, strict=True)
    )
    return sum(spent) / UJ_PER_J


def _gpu_joules(before: Reading, after: Reading) -> float | None:
    if before.gpu is None or after.gpu is None:
        return None
    if before.gpu.energy_mj is None or after.gpu.energy_mj is None:
        return None
    return (after.gpu.energy_mj - before.gpu.energy_mj) / MJ_PER_J


def _throttled(before: Reading, after: Reading) -> tuple[str, ...] | None:
    reasons: list[str] = []
    if after.throttles is not None:
        counted = dict(before.throttles or ())
        if any(count > counted.get(name, count) for name, count in after.throttles):
            reasons.append(CPU_THROTTLED)
    gpu = None if after.gpu is None else after.gpu.throttled_since(before.gpu)
    if after.throttles is None and gpu is None:
        return None
    return (*reasons, *(gpu or ()))
