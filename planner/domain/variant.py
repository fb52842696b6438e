"""A recipe applied to a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BASELINE_RECIPE = "fp32"


@dataclass(frozen=True, slots=True)
class Variant:
    """An ONNX file made from ``model_sha256`` by ``recipe``.

    ``sha256`` and ``size_bytes`` cover external data too. ``notes`` say what the recipe left alone.
    """

    recipe: str
    model_sha256: str
    path: Path
    sha256: str
    size_bytes: int
    notes: tuple[str, ...] = ()
    entrant: str = ""
    """Name of the further candidate that it was made from; empty for the main model."""

    @property
    def name(self) -> str:
        """What the variant is called in a plan: the recipe, after the candidate's name where it has one."""
        return f"{self.entrant}.{self.recipe}" if self.entrant else self.recipe
