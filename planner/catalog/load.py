"""Reads catalog folders into a Catalog: the one that ships, and a user's own laid over it.

A folder holds ``sources.yaml``, ``devices/*.yaml``, ``instances/<provider>.csv``,
``prices/<provider>.csv`` and ``regions.csv``, and in ``imported/`` what `planner catalog import` wrote, of
the same shape; any of them may be absent. docs/catalog.md describes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from planner.catalog.catalog import Catalog, CpuSignature, Region
from planner.catalog.families import quota_family
from planner.catalog.fields import Problem
from planner.catalog.sheets import read_devices, read_sources
from planner.catalog.tables import (
    Instance,
    InstanceKey,
    Price,
    PriceKey,
    read_instances,
    read_prices,
    read_regions,
)
from planner.domain.device import Device, Source
from planner.domain.offer import Offer
from planner.errors import CatalogError
from planner.files import shipped

IMPORTED = "imported"
"""Where in a folder imported tables lie: under the folder's own, which replace them."""
_PATTERNS = ("sources.yaml", "devices/*.yaml", "instances/*.csv", "prices/*.csv", "regions.csv")


def load(extra: Path | None = None) -> Catalog:
    """The shipped catalog, with ``extra`` laid over it: a row with the same key replaces, others extend.

    Keys: a source's id, a device's name, a provider's instance type, a provider's region, and for a price
    the type, region, purchase and term. Raises CatalogError naming file, line, key and value of the first
    thing wrong.
    """
    draft = _draft(extra)
    if draft.problems:
        more = len(draft.problems) - 1
        rest = f" (and {more} more; `planner catalog check` lists them)" if more else ""
        raise CatalogError(f"{draft.problems[0]}{rest}")
    return Catalog(
        devices=tuple(draft.devices.values()),
        offers=tuple(_offer(price, draft) for price in draft.prices.values()),
        cpu_signatures=tuple(draft.signatures.values()),
        digest=draft.digest.hexdigest(),
        regions=tuple(draft.regions.values()),
    )


def check(folder: Path | None = None, imported: Path | None = None) -> tuple[Problem, ...]:
    """All that is wrong in the shipped catalog, or in ``folder`` laid over it; empty when it loads.

    ``imported`` stands in for the folder's own imported tables, before they are put there.
    """
    return tuple(_draft(folder, imported).problems)


def holds_catalog(folder: Path) -> bool:
    """Whether there is any catalog file in ``folder``, or imported into it."""
    return any(True for layer in (folder / IMPORTED, folder) for _ in _files(layer))


def shipped_folder() -> Path:
    """Where the shipped catalog lies: inside the installed package, or beside it in a checkout."""
    installed, folder = shipped("hardware_catalog")
    if folder is None:
        raise CatalogError(f"the hardware catalog is missing from {installed}; reinstall planner")
    return folder


@dataclass
class _Draft:
    """What has been read so far, by key; later folders overwrite earlier ones."""

    sources: dict[str, Source] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    signatures: dict[str, CpuSignature] = field(default_factory=dict)
    instances: dict[InstanceKey, Instance] = field(default_factory=dict)
    prices: dict[PriceKey, Price] = field(default_factory=dict)
    regions: dict[tuple[str, str], Region] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


def _draft(extra: Path | None, imported: Path | None = None) -> _Draft:
    draft = _Draft()
    _add(draft, (shipped_folder(),))
    if imported is not None:
        _add(draft, (imported, extra) if extra else (imported,))
    elif extra is not None:
        if not extra.is_dir():
            raise CatalogError(
                f"{extra} is not a folder; expected one with prices/<provider>.csv and the like"
            )
        if not holds_catalog(extra):
            raise CatalogError(f"{extra} holds no catalog file; expected prices/<provider>.csv and the like")
        _add(draft, (extra / IMPORTED, extra))
    return draft


def _add(draft: _Draft, layers: tuple[Path, ...]) -> None:
    """Reads folders laid one over the other, in the order in which their files refer to each other."""
    for layer in layers:
        for file in _files(layer):
            draft.digest.update(file.relative_to(layer).as_posix().encode() + b"\0")
            draft.digest.update(hashlib.sha256(file.read_bytes()).digest())
    for file in _in(layers, "sources.yaml"):
        draft.sources.update(read_sources(file, draft.problems))
    for layer in layers:
        _add_devices(draft, layer)
    for file in _in(layers, "instances/*.csv"):
        draft.instances.update(read_instances(file, draft.devices, draft.sources, draft.problems))
    for file in _in(layers, "prices/*.csv"):
        draft.prices.update(read_prices(file, draft.instances, draft.sources, draft.problems))
    for file in _in(layers, "regions.csv"):
        draft.regions.update(read_regions(file, draft.sources, draft.problems))


def _add_devices(draft: _Draft, folder: Path) -> None:
    seen: dict[str, str] = {}
    for file in _files(folder, "devices/*.yaml"):
        for line, device, signature in read_devices(file, draft.sources, draft.problems):
            if device.name in seen:
                wrong = f"name is {device.name!r}, expected each device once (also at {seen[device.name]})"
                draft.problems.append(Problem(str(file), line, wrong))
                continue
            seen[device.name] = f"{file}:{line}"
            draft.devices[device.name] = device
            draft.signatures.pop(device.name, None)
            if signature:
                draft.signatures[device.name] = signature


def _in(layers: tuple[Path, ...], pattern: str) -> Iterator[Path]:
    for layer in layers:
        yield from _files(layer, pattern)


def _files(folder: Path, *patterns: str) -> Iterator[Path]:
    """The catalog files of a folder in a fixed order, all kinds unless ``patterns`` say which."""
    for pattern in patterns or _PATTERNS:
        yield from sorted(folder.glob(pattern))


def _offer(price: Price, draft: _Draft) -> Offer:
    instance = draft.instances[price.instance]
    family, units = quota_family(
        instance.provider,
        instance.instance_type,
        instance.device,
        instance.device_count,
        instance.vcpus,
        price.purchase,
    )
    if instance.family:
        family, units = instance.family, instance.device_count or float(instance.vcpus)
    region = draft.regions.get((instance.provider, price.region))
    return Offer(
        provider=instance.provider,
        instance_type=instance.instance_type,
        region=price.region,
        device=instance.device,
        device_count=instance.device_count,
        vcpus=instance.vcpus,
        memory_bytes=instance.memory_bytes,
        purchase=price.purchase,
        usd_per_hour=price.usd_per_hour,
        price_source=price.source.citation,
        price_as_of=price.source.as_of,
        note=_note(price, instance),
        term=price.term,
        zones=price.zones,
        family=family,
        family_units=units,
        grams_co2_per_kwh=region.grams_co2_per_kwh if region else None,
    )


def _note(price: Price, instance: Instance) -> str:
    notes = [instance.note, price.note]
    if instance.source.quality == "from-memory":
        notes.append(f"vCPUs and memory from memory: {instance.source.citation}")
    if price.source.quality != "read":
        notes.append(f"price {price.source.quality}")
    return "; ".join(note for note in notes if note)
