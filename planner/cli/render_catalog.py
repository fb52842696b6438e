"""What people read of catalogs that change: imports and differences, in 100 columns."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from planner.cli.output import columns, console, write_json

if TYPE_CHECKING:
    from planner.catalog import CatalogDiff, Import, PriceChange
    from planner.catalog.skypilot import ProviderTables
    from planner.domain.offer import Offer

_SHOWN = 20
"""Rows of each kind, unless all are asked for."""


def imported(done: Import) -> None:
    out = console()
    counts = ("rows", "kept", "dropped", "types", "regions", "offers")
    table = columns("provider", *counts, "as of", right=counts)
    dates = dict(done.as_of)
    for read in done.providers:
        table.add_row(
            read.provider,
            f"{read.rows_read:,}",
            f"{read.rows_kept:,}",
            f"{read.rows_read - read.rows_kept:,}",
            f"{len(read.instances):,}",
            f"{len({price.region for price in read.prices}):,}",
            f"{len(read.prices):,}",
            dates[read.provider],
        )
    out.print(table)
    for read in done.providers:
        _counts(out, f"{read.provider}: dropped rows", read.dropped)
        _counts(out, f"{read.provider}: prices left out", read.prices_left_out)
        _counts(out, f"{read.provider}: repaired", read.repaired)
        _counts(out, f"{read.provider}: not in the catalog, by rows", read.unknown)
    if any(read.unknown for read in done.providers):
        out.print(
            "Name a GPU's device with --accelerator NAME=DEVICE (planner catalog list shows devices), or "
            "add one in devices/*.yaml of your folder (docs/catalog.md): without one, none is planned with."
        )
    out.print(f"Written to {escape(str(done.folder))}; plan with it by fleet.catalog in plan.yaml.")


def imported_json(done: Import) -> None:
    dates = dict(done.as_of)
    write_json(
        {
            "folder": str(done.folder),
            "providers": [_provider_json(read, dates[read.provider]) for read in done.providers],
        }
    )


def diff(found: CatalogDiff, every: bool) -> None:
    out = console()
    most = sys.maxsize if every else _SHOWN
    if found.changed:
        out.print(_changes_table(found.changed[:most]))
        _more(out, len(found.changed), most, "price changes")
    for title, offers in (("added", found.added), ("removed", found.removed)):
        if offers:
            out.print(_offers_table(title, offers[:most]))
            _more(out, len(offers), most, title)
    for pair in found.resized[:most]:
        name = escape(f"{pair.after.provider} {pair.after.instance_type}")
        out.print(f"another size: {name}: {_size(pair.before)}, now {_size(pair.after)}")
    _more(out, len(found.resized), most, "types of another size")
    out.print(
        f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} at another price, "
        f"{len(found.redated)} at the same price of another date or source, {found.unchanged} unchanged; "
        f"{len(found.resized)} instance types of another size."
    )


def diff_json(found: CatalogDiff) -> None:
    def change(pair: PriceChange) -> dict[str, object]:
        return {
            "id": pair.after.id,
            "before": _offer_json(pair.before),
            "after": _offer_json(pair.after),
            "change": pair.share,
        }

    write_json(
        {
            "added": [_offer_json(offer) for offer in found.added],
            "removed": [_offer_json(offer) for offer in found.removed],
            "changed": [change(pair) for pair in found.changed],
            "redated": [change(pair) for pair in found.redated],
            "resized": [change(pair) for pair in found.resized],
            "unchanged": found.unchanged,
        }
    )


def _changes_table(pairs: Iterable[PriceChange]) -> Table:
    headers = ("provider", "instance", "region", "bought", "was USD/h", "now", "change", "as of")
    table = columns(*headers, right=("was USD/h", "now", "change"))
    for pair in pairs:
        before, after = pair.before, pair.after
        table.add_row(
            *_named(after),
            f"{before.usd_per_hour:.4g}",
            f"{after.usd_per_hour:.4g}",
            f"{pair.share:+.1%}",
            after.price_as_of,
        )
    return table


def _offers_table(title: str, offers: Iterable[Offer]) -> Table:
    table = columns(title, "instance", "region", "bought", "device", "USD/h", "as of", right=("USD/h",))
    for offer in offers:
        device = f"{offer.device_count:g} × {offer.device}" if offer.device_count else offer.device
        table.add_row(*_named(offer), device, f"{offer.usd_per_hour:.4g}", offer.price_as_of)
    return table


def _named(offer: Offer) -> tuple[str, str, str, str]:
    bought = f"{offer.purchase} {offer.term}".strip()
    return escape(offer.provider), escape(offer.instance_type), escape(offer.region), bought


def _size(offer: Offer) -> str:
    memory = "unknown memory" if offer.memory_bytes is None else f"{offer.memory_bytes / 2**30:g} GiB"
    return f"{offer.device_count:g} × {offer.device}, {offer.vcpus} vCPUs, {memory}"


def _more(out: Console, count: int, shown: int, what: str) -> None:
    if count > shown:
        out.print(f"... and {count - shown} more {what}; --all shows them.")


def _counts(out: Console, title: str, counts: tuple[tuple[str, int], ...]) -> None:
    if counts:
        listed = ", ".join(f"{escape(what)} {count:,}" for what, count in counts[:_SHOWN])
        rest = len(counts) - _SHOWN
        out.print(f"{title}: {listed}{f', and {rest} more kinds (--json has all)' if rest > 0 else ''}.")


def _provider_json(read: ProviderTables, as_of: str) -> dict[str, object]:
    return {
        "provider": read.provider,
        "file": str(read.file),
        "as_of": as_of,
        "rows_read": read.rows_read,
        "rows_kept": read.rows_kept,
        "instance_types": len(read.instances),
        "offers": len(read.prices),
        "dropped": dict(read.dropped),
        "prices_left_out": dict(read.prices_left_out),
        "repaired": dict(read.repaired),
        "not_in_the_catalog": dict(read.unknown),
    }


def _offer_json(offer: Offer) -> dict[str, object]:
    return {"id": offer.id, **asdict(offer)}
