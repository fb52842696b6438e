"""``prune-N``: N % of the channels, hidden neurons and heads cut out of the graph, the rest refitted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from planner.domain.model import BoundInput
from planner.errors import VariantError
from planner.variants.context import ALL_BACKENDS, Array, Context
from planner.variants.graph import write
from planner.variants.pruning import Pruned, prune
from planner.variants.session import quiet

PERCENTS = range(5, 91)


@dataclass(frozen=True, slots=True)
class Prune:
    percent: int
    needs_calibration = True
    backends = ALL_BACKENDS
    min_compute_capability = None
    evaluate_unoptimized = False

    @property
    def name(self) -> str:
        return f"prune-{self.percent}"

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        if not context.calibration:
            raise VariantError(f"{self.name}: needs calibration samples; name them in the spec")
        samples = {t.name: _batched(self.name, t, context.calibration[t.name]) for t in context.inputs}
        with quiet():
            pruned = prune(onnx.load(source), self.percent / 100, samples, seed=context.seed)
            write(pruned.model, target, source)
        return (*_summary(pruned), *pruned.notes)


def _batched(name: str, tensor: BoundInput, samples: Array) -> Array:
    """Samples along the batch axis, or rows along the fixed first axis, of the input's own type."""
    array = np.asarray(samples, dtype=tensor.dtype)
    if tensor.batch_axis == 0 or (tensor.batch_axis is None and array.ndim == len(tensor.shape) > 0):
        return array
    if tensor.batch_axis is None and len(tensor.shape) > 0:
        return array.reshape(-1, *tensor.shape[1:])
    raise VariantError(f"{name}: the batch has to be the first axis of input {tensor.name}")


def _summary(pruned: Pruned) -> tuple[str, ...]:
    before, after = Counter[str](), Counter[str]()
    for group in pruned.removed:
        before[group.kind] += group.before
        after[group.kind] += group.after
    return tuple(f"{before[k] - after[k]} of {before[k]} {k} removed" for k in before)
