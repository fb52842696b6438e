"""NVIDIA GPUs as the driver's management library tells of them. All access to it is here.

Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/, by its bindings ``nvidia-ml-py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

INSTALL = "pip install nvidia-ml-py"


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU; ``memory_bytes`` None where the driver does not say."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A slice of a GPU, a device of its own; ``profile`` as NVIDIA spells it, such as ``1g.10gb``."""

    uuid: str
    profile: str
    memory_bytes: int
    used_bytes: int
    processes: tuple[GpuProcess, ...]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, now. None where its driver does not tell.

    ``throttled_by`` are the reasons that hold its clocks down; being idle is none. With ``mig_enabled``
    only its slices can compute.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int
    used_bytes: int
    compute_capability: str
    sm_clock_mhz: int | None
    max_sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    max_memory_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    throttled_by: tuple[str, ...]
    processes: tuple[GpuProcess, ...]
    mig_enabled: bool
    slices: tuple[MigDevice, ...]


@dataclass(frozen=True, slots=True)
class Gpus:
    """``problem`` says in one line why there are none to see; None where NVML answered.

    ``cuda`` is the newest CUDA that the driver supports.
    """

    driver: str | None
    cuda: str | None
    gpus: tuple[Gpu, ...]
    problem: str | None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """A GPU's sensors, now. None where its driver does not tell; of a slice, energy and power are its
    neighbours' too, and left out.

    ``held_down_by``: what holds its clocks down at this moment, less what an administrator set; ``held_ns``:
    for how long each cause has done so since the driver was loaded.
    """

    energy_mj: int | None
    sm_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    held_down_by: tuple[str, ...] | None
    held_ns: tuple[tuple[str, int], ...]

    def throttled_since(self, before: GpuReading | None) -> tuple[str, ...] | None:
        """What held its clocks down at some time since, as far as the driver tells."""
        known = dict(before.held_ns) if before else {}
        since = [cause for cause, ns in self.held_ns if ns > known.get(cause, ns)]
        if self.held_down_by is None and not (before and self.held_ns):
            return None
        told = self.held_down_by or ()
        return (*told, *(cause for cause in since if not any(text.startswith(cause) for text in told)))


@contextmanager
def watching(uuid: str, nvml: Any | None = None) -> Iterator[Callable[[], GpuReading | None]]:
    """Readings of the GPU, or slice, with that UUID: None where there is none, or no driver. Never raises."""
    if nvml is None and uuid:
        try:
            nvml = import_module("pynvml")
        except ImportError:
            nvml = None
    if nvml is None or not uuid:
        yield lambda: None
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield lambda: None
        return
    try:
        yield _watched(nvml, uuid)
    finally:
        nvml.nvmlShutdown()


def _watched(nvml: Any, uuid: str) -> Callable[[], GpuReading | None]:
    handle = _told(nvml, nvml.nvmlDeviceGetHandleByUUID, uuid)
    if handle is None:
        return lambda: None
    whole = _told(nvml, nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle)
    return lambda: _reading(nvml, handle if whole is None else whole, shared=whole is not None)


def _reading(nvml: Any, handle: Any, shared: bool) -> GpuReading:
    milliwatts = None if shared else _told(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    active = _active_reasons(nvml, handle)
    policies = ((nvml.NVML_PERF_POLICY_THERMAL, "temperature"), (nvml.NVML_PERF_POLICY_POWER, "power"))
    held = [
        (_told(nvml, nvml.nvmlDeviceGetViolationStatus, handle, number), cause) for number, cause in policies
    ]
    return GpuReading(
        energy_mj=None if shared else _told(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        sm_clock_mhz=_told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        temperature_c=_told(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        power_w=None if milliwatts is None else milliwatts / 1000,
        held_down_by=None if active is None else _texts(_slowdowns(nvml), active),
        held_ns=tuple((cause, status.violationTime) for status, cause in held if status is not None),
    )


def gpus(nvml: Any | None = None) -> Gpus:
    """The GPUs of this machine. Never raises; ``nvml`` stands in for the bindings."""
    if nvml is None:
        try:
            nvml = import_module("pynvml")
        except ImportError:
            return Gpus(None, None, (), f"nvidia-ml-py is missing; install it with: {INSTALL}")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Gpus(
            None, None, (), f"no NVIDIA driver answers ({error}); a GPU needs the NVIDIA driver installed"
        )
    try:
        cuda = _told(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
        return Gpus(
            driver=nvml.nvmlSystemGetDriverVersion(),
            cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            gpus=tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())),
            problem=None,
        )
    except nvml.NVMLError as error:
        return Gpus(None, None, (), f"the NVIDIA driver fails ({error}); see what nvidia-smi says")
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    mode = _told(nvml, nvml.nvmlDeviceGetMigMode, handle)
    milliwatts = _told(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    mig_enabled = mode is not None and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
    return Gpu(
        index=index,
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=nvml.nvmlDeviceGetName(handle),
        memory_bytes=memory.total,
        used_bytes=memory.used,
        compute_capability=f"{major}.{minor}",
        sm_clock_mhz=_told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        max_sm_clock_mhz=_told(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=_told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
        max_memory_clock_mhz=_told(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_MEM),
        temperature_c=_told(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        power_w=None if milliwatts is None else milliwatts / 1000,
        throttled_by=_throttled_by(nvml, handle),
        processes=_processes(nvml, handle),
        mig_enabled=mig_enabled,
        slices=tuple(_slices(nvml, handle)) if mig_enabled else (),
    )


def _slices(nvml: Any, handle: Any) -> Iterator[MigDevice]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        # The indices of slices that were not made are empty.
        mig = _told(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        if mig is None:
            continue
        memory = nvml.nvmlDeviceGetMemoryInfo(mig)
        yield MigDevice(
            uuid=nvml.nvmlDeviceGetUUID(mig),
            # Such as "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
            profile=nvml.nvmlDeviceGetName(mig).rpartition("MIG ")[2],
            memory_bytes=memory.total,
            used_bytes=memory.used,
            processes=_processes(nvml, mig),
        )


def _throttled_by(nvml: Any, handle: Any) -> tuple[str, ...]:
    settings = {
        nvml.nvmlClocksEventReasonSyncBoost: "sync boost with another GPU",
        nvml.nvmlClocksEventReasonApplicationsClocksSetting: "clocks set by the administrator",
        nvml.nvmlClocksEventReasonDisplayClockSetting: "display clocks",
    }
    return _texts(_slowdowns(nvml) | settings, _active_reasons(nvml, handle) or 0)


def _slowdowns(nvml: Any) -> dict[int, str]:
    """By the bit of each; what an administrator set is none."""
    return {
        nvml.nvmlClocksEventReasonSwThermalSlowdown: "temperature (driver)",
        nvml.nvmlClocksEventReasonHwThermalSlowdown: "temperature (hardware)",
        nvml.nvmlClocksEventReasonSwPowerCap: "power cap",
        nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
        nvml.nvmlClocksEventReasonHwSlowdown: "hardware slowdown",
    }


def _texts(reasons: dict[int, str], active: int) -> tuple[str, ...]:
    return tuple(text for bit, text in reasons.items() if active & bit)


def _active_reasons(nvml: Any, handle: Any) -> int | None:
    active: int | None = _told(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if active is None:
        # Drivers before 535 know it by its older name.
        active = _told(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return active


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    found = _told(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return tuple(GpuProcess(process.pid, process.usedGpuMemory) for process in found)


def _told(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> Any | None:
    """The answer, or None where this GPU, or its driver, has none."""
    try:
        return ask(*arguments)
    except nvml.NVMLError:
        return None
