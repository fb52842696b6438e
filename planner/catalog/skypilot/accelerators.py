"""Which device of the catalog SkyPilot's name of an accelerator means, on a given provider's machine.

SkyPilot spells ``RTXA6000``, ``RTX6000-Ada``, ``H100-SXM``, ``H100-MEGA``; a bare ``A100`` or ``V100`` is the
one with least memory, unless ``GpuInfo`` says otherwise. Whether a card is an SXM module or goes into a PCIe
slot decides its speed and is not in most names: it follows from the machine.
"""

from __future__ import annotations

import re

from planner.catalog.catalog import Catalog
from planner.catalog.gpus import name_parts
from planner.catalog.skypilot.rows import Row
from planner.domain.device import Device

_SPELLINGS = {
    "A6000": "RTXA6000",
    "6000ADA": "RTX6000ADA",
    "4090": "RTX4090",
    "H100MEGA": "H100",
    "RTXPRO6000SE": "RTXPRO6000SERVER",
    "RTXPROSERVER6000": "RTXPRO6000SERVER",
    "RTXPRO6000S": "RTXPRO6000SERVER",  # Vast; its workstation edition ends in WS
}
"""Product names as SkyPilot and the providers spell them, to the catalog's, both without separators."""

_FORM_OF_MACHINE = tuple(
    (provider, re.compile(shape), form)
    for provider, shape, form in (
        ("aws", r"p\d", "SXM"),  # P3 to P6: NVLink machines
        ("gcp", r"a\d-", "SXM"),  # A2, A3, A4: NVLink machines
        ("gcp", r"n1-.*V100", "SXM"),
        ("azure", r"Standard_ND", "SXM"),
        ("azure", r"Standard_NCC?\d+\w*_H100_v5", "NVL"),
        ("azure", r"Standard_NC\d", "PCIE"),  # NC v3 and NC A100 v4
        ("lambda", r"gpu_8x_(a100|v100)", "SXM"),  # eight with NVLink, as the shipped catalog has them
        # fetch_runpod.py, GPU_NAME_OVERRIDES: these are RunPod's PCIe cards
        ("runpod", r"\d+x_(A100-80GB|H100)_", "PCIE"),
    )
)
_FORM_WORD = re.compile(r"(?:^|[^A-Z])(SXM\d?|PCIE|NVL)(?:[^A-Z]|$)")
_NEAR = 0.05
"""How far a GPU's memory may be from the catalog's: an H100 NVL is 8 % from an H100 read as GB or GiB."""


def device_of(row: Row, provider: str, catalog: Catalog, sold_with: Device | None = None) -> Device | None:
    """The one device that the row's GPU can be; None where there is none, or more than one.

    ``sold_with`` is the GPU that the catalog says this instance type has, which holds unless the row's
    memory says otherwise (on Vast, types of one name differ).
    """
    if sold_with is not None:
        return sold_with if row.gpu_gib is None or _apart(sold_with, row.gpu_gib) <= _NEAR else None
    product, _ = name_parts(row.accelerator)
    product = _SPELLINGS.get(product, product)
    likely = [d for d in catalog.devices if d.kind == "gpu" and name_parts(d.name)[0] == product]
    likely = _of_memory(likely, _stated_gb(row))
    form = _form(row, provider)
    exact = [d for d in likely if form and name_parts(d.name)[1] == form]
    formless = [d for d in likely if not name_parts(d.name)[1]]
    chosen = exact or formless or ([] if form else likely)
    return chosen[0] if len(chosen) == 1 else None


def _stated_gb(row: Row) -> float | None:
    named = re.search(r"(\d+)GB", row.accelerator.upper())
    return float(named.group(1)) if named else row.gpu_gib


def _of_memory(devices: list[Device], gb: float | None) -> list[Device]:
    """Those of that memory, read as GB or as GiB; without one, those with the least."""
    known = [device for device in devices if device.memory_bytes is not None]
    if gb is None:
        least = min((device.memory_bytes or 0 for device in known), default=0)
        return [device for device in known if device.memory_bytes == least]
    return [device for device in known if _apart(device, gb) <= _NEAR]


def _apart(device: Device, gb: float) -> float:
    nominal = (device.memory_bytes or 0) / 1e9 or gb
    return min(abs(gb - nominal), abs(gb * 2**30 / 1e9 - nominal)) / nominal


def _form(row: Row, provider: str) -> str:
    """SXM, PCIE or NVL, as a name says or the machine has it; empty where neither tells."""
    said = _FORM_WORD.search(row.gpu_words.upper())
    if said:
        return said.group(1)[:3] if said.group(1).startswith("SXM") else said.group(1)
    machine = row.instance_type
    return next((f for p, shape, f in _FORM_OF_MACHINE if p == provider and shape.match(machine)), "")
