"""Which device of the catalog an NVIDIA GPU is, by the name that its driver gives it.

The driver's names hold the product, sometimes its memory and form factor, in no fixed order:
``Tesla T4``, ``NVIDIA A100-SXM4-40GB``, ``NVIDIA A100 80GB PCIe``, ``NVIDIA H100 80GB HBM3`` (an SXM module).
Source: https://developer.nvidia.com/cuda/gpus and the supported-chips list in each driver's README.
"""

from __future__ import annotations

import re

from planner.catalog.catalog import Catalog
from planner.domain.device import Device

FORMS = ("SXM", "PCIE", "NVL")
_BRANDS = {"NVIDIA", "TESLA", "GEFORCE", "QUADRO", "GENERATION", "BLACKWELL", "EDITION"}
_MEMORY_SLACK = 0.12
"""Drivers count the memory without what is reserved, catalogs in powers of ten or of two."""


def sliced(device: str, profile: str) -> str:
    """What profiles call a MIG slice of a device: ``A100-40GB-SXM/1g.5gb``."""
    return f"{device}/{profile}"


def slice_of(name: str, catalog: Catalog) -> tuple[Device, tuple[int, int]] | None:
    """The device and its compute and memory slices that ``sliced`` gave the name; None for any other name.

    Of 7 and 8: a GPU has that many, A30's four count double. Source: NVIDIA's MIG user guide, the tables of
    GPU instance profiles.
    """
    parent, slash, profile = name.partition("/")
    devices = {device.name: device for device in catalog.devices}
    if not slash or parent not in devices:
        return None
    device = devices[parent]
    known = next((part for part in device.mig if part.name == profile), None)
    compute = re.match(r"(\d)g\.", profile)
    if known is None or compute is None or not device.memory_bytes:
        return None
    eighths = min(max(round(8 * known.memory_bytes / device.memory_bytes), 1), 8)
    return device, (min(int(compute[1]), 7), eighths)


def match_gpu(name: str, memory_bytes: int | None, catalog: Catalog) -> Device | None:
    """The device called ``name`` by the driver; None where the catalog has none such.

    Without ``memory_bytes`` the name's own decides where there are several, else the smallest.
    """
    if memory_bytes is None:
        told = re.search(r"(\d+) ?GB", name)
        sizes = sorted({d.memory_bytes for d in catalog.devices if d.memory_bytes and d.kind == "gpu"})
        tried = [int(told[1]) * 10**9] if told else sizes
        return next((found for size in tried if (found := match_gpu(name, size, catalog))), None)
    product, form = name_parts(name)
    fitting = [
        device
        for device in catalog.devices
        if device.kind == "gpu"
        and name_parts(device.name)[0] == product
        and (device.memory_bytes is None or _apart(device, memory_bytes) <= _MEMORY_SLACK)
    ]
    # PCIe and NVL cards say so in their names; what does not is a module, or comes in one form only.
    wanted = form or "SXM"
    exact = [device for device in fitting if name_parts(device.name)[1] == wanted]
    formless = [device for device in fitting if not name_parts(device.name)[1]]
    return min(exact or formless, key=lambda device: _apart(device, memory_bytes), default=None)


def _apart(device: Device, memory_bytes: int) -> float:
    return abs((device.memory_bytes or memory_bytes) - memory_bytes) / memory_bytes


def name_parts(name: str) -> tuple[str, str]:
    """The product, spelt together, and the form factor where it is told: ``RTX4090``, ``PCIE``."""
    words = [word for word in re.split(r"[\s\-_/]+", name.upper()) if word and word not in _BRANDS]
    form = next((f for word in words for f in FORMS if re.fullmatch(f + r"\d?", word)), "")
    product = [w for w in words if not re.fullmatch(r"\d+GB|HBM\d\w?|(SXM|PCIE|NVL)\d?", w)]
    return "".join(product), form
