"""planner profiles list | show | compare | import | merge | prune"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.cli.errors import exit_codes

if TYPE_CHECKING:
    from planner.domain.profile import Profile

app = typer.Typer(
    no_args_is_help=True, help="Profiles: what was measured here, on other machines, or published."
)

WHERE = "A profile store, a CSV file, or the name of reference profiles."
JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command("list")
@exit_codes
def list_profiles(
    where: str | None = typer.Argument(None, help=f"{WHERE} The references that ship, if not given."),
    json: bool = JSON,
) -> None:
    """List profiles, or the reference profiles that ship with the planner."""
    from planner.cli import render_profiles as render

    if where is None:
        found = [(name, _readable(name)[0]) for name in _references()]
        (render.references_json if json else render.references)(found)
        return
    profiles, problems = _readable(where)
    (render.profiles_json if json else render.profiles)(profiles, problems)


@app.command("show")
@exit_codes
def show(
    where: str = typer.Argument(..., help=WHERE),
    id: str = typer.Argument(..., help="The profile's id, or how it begins; planner profiles list shows it."),
    json: bool = JSON,
) -> None:
    """Show a profile's percentiles, each with an interval that assumes nothing about the distribution."""
    from planner.cli import render_profiles as render
    from planner.errors import StoreError
    from planner.store import ProfileStore

    ids = [(ProfileStore(Path()).id_of(profile), profile) for profile in _readable(where)[0]]
    found = [profile for name, profile in ids if id and name.startswith(id)]
    if len(found) != 1:
        how = "several profiles begin" if found else "no profile begins"
        raise StoreError(f"{where}: {how} with {id!r}; list them with: planner profiles list {where}")
    (render.profile_json if json else render.profile)(found[0])


@app.command("compare")
@exit_codes
def compare(
    before: str = typer.Argument(..., help=WHERE),
    after: str = typer.Argument(..., help=WHERE),
    across_environments: bool = typer.Option(
        False, "--across-environments", help="Compare what was taken in different environments, too."
    ),
    json: bool = JSON,
) -> None:
    """Say of each configuration in both whether it became faster, slower, or neither beyond doubt."""
    from planner.cli import render_profiles as render
    from planner.store import compare as compare_profiles

    compared = compare_profiles(_readable(before)[0], _readable(after)[0], across_environments)
    (render.compared_json if json else render.compared)(compared)


@app.command("import")
@exit_codes
def import_csv(
    sheet: str = typer.Argument(
        ..., help="A CSV file (docs/profiles.md), or the name of reference profiles."
    ),
    store: Path = typer.Argument(..., help="The profile store to write to; made where there is none."),
    json: bool = JSON,
) -> None:
    """Import profiles that were measured elsewhere, or published; all rows, or none if one is wrong."""
    from planner.cli import render_profiles as render
    from planner.errors import StoreError
    from planner.store import ProfileStore, locate, read_sheet

    path = locate(sheet, Path())
    if path.is_dir():
        raise StoreError(
            f"{path}: a folder; take over another store with: planner profiles merge {store} {path}"
        )
    read = read_sheet(path)
    for problem in read.problems:
        typer.echo(str(problem), err=True)
    if read.problems:
        raise StoreError(
            f"{len(read.problems)} problem(s) in {path}, nothing was imported; mend the rows above"
        )
    target = ProfileStore(store)
    for profile in read.profiles:
        target.put(profile)
    (render.imported_json if json else render.imported)(read.profiles, store)


@app.command("merge")
@exit_codes
def merge(
    store: Path = typer.Argument(..., help="The profile store to add to; made where there is none."),
    other: Path = typer.Argument(
        ..., help="The profile store to take from, such as one from another machine."
    ),
    trust: bool = typer.Option(
        False, "--trust", help="Take its TensorRT engines too: they are code, from whoever built them."
    ),
    json: bool = JSON,
) -> None:
    """Add another store's profiles: of two of the same thing, the one with more samples stays."""
    from planner.cli import render_profiles as render
    from planner.pipeline import take_engines
    from planner.store import ProfileStore
    from planner.store import merge as merge_stores

    merged = merge_stores(ProfileStore(store), other)
    engines = take_engines(store.resolve(), other.resolve(), trust)
    (render.merged_json if json else render.merged)(merged, *engines)


@app.command("prune")
@exit_codes
def prune(
    store: Path = typer.Argument(..., help="The profile store."),
    older_than: float | None = typer.Option(
        None, "--older-than", min=0, help="Delete what is older, in days."
    ),
    environment: str | None = typer.Option(
        None, "--environment", help="Delete what was taken in the environment with this id."
    ),
    unreadable: bool = typer.Option(False, "--unreadable", help="Delete what cannot be read."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only tell what would be deleted."),
    json: bool = JSON,
) -> None:
    """Delete profiles: those that any of the options names."""
    from datetime import timedelta

    from planner.cli import render_profiles as render
    from planner.errors import StoreError
    from planner.store import ProfileStore
    from planner.store import prune as prune_store

    if not store.is_dir():
        raise StoreError(f"{store}: no such folder; name a profile store")
    age = None if older_than is None else timedelta(days=older_than)
    pruned = prune_store(ProfileStore(store), age, environment, unreadable, dry_run)
    (render.pruned_json if json else render.pruned)(pruned, dry_run)


def _references() -> tuple[str, ...]:
    from planner.store import reference_names

    return reference_names()


def _readable(where: str) -> tuple[list[Profile], list[str]]:
    """The profiles in a folder, a CSV file or a reference, and one line for each that cannot be read."""
    from planner.domain.profile import Profile
    from planner.store import ProfileStore, locate, read_sheet

    path = locate(where, Path())
    if path.is_dir():
        store = ProfileStore(path)
        each = [found for _, found in store.each()]
        return [store.calibrated(p) for p in each if isinstance(p, Profile)], [
            str(e) for e in each if not isinstance(e, Profile)
        ]
    sheet = read_sheet(path)
    return list(sheet.profiles), [str(problem) for problem in sheet.problems]
