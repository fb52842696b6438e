"""What static quantizations share: ranges fitted to samples, a search over what stays float, and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from planner.errors import VariantError
from planner.variants.calibration import Calibration, calibrate
from planner.variants.context import Context, single_feeds
from planner.variants.fallback import Criterion, Outcome, Write, search, share
from planner.variants.reference import Reference


@dataclass(frozen=True, slots=True)
class Fit:
    """Ranges (and corrections) fitted to some layers: how candidates are written with them."""

    write: Write
    finish: Write
    """Writes what is judged by ``write``, in the form that is kept."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """Finds the best candidate for a model whose ``layers`` (multiply-accumulates by name) can be quantized.

    ``all_macs``: of the whole model. ``fit``: to the layers but for those that it is given.
    """

    layers: Mapping[str, int]
    all_macs: int
    fit: Callable[[frozenset[str]], Fit]
    reference: Reference
    context: Context
    source: Path
    """The float model; see ``fallback.search``."""

    def best(self, kind: str) -> tuple[Path, tuple[str, ...]]:
        """The best candidate, written, and notes on what it holds of ``kind`` and how it was found.

        Ranges and corrections that suit a layer that falls back need not suit the rest: after such a
        fall-back they are fitted again to the rest, and what falls back is sought again with those.
        """
        criterion = Criterion.of(self.context, self.reference.error, self.reference.optimized)
        fit, outcome = self._found(criterion, frozenset(), {})
        if outcome.kept_float:
            again = self._found(criterion, frozenset(outcome.kept_float), outcome.sensitivities)
            fit, outcome = min(again, (fit, outcome), key=lambda found: self._rank(found[1]))
        quantized = share(self.layers, self.all_macs, outcome.kept_float)
        notes = (
            f"{quantized:.0%} of the multiply-accumulates of convolutions and products in {kind}",
            *fit.notes,
            *outcome.notes(criterion),
        )
        return fit.finish(frozenset(outcome.kept_float)), notes

    def _found(
        self, criterion: Criterion, kept_float: frozenset[str], known: Mapping[str, float]
    ) -> tuple[Fit, Outcome]:
        fit = self.fit(kept_float)
        error = self.reference.error
        return fit, search(self.layers, self.all_macs, fit.write, error, criterion, self.source, known)

    def _rank(self, outcome: Outcome) -> tuple[bool, int, float]:
        """Less is better: to hold the accuracy, then to leave little float, then to cost little."""
        left = sum(self.layers[name] for name in outcome.kept_float)
        return outcome.cost > outcome.tolerated, left, outcome.cost


def calibrated(
    name: str, proto: onnx.ModelProto, tensors: Iterable[str], context: Context, scratch: Path
) -> Calibration:
    """``calibrate`` on the context's samples. Raises VariantError in the name of the recipe ``name``."""
    assert context.calibration
    try:
        return calibrate(proto, tensors, single_feeds(context.inputs, context.calibration), scratch)
    except ValueError as error:
        raise VariantError(f"{name}: {error}") from None


def nothing_to_quantize(name: str, graph: onnx.GraphProto, reason: str = "") -> VariantError:
    if not reason:
        operators = ", ".join(sorted({n.op_type for n in graph.node})) or "no nodes"
        reason = (
            "no Conv, MatMul or Gemm with constant float32 weights outside control flow "
            f"(there are {operators})"
        )
    return VariantError(f"{name}: nothing to quantize: {reason}")
