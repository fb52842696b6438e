"""How ONNX Runtime on a CPU shows the accuracy of a variant, for whatever hardware it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.domain.variant import Variant
from planner.variants.emulation import EVALUATION_FILE
from planner.variants.recipes import recipe


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The file to run; ``optimized``: with ONNX Runtime's graph optimizations; ``emulated``: not the variant
    itself, but its arithmetic with every result rounded as the target would."""

    path: Path
    optimized: bool
    emulated: bool


def evaluation_of(variant: Variant) -> Evaluation:
    """What to run for the accuracy of ``variant``."""
    stand_in = variant.path.with_name(EVALUATION_FILE)
    emulated = stand_in.exists()
    return Evaluation(
        path=stand_in if emulated else variant.path,
        optimized=not recipe(variant.recipe).evaluate_unoptimized,
        emulated=emulated,
    )
