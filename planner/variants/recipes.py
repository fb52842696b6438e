"""All recipes by name. A new one is a file beside this and a line in ``_RECIPES`` (or ``_FAMILIES``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

from planner.domain.variant import BASELINE_RECIPE
from planner.errors import SpecError
from planner.variants import lowrank, prune
from planner.variants.bf16 import Bf16
from planner.variants.context import Context, Recipe
from planner.variants.eight_bit import FP8, INT8_TENSORRT
from planner.variants.fp16 import Fp16
from planner.variants.fp32 import Fp32
from planner.variants.int4 import Int4, Int4TensorRT
from planner.variants.int8 import Int8
from planner.variants.int8_dynamic import Int8Dynamic
from planner.variants.lowrank import LowRank
from planner.variants.prune import Prune
from planner.variants.sparse import Sparse

_RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Fp32(), Int8(), Int8Dynamic(), INT8_TENSORRT, Int4(), Int4TensorRT(),
        Fp16(), Bf16(), FP8, Sparse(),
    )
}  # fmt: skip
# Called <family>-N, with the N that each allows.
_FAMILIES: dict[str, tuple[Callable[[int], Recipe], range]] = {
    "prune": (Prune, prune.PERCENTS),
    "lowrank": (LowRank, lowrank.PERCENTS),
}


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

    @property
    def backends(self) -> frozenset[str]:
        return frozenset.intersection(*(step.backends for step in self.steps))

    @property
    def min_compute_capability(self) -> tuple[int, int] | None:
        needs = [step.min_compute_capability for step in self.steps if step.min_compute_capability]
        return max(needs, default=None)

    @property
    def evaluate_unoptimized(self) -> bool:
        return any(step.evaluate_unoptimized for step in self.steps)

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
    """Names as they are written; of a family with an N for its number."""
    return (*_RECIPES, *(f"{family}-N" for family in _FAMILIES))


def recipe(name: str) -> Recipe:
    """The recipe called ``name``, or the chain of those joined by ``+``. Raises SpecError."""
    parts = name.split("+")
    steps = tuple(_single(part) for part in parts)
    kinds = [part.rpartition("-")[0] if _family(part) else part for part in parts]
    if len(parts) > 1 and (BASELINE_RECIPE in parts or len(set(kinds)) < len(parts)):
        raise SpecError(f"recipe {name!r}: a chain cannot hold {BASELINE_RECIPE}, nor a recipe twice")
    if len(parts) > 1 and not (chain := Chain(steps)).backends:
        raise SpecError(f"recipe {name!r}: no backend runs all of its steps; {_where(chain)}")
    return Chain(steps) if len(parts) > 1 else steps[0]


def _single(name: str) -> Recipe:
    if name in _RECIPES:
        return _RECIPES[name]
    if found := _family(name):
        make, allowed = _FAMILIES[found[0]]
        if found[1] not in allowed:
            raise SpecError(
                f"recipe {name!r}: the share in percent has to be {allowed.start} to {allowed.stop - 1}"
            )
        return make(found[1])
    near = get_close_matches(name, recipe_names(), 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(recipe_names())}"
    raise SpecError(f"unknown recipe {name!r}; {hint}")


def _family(name: str) -> tuple[str, int] | None:
    match = re.fullmatch(r"([a-z]+)-(\d{1,4})", name)
    return (match[1], int(match[2])) if match and match[1] in _FAMILIES else None


def _where(chain: Chain) -> str:
    return ", ".join(f"{step.name} runs on {' and '.join(sorted(step.backends))}" for step in chain.steps)
