"""The machine at hand, as far as it can change a latency."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from planner.domain.profile import Environment

Result = TypeVar("Result")

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Hardware threads that this process may use: its affinity, and the container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def total_memory_bytes() -> int:
    """Physical memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


@dataclass(frozen=True, slots=True)
class MachineTimes:
    """Seconds that all CPUs together have been busy, and busy or idle, since the machine started."""

    busy_s: float
    total_s: float


def machine_times(stat: Path = Path("/proc/stat")) -> MachineTimes | None:
    """Source: proc(5), /proc/stat, first line. None where there is no such file."""
    try:
        fields = [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    idle = fields[3] + fields[4]
    return MachineTimes((sum(fields) - idle) / ticks, sum(fields) / ticks)


def foreign_load(before: MachineTimes | None, after: MachineTimes | None, own_s: float) -> float | None:
    """The share of the machine that others kept busy between two readings; ``own_s`` is our own CPU time."""
    if before is None or after is None or after.total_s <= before.total_s:
        return None
    foreign = after.busy_s - before.busy_s - own_s
    return max(foreign, 0.0) / (after.total_s - before.total_s)


def watched(call: Callable[[], Result]) -> tuple[Result, float | None]:
    """What it returns, and the foreign load meanwhile. Processes that it starts and waits for are our own."""
    before, own_s = machine_times(), _own_s()
    result = call()
    return result, foreign_load(before, machine_times(), _own_s() - own_s)


def _own_s() -> float:
    """CPU time of this process and of its children that have ended, and theirs."""
    return sum(os.times()[:4])


def local_environment(
    cpu_model: str, cpu_architecture: str, cpu_flags: tuple[str, ...], libraries: tuple[tuple[str, str], ...]
) -> Environment:
    """The environment that profiles taken now belong to."""
    return Environment(
        cpu_model=cpu_model,
        cpu_architecture=cpu_architecture,
        cpu_flags=cpu_flags,
        cores=usable_cores(),
        memory_bytes=total_memory_bytes(),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        libraries=libraries,
    )
