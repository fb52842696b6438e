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


def match_gpu(name: str, memory_bytes: int, catalog: Catalog) -> Device | None:
    """The device called ``name`` by the driver; None where the catalog has none such."""
    product, form = _parts(name)
    fitting = [
        device
        for device in catalog.devices
        if device.kind == "gpu"
        and _parts(device.name)[0] == product
        and (device.memory_bytes is None or _apart(device, memory_bytes) <= _MEMORY_SLACK)
    ]
    # PCIe and NVL cards say so in their names; what does not is a module, or comes in one form only.
    wanted = form or "SXM"
    exact = [device for device in fitting if _parts(device.name)[1] == wanted]
    formless = [device for device in fitting if not _parts(device.name)[1]]
    return min(exact or formless, key=lambda device: _apart(device, memory_bytes), default=None)


def _apart(device: Device, memory_bytes: int) -> float:
    return abs((device.memory_bytes or memory_bytes) - memory_bytes) / memory_bytes


def _parts(name: str) -> tuple[str, str]:
    """The product, spelt together, and the form factor where it is told: ``RTX4090``, ``PCIE``."""
    words = [word for word in re.split(r"[\s\-_/]+", name.upper()) if word and word not in _BRANDS]
    form = next((f for word in words for f in FORMS if re.fullmatch(f + r"\d?", word)), "")
    product = [w for w in words if not re.fullmatch(r"\d+GB|HBM\d\w?|(SXM|PCIE|NVL)\d?", w)]
    return "".join(product), form
