"""``prune-N``: N % of the channels, hidden neurons and heads cut out of the graph, the rest refitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from planner.domain.model import BoundInput
from planner.errors import VariantError
from planner.variants.context import ALL_BACKENDS, Array, Context, single_feeds
from planner.variants.graph import write
from planner.variants.pruning import Pruned, prune
from planner.variants.session import quiet
from planner.variants.weights import Sink, deliver, has_external, skeleton

PERCENTS = range(5, 91)
# Above, copies in memory are worth avoiding.
_IN_MEMORY_BYTES = 1 << 28

Samples = Mapping[str, Array] | list[dict[str, Array]]


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
        samples = calibration_of(context)
        with quiet():
            pruned = self._pruned(source, target, samples, context.seed)
        return (*_summary(pruned), *pruned.notes)

    def _pruned(self, source: Path, target: Path, samples: Samples, seed: int) -> Pruned:
        """In memory where the model is one small file; else with its weights in files all the way."""
        model = skeleton(source)
        if not has_external(model) and source.stat().st_size <= _IN_MEMORY_BYTES:
            pruned = prune(model, self.percent / 100, samples, seed=seed)
            write(pruned.model, target, source)
            return pruned
        with TemporaryDirectory(dir=target.parent) as folder:
            scratch = Path(folder)
            if has_external(model):
                Sink(scratch / "whole.onnx", external=True).save(model, source)
            else:
                onnx.save(model, scratch / "whole.onnx", save_as_external_data=True, location="whole.weights")
            del model
            whole = skeleton(scratch / "whole.onnx")
            pruned = prune(whole, self.percent / 100, samples, seed=seed, folder=scratch)
            deliver(pruned.model, scratch, target, source)
        return pruned


def calibration_of(context: Context) -> Samples:
    """Samples on the first axis of every input where the batch, or a fixed number of rows, lies there too.

    Otherwise one feed for each sample.
    """
    assert context.calibration
    samples = context.calibration
    if all(_first_is_samples(t, samples[t.name]) for t in context.inputs):
        return {t.name: np.asarray(samples[t.name], dtype=t.dtype) for t in context.inputs}
    return list(single_feeds(context.inputs, samples))


def _first_is_samples(tensor: BoundInput, array: Array) -> bool:
    return tensor.batch_axis == 0 or (tensor.batch_axis is None and array.ndim == len(tensor.shape) > 0)


def _summary(pruned: Pruned) -> tuple[str, ...]:
    before, after = Counter[str](), Counter[str]()
    for group in pruned.removed:
        before[group.kind] += group.before
        after[group.kind] += group.after
    return tuple(f"{before[k] - after[k]} of {before[k]} {k} removed" for k in before)
