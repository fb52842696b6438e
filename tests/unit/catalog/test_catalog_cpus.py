"""Recognising CPUs from fixed texts, never from the machine that runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner import catalog
from planner.catalog import Catalog, CpuIdentity, local_cpu, match_cpu, sold_as
from planner.catalog.cpus import parse_cpuinfo, parse_platform
from planner.errors import CatalogError

CATALOG = catalog.load()
AVX512 = "avx2 avx512f avx512bw avx512vl"


def cpuinfo(vendor: str, family: int, model: int, stepping: int | str, flags: str, name: str = "CPU") -> str:
    """Two processors, so that reading stops mattering after the first."""
    block = (
        f"processor\t: {{}}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n"
        f"model name\t: {name}\nstepping\t: {stepping}\ncpu MHz\t\t: 2400.000\nflags\t\t: fpu sse {flags}\n"
        "bugs\t\t: spectre_v1\n"
    )
    return block.format(0) + "\n" + block.format(1).replace(f": {model}\n", ": 999\n")


@pytest.mark.parametrize(
    ("vendor", "family", "model", "stepping", "flags", "device"),
    [
        ("GenuineIntel", 6, 85, 4, AVX512, "skylake-sp"),
        ("GenuineIntel", 6, 85, 7, f"{AVX512} avx512_vnni", "cascade-lake"),
        ("GenuineIntel", 6, 106, 6, f"{AVX512} avx512_vnni", "ice-lake-sp"),
        ("GenuineIntel", 6, 143, 8, f"{AVX512} avx512_vnni avx512_bf16 amx_int8", "sapphire-rapids"),
        ("GenuineIntel", 6, 207, 2, f"{AVX512} avx512_vnni avx512_bf16 amx_int8", "emerald-rapids"),
        ("GenuineIntel", 6, 173, 1, f"{AVX512} avx512_vnni avx512_bf16 amx_int8", "granite-rapids"),
        ("AuthenticAMD", 23, 49, 0, "avx2", "rome"),
        ("AuthenticAMD", 25, 1, 1, "avx2", "milan"),
        ("AuthenticAMD", 25, 17, 1, f"{AVX512} avx512_vnni avx512_bf16", "genoa"),
        ("AuthenticAMD", 25, 160, 2, f"{AVX512} avx512_vnni avx512_bf16", "bergamo"),
        ("AuthenticAMD", 26, 2, 1, f"{AVX512} avx512_vnni avx512_bf16 avx_vnni", "turin"),
    ],
)
def test_server_generations(
    vendor: str, family: int, model: int, stepping: int, flags: str, device: str
) -> None:
    match = match_cpu(parse_cpuinfo(cpuinfo(vendor, family, model, stepping, flags)), CATALOG)
    assert (match.device.name, match.exact, match.note) == (device, True, "")


def test_what_a_hypervisor_hides_is_said() -> None:
    identity = parse_cpuinfo(cpuinfo("GenuineIntel", 6, 143, 8, f"{AVX512} avx512_vnni"))
    match = match_cpu(identity, CATALOG)
    assert match.exact
    assert match.note == "this sapphire-rapids does not offer amx_int8 (hidden by its hypervisor or firmware)"


@pytest.mark.parametrize(
    ("flags", "device"), [(AVX512, "skylake-sp"), (f"{AVX512} avx512_vnni", "cascade-lake")]
)
def test_an_odd_stepping_is_told_by_its_instruction_sets(flags: str, device: str) -> None:
    match = match_cpu(parse_cpuinfo(cpuinfo("GenuineIntel", 6, 85, "unknown", flags)), CATALOG)
    assert (match.device.name, match.exact) == (device, False)


@pytest.mark.parametrize(
    ("vendor", "family", "model", "flags", "device"),
    [
        # laptop and desktop chips, and generations to come
        ("GenuineIntel", 6, 154, "avx2", "skylake-sp"),
        ("GenuineIntel", 19, 1, f"{AVX512} avx512_vnni amx_int8", "sapphire-rapids"),
        ("AuthenticAMD", 25, 97, f"{AVX512} avx512_vnni", "genoa"),
        ("AuthenticAMD", 23, 113, "avx2", "rome"),
        ("AuthenticAMD", 30, 5, f"{AVX512} avx512_vnni", "turin"),
    ],
)
def test_other_cpus_get_the_nearest_with_a_note(
    vendor: str, family: int, model: int, flags: str, device: str
) -> None:
    match = match_cpu(parse_cpuinfo(cpuinfo(vendor, family, model, 0, flags, "Some CPU")), CATALOG)
    assert (match.device.name, match.exact) == (device, False)
    assert match.note == (
        f"this CPU (Some CPU, {vendor} family {family} model {model} stepping 0) is not in the catalog: "
        f"prices are for the nearest, {device}"
    )


@pytest.mark.parametrize(
    ("vendor", "family", "model", "flags", "sold"),
    [
        ("AuthenticAMD", 25, 1, "avx2", "genoa"),
        ("GenuineIntel", 6, 207, f"{AVX512} avx512_vnni amx_int8", "sapphire-rapids"),
        ("AuthenticAMD", 25, 17, f"{AVX512} avx512_vnni", "genoa"),
    ],
)
def test_a_cpu_that_nobody_sells_is_priced_as_the_nearest_that_is(
    vendor: str, family: int, model: int, flags: str, sold: str
) -> None:
    identity = parse_cpuinfo(cpuinfo(vendor, family, model, 1, flags, "Some CPU"))
    match = match_cpu(identity, CATALOG)
    priced = sold_as(match, identity, CATALOG)
    assert priced.device.name == sold
    assert priced.exact == (match.device.name == sold)
    assert priced.exact or f"prices are for the nearest, {sold}" in priced.note


def test_an_arm_cpu_is_described_by_what_it_tells() -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"
    identity = parse_cpuinfo(text)
    assert identity == CpuIdentity(
        "Arm", None, None, None, "Arm implementer 0x41, part 0xd40", ("fp", "asimd", "i8mm", "bf16")
    )
    match = match_cpu(identity, CATALOG)
    assert not match.exact
    assert "Arm implementer 0x41, part 0xd40" in match.note


def test_windows_tells_cpuid_without_flags() -> None:
    identity = parse_platform("Intel64 Family 6 Model 143 Stepping 8, GenuineIntel")
    assert (identity.vendor, identity.family, identity.model, identity.stepping) == (
        "GenuineIntel",
        6,
        143,
        8,
    )
    match = match_cpu(identity, CATALOG)
    assert (match.device.name, match.exact, match.note) == ("sapphire-rapids", True, "")


def test_a_bare_name_is_kept() -> None:
    assert parse_platform("arm") == CpuIdentity("", None, None, None, "arm", ())
    assert parse_platform("").name == "unnamed CPU"


def test_local_cpu_reads_the_file_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo("AuthenticAMD", 25, 17, 1, "avx2", "AMD EPYC 9R14"))
    identity = local_cpu(file)
    assert (identity.name, identity.family, identity.model) == ("AMD EPYC 9R14", 25, 17)
    assert "avx2" in identity.flags
    assert local_cpu(tmp_path / "absent").flags == ()


def test_no_device_is_of_the_mixed_kind() -> None:
    assert all(signature.device != "x86-mixed" for signature in CATALOG.cpu_signatures)


def test_a_catalog_without_cpus_says_so() -> None:
    with pytest.raises(CatalogError, match="no device of the catalog has a cpuid"):
        match_cpu(parse_platform("arm"), Catalog((), (), (), ""))
