"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from planner.errors import StoreError
from planner.files import replace_bytes


def writable_folder(folder: Path) -> Path:
    """Make ``folder`` and prove that files can be created in it. Raises StoreError in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(dir=folder, prefix=".probe-")
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder or mend its permissions"
        ) from None
    return folder


def replace_text(target: Path, text: str) -> None:
    """Write ``text`` beside ``target`` and rename it there: readers see the old file or the new one."""
    replace_bytes(target, text.encode())
