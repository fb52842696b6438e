"""Which devices the machines of a cluster have, and whether they have what the plan was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.backends import backend
from planner.backends.base import CPU, NVIDIA_GPU
from planner.catalog import Catalog, CpuIdentity, local_cpu, match_cpu, match_gpu
from planner.domain.profile import Environment
from planner.errors import InputError, MissingDependencyError
from planner.profiling.environment import local_environment
from planner.profiling.nvml import gpus

DEVICE = "device:"
"""A custom resource of this prefix names the kind of device that a node is, in place of its CPU."""
_ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster. ``resources``: how much of each it has, as the cluster counts them."""

    id: str
    address: str
    resources: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Said:
    """What a node says of itself. ``environment`` leaves the CPU's architecture and the libraries open;
    ``libraries`` has those of each backend, or a line that tells what is missing. ``gpus``: the name and the
    memory of each, as NVML tells them."""

    cpu: CpuIdentity
    environment: Environment
    libraries: Mapping[str, tuple[tuple[str, str], ...] | str]
    gpus: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """Devices that are alike to measure on. ``runs_on`` as in ``Backend``; ``cores`` are the node's."""

    device: str
    runs_on: str
    cores: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One device, which takes one task at a time, and what a task reserves so that nobody disturbs it."""

    node: Node
    kind: Kind
    environment: Environment
    """Without libraries."""
    cpus: float
    gpus: float = 0.0
    resources: tuple[tuple[str, float], ...] = ()
    libraries: Mapping[str, tuple[tuple[str, str], ...] | str] = field(default_factory=dict, hash=False)
    """Of each backend, as the node says."""


def introduce(backends: Sequence[str]) -> Said:
    """What this machine says of itself."""
    cpu = local_cpu()
    environment = local_environment(cpu.name, "", cpu.flags, ())
    found = tuple((gpu.name, gpu.memory_bytes) for gpu in gpus().gpus)
    return Said(cpu, environment, {name: _has(name) for name in backends}, found)


def _has(name: str) -> tuple[tuple[str, str], ...] | str:
    made = backend(name)
    return made.missing() or made.libraries()


def check_planner(address: str, there: str | None, here: str) -> None:
    """Tasks travel by name, so every node needs the planner of here; ``there``: its version, None without.

    Raises MissingDependencyError or InputError.
    """
    if there is None:
        raise MissingDependencyError(
            f"node {address}: planner is not installed in its Python; run there: pip install planner=={here}"
        )
    if there != here:
        raise InputError(f"node {address}: planner {there}, here {here}; install the same version there")


def check_libraries(address: str, said: Said, backends: Sequence[str]) -> None:
    """A node measures what was judged here, so its libraries must be those of here, where they are.

    Raises MissingDependencyError or InputError.
    """
    for name in backends:
        there = said.libraries[name]
        if isinstance(there, str):
            raise MissingDependencyError(f"node {address}: backend {name}: {there}")
        here = there if backend(name).missing() else backend(name).libraries()
        if there != here:
            raise InputError(
                f"node {address}: backend {name} has {_versions(there)}, here {_versions(here)}; "
                "install the same versions there"
            )


def _versions(libraries: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} {version}" for name, version in libraries)


def slots_of(node: Node, said: Said, catalog: Catalog) -> list[Slot]:
    """The devices of a node: those that custom resources name, else its GPUs and its CPU.

    A GPU is the catalog's that NVML's name stands for, or called what the cluster calls it. Each reserves its
    share of the node's CPUs as well, and the CPU all of them, so that no two tasks of one node disturb each
    other. A node without CPUs to give has no CPU.
    """
    architecture = match_cpu(said.cpu, catalog).device
    environment = replace(said.environment, cpu_architecture=architecture.architecture)
    cores, cpus = environment.cores, node.resources.get("CPU", 0.0)
    named = [
        key
        for key, amount in sorted(node.resources.items())
        if key.startswith(DEVICE)
        for _ in range(int(amount))
    ]
    if named:
        share = float(cpus // len(named))
        return [
            Slot(
                node,
                _named_kind(key, cores, catalog),
                environment,
                share,
                resources=((key, 1.0),),
                libraries=said.libraries,
            )
            for key in named
        ]
    count = int(node.resources.get("GPU", 0))
    accelerators = [key.removeprefix(_ACCELERATOR) for key in node.resources if key.startswith(_ACCELERATOR)]
    called = _called(said, catalog) or (accelerators[0] if accelerators else "unnamed GPU")
    gpu = Kind(called, NVIDIA_GPU, cores)
    share = float(cpus // count) if count else 0.0
    found = [Slot(node, gpu, environment, share, gpus=1.0, libraries=said.libraries) for _ in range(count)]
    if cpus:
        cpu = Kind(architecture.name, CPU, cores)
        found.append(Slot(node, cpu, environment, cpus, libraries=said.libraries))
    return found


def _called(said: Said, catalog: Catalog) -> str | None:
    """The catalog's name, where all GPUs of the node are of one kind: a task does not choose among them."""
    matches = [match_gpu(name, memory_bytes, catalog) for name, memory_bytes in said.gpus]
    names = {device.name for device in matches if device is not None}
    return names.pop() if len(names) == 1 and None not in matches else None


def _named_kind(resource: str, cores: int, catalog: Catalog) -> Kind:
    name = resource.removeprefix(DEVICE)
    gpus = {device.name for device in catalog.devices if device.kind == "gpu"}
    return Kind(name, NVIDIA_GPU if name in gpus else CPU, cores)
