"""The machine at hand, as far as it can change a latency."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from planner.domain.profile import Environment

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
