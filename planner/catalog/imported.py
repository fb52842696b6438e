"""Imports: SkyPilot's tables written into a user's catalog folder, under what the user wrote there.

They lie in its ``imported/`` folder, which has the shape of the catalog itself and belongs to the importer: a
later import of a provider replaces that provider's files there and nothing else.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from planner.catalog.fields import Problem
from planner.catalog.load import IMPORTED, check, holds_catalog, load
from planner.catalog.sheets import read_sources
from planner.catalog.skypilot import ProviderTables, catalog_files, provider_tables
from planner.domain.device import Source
from planner.errors import CatalogError

_INSTANCE_HEADER = ("instance_type", "device", "device_count", "vcpus", "memory_gib", "source", "note")
_PRICE_HEADER = ("instance_type", "region", "purchase", "usd_per_hour", "source", "zones", "note")


@dataclass(frozen=True, slots=True)
class Import:
    """What `planner catalog import` did: one entry of ``providers`` for each file, and where it went.

    ``as_of`` is the date that the prices of each provider carry.
    """

    folder: Path
    providers: tuple[ProviderTables, ...]
    as_of: tuple[tuple[str, str], ...]


def import_skypilot(
    source: Path,
    folder: Path,
    providers: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
    as_of: date | None = None,
) -> Import:
    """Reads SkyPilot's catalogs in ``source`` and writes them to ``folder``, all or nothing.

    ``renamed`` maps accelerators to devices of the catalog where their names do not settle it. Prices are
    dated ``as_of``, or by each file's time of change. CatalogError where nothing can be used.
    """
    catalog = load(folder if holds_catalog(folder) else None)
    read = [
        (provider_tables(file, provider, catalog, renamed or {}), _date(file, as_of))
        for provider, file in catalog_files(source, providers).items()
    ]
    usable = [(tables, day) for tables, day in read if tables.prices]
    if not usable:
        reasons = ", ".join(f"{count} {reason}" for tables, _ in read for reason, count in tables.dropped)
        raise CatalogError(
            f"{source}: no row can be used ({reasons or 'there are none'}); nothing was written"
        )
    _write(folder, usable)
    return Import(
        folder, tuple(tables for tables, _ in read), tuple((t.provider, day.isoformat()) for t, day in read)
    )


def _date(file: Path, as_of: date | None) -> date:
    return as_of or datetime.fromtimestamp(file.stat().st_mtime, UTC).date()


def _write(folder: Path, usable: list[tuple[ProviderTables, date]]) -> None:
    """Makes the new ``imported/`` beside the old one, checks that it loads, then swaps them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".import-") as scratch:
            staged, old = Path(scratch) / IMPORTED, folder / IMPORTED
            if old.is_dir():
                shutil.copytree(old, staged)
            for name in ("instances", "prices"):
                (staged / name).mkdir(parents=True, exist_ok=True)
            sources = _sources(staged)
            for tables, day in usable:
                _write_provider(staged, tables, day, sources)
            (staged / "sources.yaml").write_text(_yaml(sources), encoding="utf-8")
            problems = check(folder, staged)
            if problems:
                raise CatalogError(f"what was imported does not load: {problems[0]}; nothing was written")
            if old.is_dir():
                old.rename(Path(scratch) / "old")
            staged.rename(old)
    except OSError as error:
        raise CatalogError(f"{folder}: cannot be written: {error.strerror}") from None


def _write_provider(staged: Path, tables: ProviderTables, day: date, sources: dict[str, Source]) -> None:
    name, joined = f"skypilot-{tables.provider}", f"skypilot-{tables.provider}-joined"
    digest = hashlib.sha256(tables.file.read_bytes()).hexdigest()[:12]
    citation = f"SkyPilot's catalog, {tables.provider}/{tables.file.name} (sha256 {digest})"
    sources[name] = Source(citation, day.isoformat(), "read")
    if any(price.joined for price in tables.prices):
        added = f"{citation}: the price of the machine and that of its GPUs, without local SSD"
        sources[joined] = Source(added, day.isoformat(), "derived")
    instances = (
        (
            i.instance_type,
            i.device,
            f"{i.device_count:g}",
            i.vcpus,
            "" if i.memory_gib is None else f"{i.memory_gib:.6g}",
            name,
            i.note,
        )
        for i in tables.instances
    )
    prices = (
        (
            p.instance_type,
            p.region,
            p.purchase,
            f"{p.usd_per_hour:.6f}".rstrip("0").rstrip("."),
            joined if p.joined else name,
            " ".join(p.zones),
            p.note,
        )
        for p in tables.prices
    )
    _write_csv(staged / "instances" / f"{tables.provider}.csv", _INSTANCE_HEADER, instances)
    _write_csv(staged / "prices" / f"{tables.provider}.csv", _PRICE_HEADER, prices)


def _write_csv(file: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    file.write_text(text.getvalue(), encoding="utf-8")


def _sources(staged: Path) -> dict[str, Source]:
    """Those of earlier imports."""
    file, problems = staged / "sources.yaml", list[Problem]()
    return read_sources(file, problems) if file.is_file() else {}


def _yaml(sources: Mapping[str, Source]) -> str:
    lines = ["# Written by `planner catalog import`; the next import writes it anew."]
    for name, source in sorted(sources.items()):
        # JSON strings are YAML strings
        lines += [
            f"{json.dumps(name)}:",
            f"  citation: {json.dumps(source.citation, ensure_ascii=False)}",
            f"  as_of: {source.as_of}",
            f"  quality: {source.quality}",
        ]
    return "\n".join(lines) + "\n"
