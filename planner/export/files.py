"""An export's files: all of them, or none."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from planner.errors import StoreError
from planner.export.source import Origin
from planner.files import replaced_folder

README = "README.md"
EXPORTED = "<!-- planner export -->"
"""What tells an export's README, and so an export, from other folders."""


@dataclass(frozen=True, slots=True)
class File:
    """``path`` in the export, with slashes; ``content`` is its text, or the file to copy."""

    path: str
    content: str | Path


def yaml_file(path: str, origin: Origin, documents: Sequence[object], comments: Sequence[str] = ()) -> File:
    """``comments`` stand above the documents, below the line that names the plan."""
    head = "".join(f"# {line}\n" for line in (origin.line, *comments))
    body = yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return File(path, head + body)


def write_files(folder: Path, files: Sequence[File], force: bool) -> list[Path]:
    """Written beside ``folder``, which they become at the end; the paths as they are then.

    ``force`` replaces an earlier export, and nothing else. Raises StoreError.
    """
    target = folder.resolve()
    _check_free(folder, target, force)
    try:
        with replaced_folder(target) as new:
            for file in files:
                _write(new / file.path, file.content)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror}); give another --output") from None
    return [folder / file.path for file in files]


def _check_free(folder: Path, target: Path, force: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not force:
        raise StoreError(f"{folder}: is there and not empty; give another --output, or --force to replace it")
    readme = target / README
    if not readme.is_file() or EXPORTED not in readme.read_text(encoding="utf-8", errors="replace"):
        raise StoreError(f"{folder}: is no export, --force replaces nothing else; give another --output")


def _write(target: Path, content: str | Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, target)
    else:
        target.write_text(content, encoding="utf-8", newline="\n")


class _Plain(yaml.SafeDumper):
    """Without anchors: the same list twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True
