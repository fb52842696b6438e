"""Reads the catalog's CSV: ``instances/<provider>.csv`` (what a type has) and ``prices/<provider>.csv``."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.catalog.fields import FieldError, Fields, Problem
from planner.domain.device import Device, Source
from planner.domain.offer import ON_DEMAND, RESERVED, SPOT
from planner.units import GIB

PURCHASES = (ON_DEMAND, SPOT, RESERVED)
_INSTANCE_COLUMNS = ("instance_type", "device", "device_count", "vcpus", "memory_gib", "source")
_PRICE_COLUMNS = ("instance_type", "region", "purchase", "usd_per_hour", "source")
_OPTIONAL = ("note",)


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

    @property
    def key(self) -> tuple[str, str]:
        return self.provider, self.instance_type


@dataclass(frozen=True, slots=True)
class Price:
    """What an instance type costs in one region, bought one way."""

    instance: tuple[str, str]
    region: str
    purchase: str
    usd_per_hour: float
    source: Source
    note: str

    @property
    def key(self) -> tuple[tuple[str, str], str, str]:
        return self.instance, self.region, self.purchase


def read_instances(
    file: Path, devices: Mapping[str, Device], sources: Mapping[str, Source], problems: list[Problem]
) -> dict[tuple[str, str], Instance]:
    """The instance types of the provider that the file is named after."""
    instances: dict[tuple[str, str], Instance] = {}
    for fields in _rows(file, _INSTANCE_COLUMNS, problems):
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
    instances: Collection[tuple[str, str]],
    sources: Mapping[str, Source],
    problems: list[Problem],
) -> dict[tuple[tuple[str, str], str, str], Price]:
    """The prices of the provider that the file is named after."""
    types = {name for provider, name in instances if provider == file.stem}
    prices: dict[tuple[tuple[str, str], str, str], Price] = {}
    for fields in _rows(file, _PRICE_COLUMNS, problems):
        try:
            price = Price(
                instance=(file.stem, fields.choice("instance_type", types)),
                region=fields.text("region"),
                purchase=fields.choice("purchase", PURCHASES),
                usd_per_hour=fields.number("usd_per_hour"),
                source=sources[fields.choice("source", sources)],
                note=fields.optional_text("note"),
            )
            if price.key in prices:
                raise fields.fail("instance_type", "one price for each type, region and purchase")
            prices[price.key] = price
        except FieldError as error:
            problems.append(error.problem)
    return prices


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
    )


def _rows(file: Path, columns: tuple[str, ...], problems: list[Problem]) -> Iterator[Fields]:
    """The rows under a header that holds ``columns``, in any order, and perhaps ``note``."""
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


def _header_problem(header: list[str], columns: tuple[str, ...]) -> str | None:
    for column in columns:
        if column not in header:
            return f"column {column!r} is missing, expected {','.join((*columns, *_OPTIONAL))}"
    for column in header:
        if column not in (*columns, *_OPTIONAL):
            return f"unknown column {column!r}, expected {','.join((*columns, *_OPTIONAL))}"
    return "a column is given twice" if len(set(header)) < len(header) else None
