"""GPUs by NVML, from scripted drivers; and every name used exists in the installed bindings."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from planner.profiling import nvml as module
from planner.profiling.nvml import GpuProcess, GpuReading, gpus, watching

GIB = 1024**3


class NVMLError(Exception):
    """Like the bindings': its text is the driver's."""


@dataclass
class Chip:
    """A GPU, or a slice of one, as its driver would tell of it; None: not supported."""

    name: str
    memory_gib: int
    uuid: str = "GPU-0"
    capability: tuple[int, int] = (9, 0)
    mig: bool | None = None
    slices: dict[int, Chip] = field(default_factory=dict)
    clocks: tuple[int, int] | None = (1980, 2619)
    reasons: int = 0
    pids: tuple[tuple[int, int | None], ...] = ()
    used_gib: int = 1
    energy_mj: int | None = 5_000_000
    held_ns: dict[int, int] | None = None
    whole: Chip | None = None


class Driver:
    """Answers as ``pynvml`` does; only what the planner may ask is there."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL = 0, 1
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksEventReasonApplicationsClocksSetting = 0x2
    nvmlClocksEventReasonSwPowerCap = 0x4
    nvmlClocksEventReasonHwSlowdown = 0x8
    nvmlClocksEventReasonSyncBoost = 0x10
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksEventReasonHwThermalSlowdown = 0x40
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80
    nvmlClocksEventReasonDisplayClockSetting = 0x100

    def __init__(self, *chips: Chip, version: str = "575.57.08", old: bool = False) -> None:
        self.chips, self.version, self.old = chips, version, old
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.version

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 12090

    def nvmlDeviceGetCount(self) -> int:
        return len(self.chips)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Chip:
        assert self.open, "not between init and shutdown"
        return self.chips[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Chip:
        assert self.open, "not between init and shutdown"
        slices = [part for chip in self.chips for part in chip.slices.values()]
        return _supported(next((chip for chip in (*self.chips, *slices) if chip.uuid == uuid), None))

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, mig: Chip) -> Chip:
        return _supported(mig.whole)

    def nvmlDeviceGetTotalEnergyConsumption(self, chip: Chip) -> int:
        return _supported(chip.energy_mj)

    def nvmlDeviceGetViolationStatus(self, chip: Chip, policy: int) -> Any:
        return SimpleNamespace(violationTime=_supported(chip.held_ns)[policy])

    def nvmlDeviceGetName(self, chip: Chip) -> str:
        return chip.name

    def nvmlDeviceGetUUID(self, chip: Chip) -> str:
        return chip.uuid

    def nvmlDeviceGetMemoryInfo(self, chip: Chip) -> Any:
        return SimpleNamespace(total=chip.memory_gib * GIB, used=chip.used_gib * GIB)

    def nvmlDeviceGetCudaComputeCapability(self, chip: Chip) -> tuple[int, int]:
        return chip.capability

    def nvmlDeviceGetMigMode(self, chip: Chip) -> list[int]:
        return [int(_supported(chip.mig)), int(_supported(chip.mig))]

    def nvmlDeviceGetMaxMigDeviceCount(self, chip: Chip) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, chip: Chip, index: int) -> Chip:
        return _supported(chip.slices.get(index))

    def nvmlDeviceGetClockInfo(self, chip: Chip, kind: int) -> int:
        return _supported(chip.clocks)[kind - 1] // 2

    def nvmlDeviceGetMaxClockInfo(self, chip: Chip, kind: int) -> int:
        return _supported(chip.clocks)[kind - 1]

    def nvmlDeviceGetTemperature(self, chip: Chip, sensor: int) -> int:
        return 55

    def nvmlDeviceGetPowerUsage(self, chip: Chip) -> int:
        return 71_500

    def nvmlDeviceGetCurrentClocksEventReasons(self, chip: Chip) -> int:
        if self.old:
            raise NVMLError("Function Not Found")
        return chip.reasons

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, chip: Chip) -> int:
        return chip.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, chip: Chip) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in chip.pids]


def _supported(value: Any) -> Any:
    if value is None:
        raise NVMLError("Not Supported")
    return value


def test_an_h100_with_mig_on() -> None:
    name = "NVIDIA H100 80GB HBM3"
    small = Chip(f"{name} MIG 1g.10gb", 10, "MIG-a", pids=((7, None),), used_gib=2)
    large = Chip(f"{name} MIG 3g.40gb", 40, "MIG-b")
    driver = Driver(Chip(name, 80, mig=True, slices={0: large, 3: small}))
    found = gpus(driver)
    assert (found.driver, found.cuda, found.problem) == ("575.57.08", "12.9", None)
    (gpu,) = found.gpus
    assert gpu.mig_enabled
    assert gpu.compute_capability == "9.0"
    assert [(s.profile, s.uuid, s.memory_bytes // GIB) for s in gpu.slices] == [
        ("3g.40gb", "MIG-b", 40),
        ("1g.10gb", "MIG-a", 10),
    ]
    assert gpu.slices[1].processes == (GpuProcess(7, None),)
    assert gpu.slices[1].used_bytes == 2 * GIB
    assert driver.open == 0


def test_a_shared_t4() -> None:
    (gpu,) = gpus(Driver(Chip("Tesla T4", 15, capability=(7, 5), pids=((41, GIB), (42, None))))).gpus
    assert gpu.compute_capability == "7.5"
    assert gpu.processes == (GpuProcess(41, GIB), GpuProcess(42, None))
    assert not gpu.mig_enabled, "a T4 does not support it, and says so by an error"
    assert gpu.slices == ()
    assert (gpu.sm_clock_mhz, gpu.max_sm_clock_mhz) == (990, 1980)
    assert gpu.power_w == pytest.approx(71.5)


@pytest.mark.parametrize("old", [False, True], ids=["driver 535 or newer", "older driver"])
def test_a_throttled_l4(old: bool) -> None:
    """Idle (bit 1) is no throttling; what an older driver knows by another name counts."""
    idle = Driver.NVML_CLOCK_SM
    hot = Driver.nvmlClocksEventReasonSwThermalSlowdown | Driver.nvmlClocksEventReasonSwPowerCap
    chips = (Chip("NVIDIA L4", 23, reasons=hot | idle), Chip("NVIDIA L4", 23, reasons=idle))
    throttled, calm = gpus(Driver(*chips, old=old)).gpus
    assert throttled.throttled_by == ("temperature (driver)", "power cap")
    assert calm.throttled_by == ()
    assert [gpu.index for gpu in (throttled, calm)] == [0, 1]


def test_what_a_gpu_does_not_tell_is_absent() -> None:
    (gpu,) = gpus(Driver(Chip("NVIDIA Thor", 122, clocks=None))).gpus
    assert (gpu.sm_clock_mhz, gpu.max_memory_clock_mhz) == (None, None)


def test_no_driver() -> None:
    driver = Driver()
    driver.nvmlInit = _raising("NVML Shared Library Not Found")  # type: ignore[method-assign]
    found = gpus(driver)
    assert found.gpus == ()
    assert "NVML Shared Library Not Found" in (found.problem or "")
    assert "NVIDIA driver" in (found.problem or "")


def test_a_driver_that_fails_midway_is_closed() -> None:
    driver = Driver(Chip("NVIDIA L4", 23))
    driver.nvmlDeviceGetMemoryInfo = _raising("GPU is lost")  # type: ignore[method-assign]
    found = gpus(driver)
    assert "GPU is lost" in (found.problem or "")
    assert driver.open == 0


def test_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpus().problem == "nvidia-ml-py is missing; install it with: pip install nvidia-ml-py"


def test_readings_of_a_gpu() -> None:
    chip = Chip("NVIDIA L4", 23, held_ns={0: 10, 1: 20})
    driver = Driver(chip)
    with watching("GPU-0", driver) as read:
        before = read()
        assert before == GpuReading(5_000_000, 990, 55, 71.5, (), (("temperature", 20), ("power", 10)))
        assert before.throttled_since(before) == ()
        chip.held_ns = {0: 10, 1: 21}
        between = read()
        assert between is not None
        assert between.throttled_since(before) == ("temperature",), "over by now, but it was"
        chip.reasons = Driver.nvmlClocksEventReasonSwThermalSlowdown
        after = read()
        assert after is not None
        assert after.throttled_since(before) == ("temperature (driver)",), "told once"
        chip.reasons = Driver.nvmlClocksEventReasonApplicationsClocksSetting
        chip.held_ns = None
        calm = read()
        assert calm is not None
        assert calm.throttled_since(before) == (), "what an administrator set slows all turns alike"
    assert driver.open == 0


def test_a_slice_has_the_clock_of_its_gpu_but_not_its_neighbours_energy() -> None:
    whole = Chip("NVIDIA H100 80GB HBM3", 80, mig=True)
    part = Chip("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10, "MIG-a", clocks=None, whole=whole)
    whole.slices = {0: part}
    with watching("MIG-a", Driver(whole)) as read:
        found = read()
    assert found is not None
    assert (found.sm_clock_mhz, found.energy_mj, found.power_w) == (990, None, None)


def test_what_a_gpu_does_not_read_is_absent() -> None:
    driver = Driver(Chip("NVIDIA Thor", 122, clocks=None, energy_mj=None))
    driver.nvmlDeviceGetCurrentClocksEventReasons = _raising("Not Supported")  # type: ignore[method-assign]
    driver.nvmlDeviceGetCurrentClocksThrottleReasons = _raising("Not Supported")  # type: ignore[method-assign]
    with watching("GPU-0", driver) as read:
        found = read()
    assert found == GpuReading(None, None, 55, 71.5, None, ())
    assert found.throttled_since(found) is None


def test_where_there_is_no_gpu_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with watching("GPU-7", Driver(Chip("NVIDIA L4", 23))) as read:
        assert read() is None
    with watching("", Driver(Chip("NVIDIA L4", 23))) as read:
        assert read() is None
    silent = Driver()
    silent.nvmlInit = _raising("Driver Not Loaded")  # type: ignore[method-assign]
    with watching("GPU-0", silent) as read:
        assert read() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with watching("GPU-0") as read:
        assert read() is None


def _raising(text: str) -> Callable[..., Any]:
    def fail(*arguments: Any) -> Any:
        raise NVMLError(text)

    return fail


def _names_used() -> set[str]:
    tree = ast.parse(inspect.getsource(module))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nvml"
    }


def test_every_name_used_exists_in_the_bindings() -> None:
    import pynvml

    used = _names_used()
    assert len(used) > 20
    assert {name for name in used if not hasattr(pynvml, name)} == set()
    assert issubclass(pynvml.NVMLError_NotSupported, pynvml.NVMLError)
    assert {n for n in used if n.startswith(("NVML_", "nvmlClocksEvent"))} == {
        n
        for n in used
        if n in vars(Driver)
        and getattr(Driver, n) == getattr(pynvml, n)
        and isinstance(getattr(pynvml, n), int)
    }, "the stand-in's constants are the bindings'"


def test_the_bindings_functions_take_what_they_are_given() -> None:
    import pynvml

    for name in sorted(_names_used()):
        real, scripted = getattr(pynvml, name), getattr(Driver, name)
        if not callable(scripted) or inspect.isclass(scripted):
            continue
        arguments = list(inspect.signature(scripted).parameters)[1:]
        inspect.signature(inspect.unwrap(real)).bind(*arguments)
