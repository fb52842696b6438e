"""Which device of the catalog a CPU is, by CPUID; the nearest one, said so, when it is none of them.

CPUID family, model and stepping tell server generations apart; hypervisors pass them on. Sources of the
ids are in hardware_catalog/devices/cpus.yaml.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from planner.catalog.catalog import Catalog, CpuSignature
from planner.domain.device import Device
from planner.errors import CatalogError

INSTRUCTION_SETS = ("amx_int8", "avx512_vnni", "avx512f", "avx2")
"""What decides how fast a CPU infers, most telling first; named as in /proc/cpuinfo."""

_PLATFORM = re.compile(r"Family (\d+) Model (\d+) Stepping (\d+)(?:, (\w+))?")


@dataclass(frozen=True, slots=True)
class CpuIdentity:
    """What a CPU says of itself; None where the system does not tell."""

    vendor: str
    family: int | None
    model: int | None
    stepping: int | None
    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CpuMatch:
    """``exact`` where CPUID names the device; otherwise ``note`` says what the CPU is and what stands in."""

    device: Device
    exact: bool
    note: str


def local_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> CpuIdentity:
    """This machine's CPU: from /proc/cpuinfo where there is one, else from ``platform``, without flags."""
    if cpuinfo.is_file():
        return parse_cpuinfo(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    return parse_platform(platform.processor() or platform.machine())


def parse_cpuinfo(text: str) -> CpuIdentity:
    """The first processor of a Linux /proc/cpuinfo (x86, or Arm, which gives its implementer and part)."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip().lower(), value.strip())
    if "vendor_id" not in values and "cpu implementer" in values:
        part = f"Arm implementer {values['cpu implementer']}, part {values.get('cpu part', '?')}"
        return CpuIdentity("Arm", None, None, None, part, tuple(values.get("features", "").split()))
    return CpuIdentity(
        vendor=values.get("vendor_id", ""),
        family=_whole(values.get("cpu family")),
        model=_whole(values.get("model")),
        stepping=_whole(values.get("stepping")),
        name=values.get("model name", "unnamed CPU"),
        flags=tuple(values.get("flags", "").split()),
    )


def parse_platform(text: str) -> CpuIdentity:
    """What ``platform.processor()`` gives: CPUID in words on Windows, little more than a name elsewhere."""
    found = _PLATFORM.search(text)
    if not found:
        return CpuIdentity("", None, None, None, text or "unnamed CPU", ())
    family, model, stepping = (int(found.group(i)) for i in (1, 2, 3))
    return CpuIdentity(found.group(4) or "", family, model, stepping, text, ())


def match_cpu(identity: CpuIdentity, catalog: Catalog) -> CpuMatch:
    """The device that ``identity`` is; when CPUID names none, the nearest by vendor and instruction sets."""
    if not catalog.cpu_signatures:
        raise CatalogError("no device of the catalog has a cpuid; add one to devices/*.yaml")
    same_model = [s for s in catalog.cpu_signatures if _same_model(s, identity)]
    for signature in same_model:
        if not signature.steppings or identity.stepping in signature.steppings:
            return CpuMatch(catalog.device(signature.device), True, _hidden(signature, identity))
    # where the distance ties, min takes the first in the file: the oldest, which promises least
    chosen = min(same_model or catalog.cpu_signatures, key=lambda s: _distance(s, identity))
    note = (
        f"this CPU ({_describe(identity)}) is not in the catalog: prices are for the nearest, {chosen.device}"
    )
    return CpuMatch(catalog.device(chosen.device), False, note)


def sold_as(match: CpuMatch, identity: CpuIdentity, catalog: Catalog) -> CpuMatch:
    """The device whose offers price this CPU: its own, or the nearest that the catalog has offers of."""
    sold = {offer.device for offer in catalog.offers}
    nearby = [s for s in catalog.cpu_signatures if s.device in sold]
    if match.device.name in sold or not nearby:
        return match
    chosen = min(nearby, key=lambda s: _distance(s, identity))
    note = (
        f"the catalog has no offer of this CPU ({_describe(identity)}): "
        f"prices are for the nearest, {chosen.device}"
    )
    return CpuMatch(catalog.device(chosen.device), False, note)


def _same_model(signature: CpuSignature, identity: CpuIdentity) -> bool:
    same_family = (signature.vendor, signature.family) == (identity.vendor, identity.family)
    return same_family and identity.model in signature.models


def _distance(signature: CpuSignature, identity: CpuIdentity) -> tuple[bool, int, int]:
    """Vendor first, then how many instruction sets differ, then CPUID family; models have no order."""
    differing = sum((s in signature.instruction_sets) != (s in identity.flags) for s in INSTRUCTION_SETS)
    families_apart = abs(signature.family - (identity.family or 0))
    return signature.vendor != identity.vendor, differing, families_apart


def _hidden(signature: CpuSignature, identity: CpuIdentity) -> str:
    """Says which instruction sets of the device this machine does not offer, where it tells its flags."""
    missing = [s for s in INSTRUCTION_SETS if s in signature.instruction_sets and s not in identity.flags]
    if not identity.flags or not missing:
        return ""
    return (
        f"this {signature.device} does not offer {', '.join(missing)} (hidden by its hypervisor or firmware)"
    )


def _describe(identity: CpuIdentity) -> str:
    ids = f"{identity.vendor} family {identity.family} model {identity.model} stepping {identity.stepping}"
    return identity.name if identity.family is None else f"{identity.name}, {ids}"


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
