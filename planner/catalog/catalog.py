"""What the hardware catalog holds once it is read: devices, offers, and how to recognise a CPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from planner.domain.device import Device, Source
from planner.domain.offer import Offer
from planner.errors import CatalogError


@dataclass(frozen=True, slots=True)
class CpuSignature:
    """What identifies the CPUs of one device: CPUID vendor, family, models and (where set) steppings.

    ``instruction_sets`` are those that matter to inference, named as in /proc/cpuinfo.
    """

    device: str
    vendor: str
    family: int
    models: tuple[int, ...]
    steppings: tuple[int, ...]
    instruction_sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """``grams_co2_per_kwh`` is the carbon intensity of its electricity, as ``source`` gives it."""

    provider: str
    name: str
    grams_co2_per_kwh: float
    source: Source
    note: str = ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """``digest`` is the SHA-256 of the files it was read from, so that a plan can name its prices.

    ``regions`` are those with a figure of their own, few or none.
    """

    devices: tuple[Device, ...]
    offers: tuple[Offer, ...]
    cpu_signatures: tuple[CpuSignature, ...]
    digest: str
    regions: tuple[Region, ...] = ()

    def device(self, name: str) -> Device:
        """The device called ``name``; CatalogError naming the nearest known one otherwise."""
        for device in self.devices:
            if device.name == name:
                return device
        raise CatalogError(
            f"no device {name!r} in the catalog{nearest(name, (d.name for d in self.devices))}"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known names like ``name``, or all of them when few."""
    names = sorted(set(known))
    by_folded = {known_name.lower(): known_name for known_name in names}
    close = [by_folded[key] for key in get_close_matches(name.lower(), by_folded, n=3, cutoff=0.5)]
    if close:
        return f"; did you mean {' or '.join(close)}?"
    if not names:
        return "; there are none"
    listed = ", ".join(names) if len(names) <= 12 else ", ".join(names[:12]) + ", ..."
    return f"; known: {listed}"
