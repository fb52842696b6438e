"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
from pathlib import Path

from planner.errors import BackendError
from planner.files import replace_bytes


def replace_file(target: Path, content: bytes) -> None:
    """Write ``content`` beside ``target`` and rename it there. Raises BackendError where it cannot."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(target, content)
    except OSError as error:
        raise BackendError(f"{target}: cannot be written ({error.strerror}); mend its folder") from None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
