"""Finds one entry of the catalog by name, and lists a device's figures with their sources."""

from __future__ import annotations

from dataclasses import dataclass

from planner.catalog.catalog import Catalog, nearest
from planner.domain.device import Device, Source
from planner.domain.offer import Offer
from planner.errors import CatalogError


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a device as people read it, such as ``memory``, ``24 GB``."""

    name: str
    value: str
    source: Source


def find(catalog: Catalog, name: str) -> Device | tuple[Offer, ...]:
    """The device called ``name``, or the offers with that id, instance type or ``provider/type``.

    Offers come cheapest first. CatalogError naming the nearest known one when there is neither.
    """
    for device in catalog.devices:
        if device.name == name:
            return device
    found = [offer for offer in catalog.offers if name in _names(offer)]
    if found:
        return tuple(sorted(found, key=lambda offer: (offer.usd_per_hour, offer.id)))
    known = {known for offer in catalog.offers for known in _names(offer)[:1]} | {
        d.name for d in catalog.devices
    }
    raise CatalogError(f"neither a device nor an instance type: {name!r}{nearest(name, known)}")


def figures(device: Device) -> tuple[Figure, ...]:
    """The figures that a device gives, in a fixed order, each with its source."""
    sources = dict(device.sources)
    stated = {
        "memory": f"{_rounded(device.memory_bytes, 1e9)} GB",
        "bandwidth": f"{_rounded(device.bandwidth_bytes_per_s, 1e9)} GB/s",
        "tdp": f"{_rounded(device.tdp_w, 1)} W",
        "compute_capability": str(device.compute_capability),
        "cores": f"{device.cores} a socket",
        "mig": ", ".join(f"{s.max_per_device} x {s.name}" for s in device.mig),
    }
    stated |= {precision: f"{rate / 1e12:.5g} T op/s" for precision, rate in device.peak_ops_per_s}
    return tuple(Figure(name, value, sources[name]) for name, value in stated.items() if name in sources)


def _names(offer: Offer) -> tuple[str, ...]:
    return offer.instance_type, f"{offer.provider}/{offer.instance_type}", offer.id


def _rounded(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.6g}"
