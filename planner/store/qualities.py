"""Accuracies already measured, so that the same variant is not evaluated twice on the same data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from planner.domain.quality import Quality
from planner.store.files import replace_text, writable_folder

# 1: first format
QUALITY_SCHEMA = 1
_FIELDS = (
    "metric",
    "value",
    "low",
    "high",
    "drop",
    "drop_low",
    "drop_high",
    "confidence",
    "samples",
    "higher_is_better",
    "stake",
)


class QualityStore:
    """JSON files in ``folder``, named by everything that can change the accuracy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, *key: str) -> Quality | None:
        """The accuracy stored under ``key``; an unreadable file counts as none."""
        try:
            content = json.loads(self._path(key).read_text(encoding="utf-8"))
            return Quality(**{name: content[name] for name in _FIELDS})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, quality: Quality, *key: str) -> None:
        path = self._path(key)
        writable_folder(path.parent)
        content = {"schema": QUALITY_SCHEMA, "key": list(key)}
        content |= {name: getattr(quality, name) for name in _FIELDS}
        replace_text(path, json.dumps(content, indent=2) + "\n")

    def _path(self, key: tuple[str, ...]) -> Path:
        digest = hashlib.sha256(json.dumps([QUALITY_SCHEMA, *key]).encode()).hexdigest()
        return self.folder / f"{digest[:24]}.json"
