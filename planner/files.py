"""Files that appear whole or not at all, and where the data that ship with the package lie."""

from __future__ import annotations

import os
import tempfile
from importlib.resources import files
from pathlib import Path


def replace_bytes(target: Path, content: bytes) -> None:
    """Write ``content`` beside ``target`` and rename it there: readers see the old file or the new one.

    Raises OSError where that cannot be, and leaves nothing behind.
    """
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def shipped(name: str) -> tuple[Path, Path | None]:
    """Where the data folder ``name`` belongs in an installed package, and where it is, if anywhere.

    That is there, or, in a checkout, beside the package.
    """
    installed = Path(str(files("planner"))) / "_data" / name
    checkout = Path(__file__).resolve().parents[1] / name
    return installed, next((folder for folder in (installed, checkout) if folder.is_dir()), None)
