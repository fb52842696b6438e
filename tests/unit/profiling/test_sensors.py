"""Energy, throttling and clocks between two readings, from a made-up /sys and made-up GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.profiling.nvml import GpuReading
from planner.profiling.sensors import CPU_THROTTLED, Reading, conditions, cpu_packages, cpu_throttles, reading

MOST_UJ = 262_143_328_850
GPU = GpuReading(1_000, 1980, 50, 300.0, (), ())


def zone(sys: Path, name: str, says: str, energy_uj: int | None) -> Path:
    folder = sys / "class" / "powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{says}\n")
    (folder / "max_energy_range_uj").write_text(f"{MOST_UJ}\n")
    if energy_uj is not None:
        (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder


def throttles(sys: Path, cpu: int, core: int, package: int) -> None:
    folder = sys / "devices" / "system" / "cpu" / f"cpu{cpu}" / "thermal_throttle"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core_throttle_count").write_text(f"{core}\n")
    (folder / "package_throttle_count").write_text(f"{package}\n")


def read(sys: Path, gpu: GpuReading | None = None) -> Reading:
    return Reading(0.0, cpu_packages(sys), cpu_throttles(sys), gpu)


def test_two_packages_count_and_neither_their_parts_nor_the_platform(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 500_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 2_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    before = read(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 4_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 900_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 4_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 99_000_000)
    assert conditions(before, read(tmp_path), inferences=10).cpu_joules == pytest.approx(0.5)


def test_a_counter_that_wrapped_around(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", MOST_UJ - 999_999)
    before = read(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 2_000_000)
    assert conditions(before, read(tmp_path), inferences=1).cpu_joules == pytest.approx(3.0)


def test_a_package_that_may_not_be_read_makes_the_energy_unknown(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    zone(tmp_path, "intel-rapl:1", "package-1", None)
    # A folder in place of the file: as unreadable, also to root.
    (tmp_path / "class/powercap/intel-rapl:1/energy_uj").mkdir()
    assert conditions(read(tmp_path), read(tmp_path), 1).cpu_joules is None


def test_where_nothing_can_be_read_all_is_unknown(tmp_path: Path) -> None:
    found = conditions(read(tmp_path), read(tmp_path), 1)
    assert (found.cpu_joules, found.gpu_joules, found.throttled, found.gpu_clock_mhz) == (None,) * 4


def test_a_core_that_was_slowed_down_is_told(tmp_path: Path) -> None:
    for cpu in (0, 1, 10):
        throttles(tmp_path, cpu, core=7, package=3)
    before = read(tmp_path)
    assert conditions(before, read(tmp_path), 1).throttled == ()
    throttles(tmp_path, 10, core=8, package=3)
    assert conditions(before, read(tmp_path), 1).throttled == (CPU_THROTTLED,)


def test_of_a_gpu(tmp_path: Path) -> None:
    hot = replace(GPU, energy_mj=7_000, sm_clock_mhz=1500, held_down_by=("power cap",), temperature_c=80)
    found = conditions(read(tmp_path, GPU), read(tmp_path, hot), inferences=4)
    assert found.gpu_joules == pytest.approx(1.5)
    assert found.gpu_clock_mhz == (1500, 1500)
    assert found.gpu_temperature_c == (80, 80)
    assert found.gpu_power_w == (300.0, 300.0)
    assert found.throttled == ("power cap",)
    assert found.cpu_joules is None


def test_this_machine_can_be_read() -> None:
    with reading() as now:
        before, after = now(), now()
    assert after.seconds >= before.seconds
    assert after.gpu is None
