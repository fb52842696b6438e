"""Names that are safe in a path, and the folders of profiles that a name or path stands for."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from planner.errors import StoreError
from planner.files import shipped

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")


def in_path(name: str) -> str:
    """``name`` as a part of a path: a file from elsewhere cannot point out of its folder."""
    safe = _UNSAFE.sub("_", name)
    return safe if safe.strip(".") else f"_{safe}"


def reference_folder() -> Path:
    """Where the shipped reference profiles lie: inside the installed package, or beside it in a checkout."""
    installed, folder = shipped("profiles")
    if folder is None:
        raise StoreError(f"the reference profiles are missing from {installed}; reinstall planner")
    return folder


def reference_names() -> tuple[str, ...]:
    """The names under which reference profiles ship."""
    return tuple(sorted(path.stem for path in reference_folder().glob("*.csv")))


def locate(name: str, base: Path) -> Path:
    """The file or folder called ``name``, relative to ``base``; failing that, the reference of that name.

    Raises StoreError naming the references there are.
    """
    path = base / name
    if path.exists():
        return path
    names = reference_names()
    if name in names:
        return reference_folder() / f"{name}.csv"
    close = get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"references are {', '.join(names)}"
    raise StoreError(f"{path}: no such file or folder, and no reference profiles of that name; {hint}")
