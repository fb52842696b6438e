"""The kinds of device of this machine that a plan measures on, and what the catalog prices each as."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from planner.backends import backend
from planner.backends.base import CPU, NVIDIA_GPU, Backend
from planner.catalog import Catalog, CpuMatch, match_gpu, slice_of, sliced
from planner.domain.device import Device
from planner.errors import SpecError
from planner.profiling.nvml import Gpu, Gpus, gpus
from planner.spec import Spec
from planner.store import ProfileStore


@dataclass(frozen=True, slots=True)
class Place:
    """``device`` is what its profiles call it, ``priced_as`` the catalog's; ``note``: where these differ.

    ``runs_on`` as in ``Backend``; ``cores`` are the machine's. ``gpu`` is the UUID of one GPU, or MIG slice,
    of the kind, ``slices`` the compute and memory slices that it has of its GPU.
    """

    device: str
    priced_as: Device
    note: str
    runs_on: str
    cores: int
    gpu: str = ""
    slices: tuple[int, int] | None = None


def places(
    spec: Spec,
    catalog: Catalog,
    cpu: CpuMatch,
    sold_as: CpuMatch,
    cores: int,
    elsewhere: bool = False,
    see: Callable[[], Gpus] = gpus,
) -> tuple[Place, ...]:
    """The CPU and each kind of GPU, as far as a backend of plan.yaml runs on it.

    Raises SpecError for a backend that nothing here can run and no stored profile is of, unless it is to be
    measured ``elsewhere``.
    """
    wanted = {name: _backend(spec, name).runs_on for name in spec.backends}
    found: list[Place] = []
    if CPU in wanted.values():
        found.append(Place(cpu.device.name, sold_as.device, sold_as.note, CPU, cores))
    if NVIDIA_GPU in wanted.values():
        found += _gpus(see().gpus, catalog, cores)
    here = {place.runs_on for place in found}
    absent = [name for name, runs_on in wanted.items() if runs_on not in here]
    if absent and not elsewhere:
        _check_profiled(spec, absent)
    return tuple(found)


def _backend(spec: Spec, name: str) -> Backend:
    try:
        return backend(name)
    except SpecError as error:
        raise SpecError(f"{spec.path}: backends: {error}") from None


def _gpus(seen: Iterable[Gpu], catalog: Catalog, cores: int) -> list[Place]:
    """One place for each kind of GPU or MIG slice. What is not in the catalog cannot be priced."""
    kinds: dict[str, Place] = {}
    for gpu in seen:
        device = match_gpu(gpu.name, gpu.memory_bytes, catalog)
        if device is None:
            continue
        parts = [(sliced(device.name, part.profile), part.uuid) for part in gpu.slices]
        for name, uuid in parts if gpu.mig_enabled else [(device.name, gpu.uuid)]:
            found = slice_of(name, catalog)
            if found is not None or not gpu.mig_enabled:
                slices = found[1] if found else None
                kinds.setdefault(name, Place(name, device, "", NVIDIA_GPU, cores, uuid, slices))
    return list(kinds.values())


def _check_profiled(spec: Spec, names: list[str]) -> None:
    known = {profile.configuration.backend for profile in ProfileStore(spec.profiles).all()}
    for name in names:
        if name not in known:
            runs_on = backend(name).runs_on
            raise SpecError(
                f"{spec.path}: backends: {name} runs on {runs_on}, this machine has none that can be priced, "
                f"{spec.profiles} no profile of it; measure where there is one (planner profile there, or "
                "with --ray), or name backends that run here (planner devices lists them)"
            )
