"""Which layers to leave in float so that a quantized model holds its accuracy.

How a recipe uses it: it says what its layers are, how to write a candidate in which some of them stay float,
and what judges a candidate; ``search`` returns the layers to leave::

    def write(kept_float: frozenset[str]) -> Path: ...

    criterion = Criterion.of(context, reference.error, reference.optimized)
    outcome = search(layers, all_macs, write, reference.error, criterion, source)
    made = write(frozenset(outcome.kept_float))
    notes += outcome.notes(criterion)

Nothing of a search sees the data that a variant's quality is reported on: it goes by the context's judge and
by calibration samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from planner.variants.context import Context

Write = Callable[[frozenset[str]], Path]
"""Writes the candidate in which these layers stay float. The file holds until the next call."""
Error = Callable[[Path, int | None], float]
"""The error of a candidate's outputs on so many samples, or on all; see ``Reference.error``."""

LAYERS_ALONE = 64
SHARE_KEPT = 0.5
_TOLERATED_DROP = 0.01
_TOLERATED_ERROR = 0.1
# Of the drop that a fall-back could take back, where none holds the tolerated one.
_WORTH = 0.9
_LEAST_GAIN = 0.05
# Samples times builds of the sensitivity pass.
_RUNS, _LEAST_SAMPLES, _MOST_SAMPLES = 512, 8, 64


@dataclass(frozen=True, slots=True)
class Criterion:
    """``of_model``: what a candidate costs, the less the better; at most ``tolerated`` is asked for.

    ``judged``: by the context's judge (a drop of the metric); otherwise by the outputs' error.
    """

    of_model: Callable[[Path], float]
    tolerated: float
    judged: bool

    @classmethod
    def of(cls, context: Context, error: Error, optimized: bool = True) -> Criterion:
        """The context's judge and tolerated drop; without one, an error of a tenth (20 dB).

        ``optimized``: whether the judge may let ONNX Runtime fuse a candidate.
        """
        judge = context.judge
        if judge is None:
            return cls(lambda path: error(path, None), _TOLERATED_ERROR, judged=False)
        tolerated = _TOLERATED_DROP if context.tolerated_drop is None else context.tolerated_drop
        return cls(judge if optimized else partial(judge, optimized=False), tolerated, judged=True)

    def show(self, cost: float) -> str:
        return f"{cost:.4f}" if self.judged else f"{cost:.1%}"

    @property
    def called(self) -> str:
        return "drop in the search" if self.judged else "output error"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``kept_float`` in the order of falling back; ``cost`` by the criterion, ``before``: all quantized."""

    kept_float: tuple[str, ...]
    before: float
    cost: float
    tolerated: float
    sensitivities: Mapping[str, float]
    """Output error with this layer alone quantized; empty where no layer had to fall back."""

    def notes(self, criterion: Criterion) -> tuple[str, ...]:
        if self.before <= self.tolerated:
            return ()
        now, then = criterion.show(self.cost), criterion.show(self.before)
        asked = "" if self.cost <= self.tolerated else f", above {criterion.show(self.tolerated)}"
        if not self.kept_float:
            return (f"{criterion.called} {now}{asked}, and no layer left float would mend it",)
        return (
            f"{len(self.kept_float)} left float for accuracy ({criterion.called} {now} instead of "
            f"{then}{asked}): {', '.join(self.kept_float)}",
        )


def search(
    layers: Mapping[str, int],
    all_macs: int,
    write: Write,
    error: Error,
    criterion: Criterion,
    source: Path,
    known: Mapping[str, float] | None = None,
) -> Outcome:
    """Leaves the most sensitive layers float, as few as hold the tolerated cost.

    ``layers``: multiply-accumulates of those that can be quantized; ``all_macs``: of the whole model.
    ``source``: the float model, whose own drop (where an earlier recipe of a chain lost some) is tolerated.
    ``known``: sensitivities of an earlier search with nearly the same candidates.
    Without any loss too large nothing but one judgement is spent. Otherwise: sensitivities, then bisection
    over their order, passing over layers without which less than half of the multiply-accumulates would be
    quantized; where that does not hold, and there is a judge, with those too. Where nothing holds, as few
    layers as take back nine tenths of what falling back can, or none if it gains less than a twentieth.
    """
    before = criterion.of_model(write(frozenset()))
    tolerated = criterion.tolerated
    if before > tolerated and criterion.judged and len(layers) > 1:
        tolerated = max(tolerated, criterion.of_model(source))
    if before <= tolerated or len(layers) < 2:
        return Outcome((), before, before, tolerated, {})
    found = known or sensitivities(tuple(layers), write, error)
    ranked = sorted(layers, key=lambda name: -found[name])[:-1]
    inside = _keeping_half(ranked, layers, all_macs)

    def cost(kept_float: Sequence[str]) -> float:
        return criterion.of_model(write(frozenset(kept_float)))

    def outcome(order: Sequence[str], all_float: float, goal: float) -> Outcome:
        kept, reached = _fewest(order, all_float, goal, cost)
        return Outcome(kept, before, reached, tolerated, found)

    half = cost(inside) if inside else before
    if half <= tolerated:
        return outcome(inside, half, tolerated)
    if criterion.judged and inside != ranked and (all_but_one := cost(ranked)) <= tolerated:
        return outcome(ranked, all_but_one, tolerated)
    gain = before - half
    if not gain >= _LEAST_GAIN * before:  # also where both are infinite
        return Outcome((), before, before, tolerated, found)
    return outcome(inside, half, before - _WORTH * gain)


def sensitivities(layers: Sequence[str], write: Write, error: Error) -> dict[str, float]:
    """The error of the model's outputs when one layer alone is quantized, by layer.

    With more than 64 layers, neighbours are quantized together, in as few groups, and share the group's
    error. 64 samples for each, fewer (down to 8) where there are more than 8 builds.
    """
    size = -(-len(layers) // LAYERS_ALONE)
    groups = [layers[i : i + size] for i in range(0, len(layers), size)]
    samples = min(max(_RUNS // len(groups), _LEAST_SAMPLES), _MOST_SAMPLES)
    errors: dict[str, float] = {}
    for group in groups:
        alone = error(write(frozenset(layers) - frozenset(group)), samples)
        errors |= dict.fromkeys(group, alone)
    return errors


def _keeping_half(ranked: Sequence[str], layers: Mapping[str, int], all_macs: int) -> list[str]:
    left = sum(layers.values())
    inside: list[str] = []
    for layer in ranked:
        if left - layers[layer] >= SHARE_KEPT * all_macs:
            left -= layers[layer]
            inside.append(layer)
    return inside


def _fewest(
    order: Sequence[str], of_all: float, goal: float, cost: Callable[[Sequence[str]], float]
) -> tuple[tuple[str, ...], float]:
    """The shortest start of ``order`` that reaches the goal, and its cost, if every longer one does too.

    None at all does not reach it; all together cost ``of_all``.
    """
    least, most, reached = 0, len(order), of_all
    while most - least > 1:
        middle = (least + most) // 2
        if (now := cost(order[:middle])) <= goal:
            most, reached = middle, now
        else:
            least = middle
    return tuple(order[:most]), reached


def share(layers: Mapping[str, int], all_macs: int, kept_float: Sequence[str]) -> float:
    """Of the multiply-accumulates, how much is quantized."""
    kept = set(kept_float)
    return sum(macs for name, macs in layers.items() if name not in kept) / max(all_macs, 1)
