"""All recipes by name. A new one is a file beside this and a line in ``_RECIPES``."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

from planner.domain.variant import BASELINE_RECIPE
from planner.errors import SpecError
from planner.variants.context import Context, Recipe
from planner.variants.fp16 import Fp16
from planner.variants.fp32 import Fp32
from planner.variants.int8 import Int8
from planner.variants.int8_dynamic import Int8Dynamic

_RECIPES: dict[str, Recipe] = {r.name: r for r in (Fp32(), Int8(), Int8Dynamic(), Fp16())}


@dataclass(frozen=True, slots=True)
class Chain:
    """Recipes one after the other: ``a+b`` applies b to what a made."""

    steps: tuple[Recipe, ...]

    @property
    def name(self) -> str:
        return "+".join(step.name for step in self.steps)

    @property
    def needs_calibration(self) -> bool:
        return any(step.needs_calibration for step in self.steps)

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        notes: list[str] = []
        with TemporaryDirectory(dir=target.parent) as scratch:
            for index, step in enumerate(self.steps):
                last = index == len(self.steps) - 1
                made = target if last else Path(scratch) / str(index) / "model.onnx"
                made.parent.mkdir(exist_ok=True)
                notes += [f"{step.name}: {note}" for note in step.apply(source, made, context)]
                source = made
        return tuple(notes)


def recipe_names() -> tuple[str, ...]:
    return tuple(_RECIPES)


def recipe(name: str) -> Recipe:
    """The recipe called ``name``, or the chain of those joined by ``+``. Raises SpecError."""
    parts = name.split("+")
    for part in parts:
        if part not in _RECIPES:
            near = get_close_matches(part, _RECIPES, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_RECIPES)}"
            raise SpecError(f"unknown recipe {part!r}; {hint}")
    if len(parts) > 1 and (BASELINE_RECIPE in parts or len(set(parts)) < len(parts)):
        raise SpecError(f"recipe {name!r}: a chain cannot hold {BASELINE_RECIPE}, nor a recipe twice")
    return Chain(tuple(_RECIPES[part] for part in parts)) if len(parts) > 1 else _RECIPES[name]
