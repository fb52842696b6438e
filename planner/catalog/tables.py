"""Reads the catalog's CSV: ``instances/<provider>.csv`` (what a type has), ``prices/<provider>.csv`` and
``regions.csv``."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.catalog.catalog import Region
from planner.catalog.fields import FieldError, Fields, Problem
from planner.domain.device import Device, Source
from planner.domain.offer import ON_DEMAND, RESERVED, SPOT
from planner.units import GIB

PURCHASES = (ON_DEMAND, SPOT, RESERVED)
TERMS = ("1yr", "3yr")


@dataclass(frozen=True, slots=True)
class Columns:
    """Those that a table must have and those that it may have, in any order."""

    needed: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return *self.needed, *self.optional


INSTANCE_COLUMNS = Columns(
    ("instance_type", "device", "device_count", "vcpus", "memory_gib", "source"), ("family", "note")
)
PRICE_COLUMNS = Columns(
    ("instance_type", "region", "purchase", "usd_per_hour", "source"), ("term", "zones", "note")
)
REGION_COLUMNS = Columns(("provider", "region", "grams_co2_per_kwh", "source"), ("note",))

InstanceKey = tuple[str, str]
"""Provider and instance type."""
PriceKey = tuple[InstanceKey, str, str, str]
"""Instance, region, purchase and term."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What an instance type has, in every region."""

    provider: str
    instance_type: str
    device: str
    device_count: float
    vcpus: int
    memory_bytes: int | None
    source: Source
    note: str
    family: str = ""
    """The quota it counts under, in vCPUs or for a GPU in GPUs; empty: as ``quota_family`` has it."""

    @property
    def key(self) -> InstanceKey:
        return self.provider, self.instance_type


@dataclass(frozen=True, slots=True)
class Price:
    """What an instance type costs in one region, bought one way."""

    instance: InstanceKey
    region: str
    purchase: str
    usd_per_hour: float
    source: Source
    note: str
    term: str = ""
    zones: tuple[str, ...] = ()

    @property
    def key(self) -> PriceKey:
        return self.instance, self.region, self.purchase, self.term


def read_instances(
    file: Path, devices: Mapping[str, Device], sources: Mapping[str, Source], problems: list[Problem]
) -> dict[InstanceKey, Instance]:
    """The instance types of the provider that the file is named after."""
    instances: dict[InstanceKey, Instance] = {}
    for fields in _rows(file, INSTANCE_COLUMNS, problems):
        try:
            instance = _instance(fields, file.stem, devices, sources)
            if instance.key in instances:
                raise fields.fail("instance_type", "each type once")
            instances[instance.key] = instance
        except FieldError as error:
            problems.append(error.problem)
    return instances


def read_prices(
    file: Path,
    instances: Collection[InstanceKey],
    sources: Mapping[str, Source],
    problems: list[Problem],
) -> dict[PriceKey, Price]:
    """The prices of the provider that the file is named after."""
    provider = file.stem
    types = {name for seller, name in instances if seller == provider}
    prices: dict[PriceKey, Price] = {}
    for fields in _rows(file, PRICE_COLUMNS, problems):
        try:
            price = _price(fields, provider, types, sources)
            if price.key in prices:
                raise fields.fail("instance_type", "one price for each type, region, purchase and term")
            prices[price.key] = price
        except FieldError as error:
            problems.append(error.problem)
    return prices


def read_regions(
    file: Path, sources: Mapping[str, Source], problems: list[Problem]
) -> dict[tuple[str, str], Region]:
    """What is known of regions, by provider and name."""
    regions: dict[tuple[str, str], Region] = {}
    for fields in _rows(file, REGION_COLUMNS, problems):
        try:
            region = Region(
                provider=fields.text("provider"),
                name=fields.text("region"),
                grams_co2_per_kwh=fields.number("grams_co2_per_kwh", zero=True),
                source=sources[fields.choice("source", sources)],
                note=fields.optional_text("note"),
            )
            if (region.provider, region.name) in regions:
                raise fields.fail("region", "each region of a provider once")
            regions[region.provider, region.name] = region
        except FieldError as error:
            problems.append(error.problem)
    return regions


def _price(fields: Fields, provider: str, types: Collection[str], sources: Mapping[str, Source]) -> Price:
    purchase = fields.choice("purchase", PURCHASES)
    if purchase != RESERVED and fields.has("term"):
        raise fields.fail("term", f"nothing, for {purchase} is not for a term")
    return Price(
        instance=(provider, fields.choice("instance_type", types)),
        region=fields.text("region"),
        purchase=purchase,
        usd_per_hour=fields.number("usd_per_hour"),
        source=sources[fields.choice("source", sources)],
        note=fields.optional_text("note"),
        term=fields.choice("term", TERMS) if fields.has("term") else "",
        zones=tuple(fields.optional_text("zones").split()),
    )


def _instance(
    fields: Fields, provider: str, devices: Mapping[str, Device], sources: Mapping[str, Source]
) -> Instance:
    device = devices[fields.choice("device", devices)]
    count = fields.number("device_count", zero=True)
    if device.kind == "gpu" and count == 0:
        raise fields.fail("device_count", f"a number above 0, for {device.name} is a GPU")
    if device.kind == "cpu" and count != 0:
        raise fields.fail("device_count", f"0, for {device.name} is a CPU and vcpus say how much of it")
    memory = fields.optional_number("memory_gib")
    return Instance(
        provider=provider,
        instance_type=fields.text("instance_type"),
        device=device.name,
        device_count=count,
        vcpus=fields.whole("vcpus"),
        memory_bytes=None if memory is None else round(memory * GIB),
        source=sources[fields.choice("source", sources)],
        note=fields.optional_text("note"),
        family=fields.optional_text("family"),
    )


def _rows(file: Path, columns: Columns, problems: list[Problem]) -> Iterator[Fields]:
    """The rows under a header that holds the needed columns, in any order."""
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader, [])
            wrong = _header_problem(header, columns)
            if wrong:
                problems.append(Problem(str(file), 1, wrong))
                return
            for row in reader:
                if len(row) == len(header):
                    yield Fields(str(file), reader.line_num, dict(zip(header, row, strict=True)), {})
                elif row:
                    wrong = f"{len(row)} cells, expected {len(header)}: {','.join(header)}"
                    problems.append(Problem(str(file), reader.line_num, wrong))
        except (csv.Error, UnicodeDecodeError) as error:
            problems.append(Problem(str(file), reader.line_num, f"not valid CSV: {error}"))


def _header_problem(header: list[str], columns: Columns) -> str | None:
    for column in columns.needed:
        if column not in header:
            return f"column {column!r} is missing, expected {','.join(columns.all)}"
    for column in header:
        if column not in columns.all:
            return f"unknown column {column!r}, expected {','.join(columns.all)}"
    return "a column is given twice" if len(set(header)) < len(header) else None
