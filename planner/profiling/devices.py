"""What is here: the CPU, the GPUs and their slices, and which backends can run on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from planner.backends import backend_names
from planner.catalog import load, local_cpu, match_cpu
from planner.profiling.check import Check, check
from planner.profiling.environment import total_memory_bytes, usable_cores
from planner.profiling.nvml import Gpu, Gpus, MigDevice, gpus

FEATURES = (
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
    "avx512_vnni",
    "avx512_bf16",
    "avx512f",
    "avx_vnni",
    "avx2",
    "i8mm",
    "bf16",
    "asimd",
)
"""Instruction sets that decide how fast a CPU infers, named as in /proc/cpuinfo, the most telling first."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """``device`` is the catalog's; unless ``exact``, ``note`` says what it stands in for.

    ``cores`` are the hardware threads that this process may use.
    """

    name: str
    architecture: str
    device: str
    exact: bool
    note: str
    cores: int
    memory_bytes: int
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Here:
    """This machine. The Intel GPUs are not listed: ``openvino-gpu`` can run where there is one."""

    cpu: Cpu
    nvidia: Gpus
    backends: tuple[Check, ...]

    def running_on(self, kind: str) -> tuple[str, ...]:
        """The backends that can run on a ``kind`` of device."""
        return tuple(b.backend for b in self.backends if b.runs_on == kind and b.can_run)

    def computing(self) -> tuple[tuple[Gpu, MigDevice | None], ...]:
        """The NVIDIA devices that can compute: whole GPUs, and slices of those that are split."""
        devices: list[tuple[Gpu, MigDevice | None]] = []
        for gpu in self.nvidia.gpus:
            devices += [(gpu, part) for part in gpu.slices] if gpu.mig_enabled else [(gpu, None)]
        return tuple(devices)


def here(
    catalog: Path | None = None,
    names: Sequence[str] | None = None,
    ask: Callable[[str], Check] = check,
    see: Callable[[], Gpus] = gpus,
) -> Here:
    """Look at this machine. ``names``: the backends to ask, all if None."""
    found = see()
    return Here(_cpu(catalog), found, in_parallel(ask, backend_names() if names is None else names))


def in_parallel(ask: Callable[[str], Check], names: Sequence[str]) -> tuple[Check, ...]:
    """Each backend asked, in order: half of the time goes into waiting for imports."""
    with ThreadPoolExecutor(max_workers=max(usable_cores(), 1)) as pool:
        return tuple(pool.map(ask, names))


def _cpu(catalog: Path | None) -> Cpu:
    identity = local_cpu()
    match = match_cpu(identity, load(catalog))
    return Cpu(
        name=identity.name,
        architecture=match.device.architecture,
        device=match.device.name,
        exact=match.exact,
        note=match.note,
        cores=usable_cores(),
        memory_bytes=total_memory_bytes(),
        features=tuple(feature for feature in FEATURES if feature in identity.flags),
    )
