"""planner catalog list | show | check"""

from __future__ import annotations

from pathlib import Path

import typer

from planner.cli.errors import exit_codes

app = typer.Typer(no_args_is_help=True, help="The hardware catalog: devices, offers, sources.")

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
