"""The engines of a plan, and the manifest that vouches for them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from planner.domain.variant import Variant
from planner.errors import ManifestError
from planner.files import replaced_folder
from planner.report.plan_json import CandidatePart

ENGINES_FOLDER = "engines"
MANIFEST = "manifest.json"
# 2: device, status (built-ahead, to-build) and how to build; engines that are no ONNX files
# 1: first format
MANIFEST_SCHEMA = 2

Status = Literal["measured", "built-ahead", "to-build"]


@dataclass(frozen=True, slots=True)
class Deployed:
    """A variant that the plan runs on a backend and device; ``external_files`` lie beside its ONNX file.
    ``workload``: whose it is, where there are several.

    ``engine``, where the backend loads no ONNX, was ``measured``, or ``built-ahead`` of time for the device
    and not measured. What is ``to-build`` is the ONNX file; ``build`` is the command for it.
    """

    variant: Variant
    backend: str
    device: str
    external_files: tuple[str, ...]
    engine: Path | None = None
    status: Status = "measured"
    build: str = ""
    workload: str = ""


@dataclass(frozen=True, slots=True)
class Engine:
    """``path`` is the file to load; ``files`` maps each file, relative to the folder, to its sha256."""

    workload: str
    variant: str
    backend: str
    device: str
    path: Path
    files: tuple[tuple[str, str], ...]
    variant_sha256: str
    status: Status
    build: str

    @property
    def sha256(self) -> str:
        """Of the file to load."""
        return next(sha256 for name, sha256 in self.files if Path(name).name == self.path.name)


def write_engines(
    folder: Path, engines: Sequence[Deployed], libraries: Sequence[tuple[str, str]]
) -> list[Engine]:
    """Copy the files of what is deployed into ``folder`` with a manifest.

    The folder is made beside the old one and takes its place at the end.
    """
    with replaced_folder(folder) as fresh:
        entries = [_copy(deployed, fresh) for deployed in engines]
        manifest = {"schema": MANIFEST_SCHEMA, "libraries": dict(libraries), "engines": entries}
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
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


def engine_of(engines: Iterable[Engine], candidate: CandidatePart) -> Engine | None:
    """The one that a candidate runs; None where there is none, as in a plan of imported profiles."""
    wanted = (candidate.variant, candidate.backend, candidate.device)
    for engine in engines:
        of = (engine.variant, engine.backend, engine.device)
        if of == wanted and engine.workload in ("", candidate.workload):
            return engine
    return None


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
    variant, engine = deployed.variant, deployed.engine
    folders = (deployed.workload, variant.name, "" if engine is None else deployed.device)
    inside = "/".join(part for part in folders if part)
    source = variant.path if engine is None else engine
    # Beside an engine lies its record.
    names = (source.name, *(deployed.external_files if engine is None else (f"{source.name}.json",)))
    for name in names:
        target = folder / inside / name
        # Two backends may run the same file.
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.parent / name, target)
    return {
        "workload": deployed.workload,
        "variant": variant.name,
        "backend": deployed.backend,
        "device": deployed.device,
        "load": f"{inside}/{source.name}",
        "variant_sha256": variant.sha256,
        "status": deployed.status,
        "build": deployed.build,
        "files": {f"{inside}/{name}": _sha256(folder / inside / name) for name in names},
    }


def _engine(entry: dict[str, Any], folder: Path) -> Engine:
    return Engine(
        workload=entry["workload"],
        variant=entry["variant"],
        backend=entry["backend"],
        device=entry["device"],
        path=folder / entry["load"],
        files=tuple(entry["files"].items()),
        variant_sha256=entry["variant_sha256"],
        status=entry["status"],
        build=entry["build"],
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
