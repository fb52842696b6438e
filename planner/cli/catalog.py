"""planner catalog list | show | check | diff | import skypilot"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import typer

from planner.cli.errors import exit_codes

app = typer.Typer(no_args_is_help=True, help="The hardware catalog: devices, offers, sources.")

importers = typer.Typer(no_args_is_help=True, help="Read another project's price list into your own catalog.")
app.add_typer(importers, name="import")

OWN = Path("catalog")
"""Where imports go unless told otherwise."""

EXTRA = typer.Option(None, "--catalog", help="A folder that extends or replaces the shipped catalog.")


@app.command("list")
@exit_codes
def list_offers(
    provider: list[str] = typer.Option([], "--provider", help="Only this provider; may be repeated."),
    region: list[str] = typer.Option([], "--region", help="Only this region; may be repeated."),
    purchase: list[str] = typer.Option([], "--purchase", help="on-demand, spot or reserved."),
    device: str | None = typer.Option(None, "--device", help="Only instances with this device."),
    extra: Path | None = EXTRA,
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List offers, cheapest first."""
    from planner.catalog import load, select
    from planner.cli import render
    from planner.domain.workload import FleetLimits

    catalog = load(extra)
    offers = select(catalog, FleetLimits(tuple(provider), tuple(region), tuple(purchase)))
    if device is not None:
        name = catalog.device(device).name
        offers = tuple(offer for offer in offers if offer.device == name)
    (render.offers_json if json else render.offers)(offers)


@app.command("show")
@exit_codes
def show(
    name: str = typer.Argument(..., help="A device, or an instance type."),
    extra: Path | None = EXTRA,
) -> None:
    """Show a device's figures, or an instance type's prices, with the source of each."""
    from planner.catalog import figures, find, load, offers_with
    from planner.cli import render
    from planner.domain.device import Device

    catalog = load(extra)
    found = find(catalog, name)
    if isinstance(found, Device):
        render.device(found, figures(found), offers_with(catalog, found.name))
    else:
        render.offers_with_sources(found)


@app.command("check")
@exit_codes
def check(
    folder: Path | None = typer.Argument(None, help="A catalog folder; the shipped one if not given."),
) -> None:
    """Check every row of a catalog; exit code 2 with all that is wrong."""
    from planner.catalog import check as problems_of
    from planner.catalog import load
    from planner.errors import CatalogError

    problems = problems_of(folder)
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        raise CatalogError(f"{len(problems)} problem(s) in the catalog; mend the rows named above")
    catalog = load(folder)
    typer.echo(f"{len(catalog.devices)} devices and {len(catalog.offers)} offers, all in order.")


@app.command("diff")
@exit_codes
def diff(
    first: Path | None = typer.Argument(
        None, metavar="[A]", help="A catalog folder; compared with B, or with the shipped catalog alone."
    ),
    second: Path | None = typer.Argument(None, metavar="[B]", help="Another one."),
    every: bool = typer.Option(False, "--all", help="Show all rows, not only the largest changes."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what a folder changes in the shipped catalog, or what changed from folder A to folder B."""
    from planner.catalog import diff as diff_of
    from planner.catalog import load
    from planner.cli import render_catalog

    before, after = (first, second) if second is not None else (None, first or OWN)
    found = diff_of(load(before), load(after))
    if json:
        render_catalog.diff_json(found)
    else:
        render_catalog.diff(found, every)


@importers.command("skypilot")
@exit_codes
def import_skypilot(
    source: Path = typer.Argument(
        ..., metavar="DIR", help="A folder with SkyPilot's <provider>/vms.csv, such as ~/.sky/catalogs/v8."
    ),
    to: Path = typer.Option(OWN, "--to", help="Your catalog folder; plan.yaml names it in fleet.catalog."),
    provider: list[str] = typer.Option([], "--provider", help="Only this provider; may be repeated."),
    accelerator: list[str] = typer.Option(
        [], "--accelerator", metavar="NAME=DEVICE", help="Which device an accelerator is; may be repeated."
    ),
    date: datetime | None = typer.Option(
        None, "--date", formats=["%Y-%m-%d"], help="Of the prices; each file's own if not given."
    ),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Read SkyPilot's public price lists into your catalog folder, where they replace shipped prices."""
    from planner.catalog import import_skypilot as run_import
    from planner.cli import render_catalog

    as_of = date.date() if date else None
    done = run_import(source.expanduser(), to, provider, _pairs(accelerator), as_of)
    (render_catalog.imported_json if json else render_catalog.imported)(done)


def _pairs(texts: list[str]) -> dict[str, str]:
    from planner.errors import CatalogError

    pairs = dict(text.partition("=")[::2] for text in texts)
    for name, device in pairs.items():
        if not name or not device:
            raise CatalogError(f"--accelerator {name}: expected NAME=DEVICE, such as A100=A100-40GB-PCIe")
    return pairs
