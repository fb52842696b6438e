"""SkyPilot's names of accelerators, as its catalogs spell them, on the machines that have them."""

from __future__ import annotations

import pytest

from planner.catalog import load
from planner.catalog.skypilot.accelerators import device_of
from planner.catalog.skypilot.rows import Row

CATALOG = load()


def row(accelerator: str, machine: str, gib: float | None, words: str = "") -> Row:
    named = f"{accelerator} {words} {machine}"
    return Row(machine, accelerator, 1, 8, 64, gib, named, 1.0, None, "mars", "", "x86_64", (2,))


@pytest.mark.parametrize(
    ("provider", "accelerator", "machine", "gib", "device"),
    [
        ("aws", "A100", "p4d.24xlarge", 40, "A100-40GB-SXM"),
        ("aws", "A100-80GB", "p4de.24xlarge", None, "A100-80GB-SXM"),
        ("aws", "V100", "p3.2xlarge", 16, "V100-SXM2-16GB"),
        ("aws", "V100-32GB", "p3dn.24xlarge", 32, "V100-SXM2-32GB"),
        ("aws", "H200", "p5en.48xlarge", 141, "H200-SXM"),
        ("aws", "B200", "p6-b200.48xlarge", 179.06, "B200-SXM"),
        ("aws", "A10G", "g5.xlarge", 22.35, "A10G"),
        ("aws", "L40S", "g6e.xlarge", 44.7, "L40S"),
        ("gcp", "H100-MEGA", "a3-megagpu-8g", 80, "H100-SXM"),
        ("gcp", "A100-80GB", "a2-ultragpu-1g", 80, "A100-80GB-SXM"),
        ("azure", "A100", "Standard_ND96asr_v4", None, "A100-40GB-SXM"),
        ("azure", "A100-80GB", "Standard_ND96amsr_A100_v4", 80, "A100-80GB-SXM"),
        ("azure", "V100", "Standard_NC6s_v3", None, "V100-PCIe-16GB"),
        ("azure", "H100", "Standard_ND96isr_H100_v5", None, "H100-SXM"),
        ("lambda", "GH200", "gpu_1x_gh200", 96, "GH200-96GB"),
        ("lambda", "B200", "gpu_8x_b200_sxm6", 180, "B200-SXM"),
        ("lambda", "H100", "gpu_1x_h100_pcie", 80, "H100-PCIe"),
        ("lambda", "A100", "gpu_1x_a100_sxm4", 40, "A100-40GB-SXM"),
        ("runpod", "A100-80GB", "2x_A100-80GB_SECURE", 80, "A100-80GB-PCIe"),
        ("runpod", "A100-80GB-SXM", "1x_A100-80GB-SXM_SECURE", 80, "A100-80GB-SXM"),
        ("runpod", "H100", "1x_H100_SECURE", 80, "H100-PCIe"),
        ("runpod", "H100-NVL", "1x_H100-NVL_SECURE", 94, "H100-NVL-94GB"),
        ("runpod", "V100-SXM2-32GB", "1x_V100-SXM2-32GB_SECURE", 32, "V100-SXM2-32GB"),
        ("vast", "RTXPRO6000S", "1x-RTX_PRO_6000_S-32-65536", 95.6, "RTX-PRO-6000-Server"),
        ("newcloud", "L4", "box", None, "L4"),
    ],
)
def test_settled(provider: str, accelerator: str, machine: str, gib: float | None, device: str) -> None:
    found = device_of(row(accelerator, machine, gib), provider, CATALOG)
    assert found is not None
    assert found.name == device


@pytest.mark.parametrize(
    ("provider", "accelerator", "machine", "gib"),
    [
        ("newcloud", "H100", "box", 80),  # SXM or PCIe
        ("newcloud", "A100", "box", None),
        ("lambda", "A100", "gpu_1x_a100", 40),
        ("lambda", "RTX6000", "gpu_1x_rtx6000", 24),  # the Turing one
        ("runpod", "RTXPRO6000-WK", "1x_RTXPRO6000-WK_SECURE", 96),  # the workstation edition
        ("runpod", "MI300X", "1x_MI300X_SECURE", 192),
        ("vast", "RTX4090", "1x-RTX_4090-32-65536", 48),  # not as NVIDIA makes it
        ("vast", "H200", "1x-H200_NVL-32-65536", 140.4),  # the catalog has the module
        ("gcp", "tpu-v6e-16", "", None),
    ],
)
def test_not_settled_is_never_guessed(
    provider: str, accelerator: str, machine: str, gib: float | None
) -> None:
    assert device_of(row(accelerator, machine, gib), provider, CATALOG) is None


def test_what_the_catalog_sells_a_type_with_holds_unless_the_memory_differs() -> None:
    l4 = CATALOG.device("L4")
    assert device_of(row("H100", "box", None), "newcloud", CATALOG, l4) == l4
    assert device_of(row("L4", "box", 24), "newcloud", CATALOG, l4) == l4
    assert device_of(row("L4", "box", 48), "newcloud", CATALOG, l4) is None
