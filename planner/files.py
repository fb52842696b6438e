"""Files and folders that appear whole or not at all, and where the data that ship with the package lie."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` to be filled, which takes its place at the end of the block.

    Raises OSError where that cannot be. If anything fails, ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        new = beside / "new"
        new.mkdir()
        new.chmod(0o755)
        yield new
        old = beside / "old"
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def shipped(name: str) -> tuple[Path, Path | None]:
    """Where the data folder ``name`` belongs in an installed package, and where it is, if anywhere.

    That is there, or, in a checkout, beside the package.
    """
    installed = Path(str(files("planner"))) / "_data" / name
    checkout = Path(__file__).resolve().parents[1] / name
    return installed, next((folder for folder in (installed, checkout) if folder.is_dir()), None)
