"""SkyPilot's rows of one provider as instances and prices of the catalog, and what became of each row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from planner.catalog.catalog import Catalog
from planner.catalog.skypilot import google
from planner.catalog.skypilot.accelerators import device_of
from planner.catalog.skypilot.rows import MIB_PER_GIB, Row, read_rows
from planner.domain.device import Device
from planner.domain.offer import ON_DEMAND, SPOT
from planner.errors import CatalogError

UNSETTLED_CPU = "x86-mixed"
"""The catalog's device for instance types that land on several generations of CPU: none to plan with."""

_GIB_PER_VCPU_AT_MOST = 256
"""More than any cloud sells (an x1e has 31): beyond it a figure in GiB is in MiB."""
_SAME = 0.01


@dataclass(frozen=True, slots=True)
class ImportedInstance:
    """A row of ``instances/<provider>.csv``."""

    instance_type: str
    device: str
    device_count: float
    vcpus: int
    memory_gib: float | None
    note: str


@dataclass(frozen=True, slots=True)
class ImportedPrice:
    """A row of ``prices/<provider>.csv``. ``joined``: the sum of a host's price and its GPUs'."""

    instance_type: str
    region: str
    purchase: str
    usd_per_hour: float
    zones: tuple[str, ...]
    note: str
    joined: bool


Counts = tuple[tuple[str, int], ...]
"""How many of what, most first."""


@dataclass(frozen=True, slots=True)
class ProviderTables:
    """What one file gave. ``rows_read`` is ``rows_kept`` and all of ``dropped``.

    ``prices_left_out`` counts prices missing or unusable in rows that were kept for another price;
    ``unknown`` the accelerators and CPU series that the catalog has no device for, by rows.
    """

    provider: str
    file: Path
    instances: tuple[ImportedInstance, ...]
    prices: tuple[ImportedPrice, ...]
    rows_read: int
    rows_kept: int
    dropped: Counts
    prices_left_out: Counts
    repaired: Counts
    unknown: Counts


@dataclass
class _Tally:
    reasons: dict[int, str] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)
    prices_left_out: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    def drop(self, row: Row, reason: str) -> None:
        self.reasons.update(dict.fromkeys(row.lines, reason))


@dataclass(frozen=True, slots=True)
class _Known:
    """What the catalog says of a provider's machines."""

    catalog: Catalog
    by_type: Mapping[str, str]
    by_series: Mapping[str, str]
    renamed: Mapping[str, str]


def provider_tables(
    file: Path, provider: str, catalog: Catalog, renamed: Mapping[str, str]
) -> ProviderTables:
    """Reads one file. ``renamed`` says which device an accelerator is, where the catalog cannot tell.

    Raises CatalogError where the file cannot be read.
    """
    rows = list(read_rows(file, provider))
    lines = {line for row in rows for line in row.lines}
    tally, known = _Tally(), _known(catalog, provider, renamed)
    instances: dict[str, ImportedInstance] = {}
    offered: dict[tuple[str, str], dict[str, Row]] = {}
    for row in google.join(rows) if provider == "gcp" else rows:
        instance = _instance(row, provider, known, tally)
        if instance is None or not _has_price(row, tally):
            continue
        if replace(instances.setdefault(row.instance_type, instance), note="") != replace(instance, note=""):
            tally.drop(row, "another size under the same name")
            continue
        of_zones = offered.setdefault((row.instance_type, row.region), {})
        if row.zone in of_zones:
            tally.drop(row, "duplicate")
            continue
        of_zones[row.zone] = row
        tally.kept.update(row.lines)
    prices = [price for key, of_zones in offered.items() for price in _prices(key, of_zones, tally)]
    sold = {price.instance_type for price in prices}
    return ProviderTables(
        provider=provider,
        file=file,
        instances=tuple(instance for name, instance in instances.items() if name in sold),
        prices=tuple(prices),
        rows_read=len(lines),
        rows_kept=len(tally.kept),
        dropped=_most_first(Counter(r for line, r in tally.reasons.items() if line not in tally.kept)),
        prices_left_out=_most_first(tally.prices_left_out),
        repaired=_most_first(tally.repaired),
        unknown=_most_first(tally.unknown),
    )


def _instance(row: Row, provider: str, known: _Known, tally: _Tally) -> ImportedInstance | None:
    """The machine that the row prices, or None with the reason tallied."""
    if not row.instance_type:
        tally.drop(row, "accelerator without a machine" if row.accelerator else "no instance type")
        return None
    if not row.region:
        tally.drop(row, "no region")
        return None
    if not row.vcpus or row.vcpus != int(row.vcpus):
        tally.drop(row, "no whole vCPUs" if row.vcpus else "no vCPUs, or its GPUs have no price")
        return None
    if row.accelerator and not (row.count and row.count > 0):
        tally.drop(row, "no number of accelerators")
        return None
    device = _gpu(row, provider, known) if row.accelerator else _cpu(row, provider, known)
    if device is None:
        what = row.accelerator or f"CPU of {series(provider, row.instance_type)}"
        tally.unknown[what] += len(row.lines)
        tally.drop(row, "accelerator not in the catalog" if row.accelerator else "CPU not in the catalog")
        return None
    if device.name == UNSETTLED_CPU:
        tally.drop(row, "CPU not settled by the type")
        return None
    memory, note = _memory(row, provider, device, tally)
    return ImportedInstance(
        instance_type=row.instance_type,
        device=device.name,
        device_count=row.count or 0.0 if row.accelerator else 0.0,
        vcpus=int(row.vcpus),
        memory_gib=memory,
        note=note,
    )


def _gpu(row: Row, provider: str, known: _Known) -> Device | None:
    named = known.renamed.get(row.accelerator.lower())
    if named is not None:
        return known.catalog.device(named)
    by_type = known.by_type.get(row.instance_type)
    sold_with = known.catalog.device(by_type) if by_type else None
    gpu = sold_with if sold_with is not None and sold_with.kind == "gpu" else None
    return device_of(row, provider, known.catalog, gpu)


def _cpu(row: Row, provider: str, known: _Known) -> Device | None:
    """A CPU is told by its series alone, as far as the catalog has others of the series."""
    name = known.by_series.get(series(provider, row.instance_type))
    return None if name is None or row.arch.startswith("arm") else known.catalog.device(name)


def _known(catalog: Catalog, provider: str, renamed: Mapping[str, str]) -> _Known:
    kinds = {device.name: device.kind for device in catalog.devices}
    by_type = {o.instance_type: o.device for o in catalog.offers if o.provider == provider}
    of_series: dict[str, set[str]] = {}
    for name, device in by_type.items():
        if kinds[device] == "cpu":
            of_series.setdefault(series(provider, name), set()).add(device)
    by_series = {name: min(devices) for name, devices in of_series.items() if len(devices) == 1}
    for accelerator, device in renamed.items():
        if catalog.device(device).kind != "gpu":
            raise CatalogError(f"accelerator {accelerator}: {device} is a CPU; name a GPU of the catalog")
    return _Known(catalog, by_type, by_series, {name.lower(): device for name, device in renamed.items()})


def series(provider: str, instance_type: str) -> str:
    """What settles the CPU: AWS's ``c7i``, Google's ``c3``, Azure's ``Standard_D_s_v5``; else the type."""
    if provider == "aws":
        return instance_type.partition(".")[0]
    if provider == "gcp":
        return instance_type.partition("-")[0]
    if provider == "azure":
        return re.sub(r"(?<=[A-Z])\d+(-\d+)?(?=[a-z_])", "_", instance_type, count=1)
    return instance_type


def _memory(row: Row, provider: str, device: Device, tally: _Tally) -> tuple[float | None, str]:
    """The host's memory in GiB, repaired where the provider's is known to be off, and a note on it."""
    gib = row.memory_gib
    if not gib or gib < 0 or not row.vcpus:
        return None, ""
    if gib / row.vcpus > _GIB_PER_VCPU_AT_MOST:
        tally.repaired["memory in MiB, not GiB"] += 1
        return gib / MIB_PER_GIB, ""
    if provider == "runpod" and device.memory_bytes and row.count:
        of_gpu = device.memory_bytes / 1e9
        if any(abs(gib / gpus / of_gpu - 1) < _SAME for gpus in (1, row.count)):
            tally.repaired["the GPU's memory for the host's: left blank"] += 1
            return None, "host memory unknown: RunPod's row has the GPU's in its place"
    return gib, ""


def _has_price(row: Row, tally: _Tally) -> bool:
    if _usable(row.price) or _usable(row.spot_price):
        return True
    tally.drop(row, "blank price" if row.price is None else "price of zero or below")
    return False


def _usable(price: float | None) -> bool:
    return price is not None and price > 0


def _prices(key: tuple[str, str], of_zones: Mapping[str, Row], tally: _Tally) -> Iterable[ImportedPrice]:
    """On-demand and spot of one type in one region: the dearest zone's, so that no zone costs more."""
    rows = list(of_zones.values())
    on_demand = _price(key, ON_DEMAND, [(row, row.price) for row in rows], tally)
    spot = _price(key, SPOT, [(row, _spot(row, tally)) for row in rows], tally)
    return [price for price in (on_demand, spot) if price]


def _spot(row: Row, tally: _Tally) -> float | None:
    """Some providers repeat the on-demand price there (RunPod), or had a spot price above it (Google)."""
    if _usable(row.price) and row.spot_price and row.price and row.spot_price >= row.price:
        tally.prices_left_out["spot price not below on-demand"] += 1
        return None
    return row.spot_price


def _price(
    key: tuple[str, str], purchase: str, priced: list[tuple[Row, float | None]], tally: _Tally
) -> ImportedPrice | None:
    good = [(row, price) for row, price in priced if price is not None and price > 0]
    if purchase == ON_DEMAND and len(good) < len(priced):
        tally.prices_left_out["no on-demand price"] += len(priced) - len(good)
    if not good:
        return None
    amounts = [round(price, 6) for _, price in good]
    note = ""
    if min(amounts) < max(amounts):
        note = f"price of the dearest of {len(good)} zones, the cheapest has {min(amounts):g}"
    zones = tuple(sorted(row.zone for row, _ in good if row.zone))
    return ImportedPrice(*key, purchase, max(amounts), zones, note, good[0][0].joined)


def _most_first(counts: Counter[str]) -> Counts:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
