"""Where SkyPilot's catalog files lie: in its repository, in ``~/.sky/catalogs``, or loose in a folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from planner.catalog.catalog import nearest
from planner.errors import CatalogError

_VERSION = re.compile(r"v\d+")


def catalog_files(folder: Path, providers: Collection[str] = ()) -> dict[str, Path]:
    """The file of each provider, by its name; only ``providers`` where some are named.

    ``folder`` holds ``<provider>/vms.csv``, or that in folders ``v5``, ``v6`` and so on (the highest that has
    the provider), or ``<provider>.csv``, or is a provider's folder itself. CatalogError where it holds
    none, or not one that is named.
    """
    if not folder.is_dir():
        raise CatalogError(
            f"{folder} is not a folder; expected one of SkyPilot's catalogs, <provider>/vms.csv"
        )
    found: dict[str, Path] = {}
    for file in _files(folder):
        found[file.parent.name if file.name == "vms.csv" else file.stem] = file
    if not found:
        raise CatalogError(f"{folder} holds no <provider>/vms.csv; expected one of SkyPilot's catalogs")
    for name in providers:
        if name not in found:
            raise CatalogError(f"{folder} has no catalog of provider {name!r}{nearest(name, found)}")
    return {name: file for name, file in sorted(found.items()) if not providers or name in providers}


def _files(folder: Path) -> Iterator[Path]:
    """Later ones of the same provider replace earlier ones."""
    if (folder / "vms.csv").is_file():
        yield folder.resolve() / "vms.csv"
        return
    yield from sorted(folder.glob("*.csv"))
    versions = [child for child in folder.iterdir() if _VERSION.fullmatch(child.name)]
    for version in sorted(versions, key=lambda child: int(child.name[1:])):
        yield from sorted(version.glob("*/vms.csv"))
    yield from sorted(folder.glob("*/vms.csv"))
