"""The engines that were measured, and the manifest that vouches for them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.domain.variant import Variant
from planner.errors import ManifestError

ENGINES_FOLDER = "engines"
MANIFEST = "manifest.json"
# 1: first format
MANIFEST_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Deployed:
    """A variant that the plan runs on a backend; ``external_files`` lie beside its ONNX file."""

    variant: Variant
    backend: str
    external_files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """``path`` is the file to load; ``files`` maps each file, relative to the folder, to its sha256."""

    variant: str
    backend: str
    path: Path
    files: tuple[tuple[str, str], ...]
    variant_sha256: str

    @property
    def sha256(self) -> str:
        """Of the file to load."""
        return dict(self.files)[self.path.relative_to(self.path.parents[1]).as_posix()]


def write_engines(
    folder: Path, engines: Sequence[Deployed], libraries: Sequence[tuple[str, str]]
) -> list[Engine]:
    """Copy the files of what is deployed into ``folder`` with a manifest.

    The folder is made beside the old one and takes its place at the end.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        entries = [_copy(deployed, fresh) for deployed in engines]
        manifest = {"schema": MANIFEST_SCHEMA, "libraries": dict(libraries), "engines": entries}
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        fresh.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
            folder.rename(old / folder.name)
            fresh.rename(folder)
            shutil.rmtree(old)
        else:
            fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return [_engine(entry, folder) for entry in entries]


def read_engines(folder: Path) -> list[Engine]:
    """The engines of a plan. Raises ManifestError where one is missing or not the manifest's."""
    manifest_path = folder / MANIFEST
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        if manifest["schema"] != MANIFEST_SCHEMA:
            raise ManifestError(
                f"{manifest_path}: manifest schema {manifest['schema']}, this planner reads "
                f"{MANIFEST_SCHEMA}; make the plan again"
            )
        engines = [_engine(entry, folder) for entry in manifest["engines"]]
    except FileNotFoundError:
        raise ManifestError(f"{manifest_path}: no such file; make the engines with planner plan") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{manifest_path}: not a manifest ({error}); make the plan again") from None
    for engine in engines:
        for name, sha256 in engine.files:
            _check(folder, name, sha256)
    return engines


def _check(folder: Path, name: str, sha256: str) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ManifestError(f"{folder / MANIFEST}: {name} points outside the folder; do not use this plan")
    if not path.is_file():
        raise ManifestError(f"{path}: the manifest's engine is missing; make the plan again")
    found = _sha256(path)
    if found != sha256:
        raise ManifestError(
            f"{path}: sha256 is {found[:12]}…, the manifest says {sha256[:12]}…; "
            "this is not the engine that was measured, make the plan again"
        )


def _copy(deployed: Deployed, folder: Path) -> dict[str, Any]:
    variant = deployed.variant
    target = folder / variant.name
    names = (variant.path.name, *deployed.external_files)
    for name in names:
        # Two backends may run the same file.
        if not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(variant.path.parent / name, target / name)
    return {
        "variant": variant.name,
        "backend": deployed.backend,
        "load": f"{variant.name}/{variant.path.name}",
        "variant_sha256": variant.sha256,
        "status": "measured",
        "files": {f"{variant.name}/{name}": _sha256(target / name) for name in names},
    }


def _engine(entry: dict[str, Any], folder: Path) -> Engine:
    return Engine(
        variant=entry["variant"],
        backend=entry["backend"],
        path=folder / entry["load"],
        files=tuple(entry["files"].items()),
        variant_sha256=entry["variant_sha256"],
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
