"""The driver's names of GPUs and the catalog's."""

from __future__ import annotations

import pytest

from planner.catalog import load
from planner.catalog.gpus import match_gpu, slice_of, sliced

GIB = 1024**3


@pytest.mark.parametrize(
    ("name", "memory_gib", "device"),
    [
        ("Tesla T4", 15.0, "T4"),
        ("Tesla V100-SXM2-16GB", 16.0, "V100-SXM2-16GB"),
        ("Tesla V100-SXM2-32GB", 32.0, "V100-SXM2-32GB"),
        ("Tesla V100-PCIE-16GB", 16.0, "V100-PCIe-16GB"),
        ("NVIDIA A10", 22.5, "A10"),
        ("NVIDIA A10G", 22.5, "A10G"),
        ("NVIDIA A30", 24.0, "A30"),
        ("NVIDIA L4", 22.5, "L4"),
        ("NVIDIA L40", 45.0, "L40"),
        ("NVIDIA L40S", 45.0, "L40S"),
        ("NVIDIA A100-SXM4-40GB", 40.0, "A100-40GB-SXM"),
        ("NVIDIA A100-PCIE-40GB", 40.0, "A100-40GB-PCIe"),
        ("NVIDIA A100-SXM4-80GB", 80.0, "A100-80GB-SXM"),
        ("NVIDIA A100 80GB PCIe", 80.0, "A100-80GB-PCIe"),
        ("NVIDIA H100 PCIe", 79.6, "H100-PCIe"),
        ("NVIDIA H100 80GB HBM3", 79.6, "H100-SXM"),
        ("NVIDIA H100 NVL", 93.6, "H100-NVL-94GB"),
        ("NVIDIA H200", 140.4, "H200-SXM"),
        ("NVIDIA B200", 179.1, "B200-SXM"),
        ("NVIDIA GeForce RTX 4090", 24.0, "RTX4090"),
        ("NVIDIA RTX 6000 Ada Generation", 48.0, "RTX6000-Ada"),
        ("NVIDIA RTX A6000", 48.0, "RTX-A6000"),
    ],
)
def test_the_drivers_name(name: str, memory_gib: float, device: str) -> None:
    found = match_gpu(name, round(memory_gib * GIB), load(None))
    assert found is not None and found.name == device


@pytest.mark.parametrize(
    ("name", "memory_gib"),
    [("NVIDIA GeForce GTX 1080", 8.0), ("NVIDIA A100-SXM4-40GB", 20.0), ("AMD Instinct MI300X", 192.0)],
)
def test_what_the_catalog_has_not(name: str, memory_gib: float) -> None:
    assert match_gpu(name, round(memory_gib * GIB), load(None)) is None


def test_every_mig_profile_of_the_catalog_fits_as_often_as_nvidia_says() -> None:
    catalog = load(None)
    names = [(d, part) for d in catalog.devices for part in d.mig]
    assert len(names) > 20
    for device, part in names:
        found = slice_of(sliced(device.name, part.name), catalog)
        assert found is not None and found[0] == device
        compute, memory = found[1]
        assert min(7 // compute, 8 // memory) >= part.max_per_device, (device.name, part.name)


@pytest.mark.parametrize("name", ["T4", "T4/1g.5gb", "no-such/1g.5gb", "A100-40GB-SXM/9g.1gb"])
def test_what_is_no_slice(name: str) -> None:
    assert slice_of(name, load(None)) is None
