"""Metrics of sequences: error rates of transcripts, perplexity of language models. Less is better.

Labels are ids ``[samples, length]``; a negative id is padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from planner.errors import DataError
from planner.quality.base import Array, Floats, Ints, Metric, at_stake, ratio, refuse_broken, whole_numbers

BLANK = 0
"""CTC's blank, where it is by default in PyTorch: https://docs.pytorch.org/docs/stable/generated/torch.nn.CTCLoss.html"""


def transcripts(output: Array) -> list[Ints]:
    """Ids of each sample: integers ``[samples, steps]``, or by CTC from scores ``[samples, steps, classes]``.

    Integers count as they are, negative ones left out. Scores are decoded greedily: the best class of each
    step, repeats merged, then blanks (class 0) left out; a step with a NaN is a blank.
    Source: Graves et al., "Connectionist temporal classification", ICML 2006, section 3.2.
    """
    if output.ndim == 2 and output.dtype.kind in "iu":
        return [row[row >= 0].astype(np.int64) for row in output]
    if output.ndim != 3 or output.dtype.kind != "f":
        raise DataError(
            f"the metric needs ids [samples, steps] or scores [samples, steps, classes]; the model's first "
            f"output is {output.dtype} {list(output.shape)}"
        )
    best = np.where(np.isnan(output).any(axis=2), BLANK, output.argmax(axis=2))
    kept = best != BLANK
    kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    return [row[keep].astype(np.int64) for row, keep in zip(best, kept, strict=True)]


def _words(ids: Ints, separator: int, known: dict[tuple[int, ...], int]) -> Ints:
    """One number for each word, the same number for the same word."""
    cuts = np.flatnonzero(ids == separator)
    parts = [tuple(part[part != separator].tolist()) for part in np.split(ids, cuts)]
    return np.array([known.setdefault(part, len(known)) for part in parts if part], np.int64)


def edit_distances(ours: Sequence[Ints], wanted: Sequence[Ints]) -> Ints:
    """Insertions, deletions and substitutions between each pair, all pairs at once.

    The rows of Wagner and Fischer's table (Journal of the ACM 21, 1974). Along a row, insertions make each
    cell at most one more than the one before: a running minimum once the column's number is subtracted.
    """
    rows, columns = (np.array([len(s) for s in side], np.int64) for side in (wanted, ours))
    left, top = _padded(wanted, -1), _padded(ours, -2)
    steps = np.arange(top.shape[1] + 1)
    row = np.broadcast_to(steps, (len(ours), len(steps))).copy()
    distances = np.where(rows == 0, columns, 0)
    for i in range(left.shape[1]):
        replaced = row[:, :-1] + (left[:, i : i + 1] != top)
        row += 1
        row[:, 1:] = np.minimum(row[:, 1:], replaced)
        row = np.minimum.accumulate(row - steps, axis=1) + steps
        last = np.flatnonzero(rows == i + 1)
        distances[last] = row[last, columns[last]]
    return distances


def _padded(sequences: Sequence[Ints], filler: int) -> Ints:
    padded = np.full((len(sequences), max(map(len, sequences), default=0)), filler, np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded


def error_rate(name: str, separator: int | None = None) -> Metric:
    """Edit distance over the labels' length, both summed first. ``separator``: the id between words."""

    def errors(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
        ours = transcripts(outputs[0])
        ids = whole_numbers(labels)
        if ids.ndim != 2 or len(ids) != len(ours):
            raise DataError(f"labels must be ids [samples, length], padded with -1, got {list(ids.shape)}")
        wanted = [row[row >= 0] for row in ids]
        if separator is not None:
            known: dict[tuple[int, ...], int] = {}
            ours = [_words(s, separator, known) for s in ours]
            wanted = [_words(s, separator, known) for s in wanted]
        lengths = np.array([len(s) for s in wanted], np.float64)
        if not lengths.any():
            raise DataError("labels hold nothing but padding")
        return np.stack([edit_distances(ours, wanted), lengths], axis=1).astype(np.float64)

    return Metric(name, True, False, errors, _rate, stake=_all_wrong, bounds=(0, math.inf))


def _rate(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    errors, lengths = (weights @ observations).T
    return ratio(errors, lengths)


def _all_wrong(observations: Floats, labels: Array | None) -> float:
    lengths = observations[:, 1]
    return at_stake(lengths / lengths.mean())


CER = error_rate("cer")
WER = error_rate("wer")


_MOST = 100.0
"""Nats a step, far beyond any vocabulary: keeps the perplexity of a broken model a number."""


def _surprise(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
    """``[samples, 2]``: minus the log-likelihood of the labels, over the steps with one; their number."""
    logits, wanted = outputs[0], whole_numbers(labels)
    if logits.ndim != 3 or wanted.shape != logits.shape[:2]:
        raise DataError(
            f"perplexity needs logits [samples, steps, vocabulary] and labels [samples, steps]; got "
            f"{list(logits.shape)} and {list(wanted.shape)}"
        )
    if wanted.max(initial=0) >= logits.shape[2]:
        raise DataError(f"label {wanted.max()} is beyond the model's vocabulary of {logits.shape[2]}")
    if not (wanted >= 0).any():
        raise DataError("labels hold nothing but padding")
    # Sample by sample: a copy of all logits in float64 may not fit.
    pairs = zip(logits, wanted, strict=True)
    observed = np.array([_surprise_of(row[ids >= 0], ids[ids >= 0]) for row, ids in pairs], np.float64)
    refuse_broken(~np.isfinite(observed[:, 0]))
    return observed


def _surprise_of(logits: Array, ids: Ints) -> tuple[float, int]:
    """Scores of minus infinity are classes ruled out. Of no steps, 0."""
    logits = logits.astype(np.float64)
    highest = logits.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        total = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
        return float((total - logits[np.arange(len(ids)), ids]).sum()), len(ids)


def _perplexity(observations: Floats, labels: Array | None, weights: Floats) -> Floats:
    return np.asarray(np.exp(np.minimum(_rate(observations, labels, weights), _MOST)), np.float64)


def _perplexity_stake(observations: Floats, labels: Array | None) -> float:
    """The slope of the exponential is the perplexity; a failed sample is as unlikely as the worst."""
    surprise, steps = observations.T
    worst = float(ratio(surprise, steps).max())
    slope = math.exp(min(surprise.sum() / steps.sum(), _MOST))
    return at_stake(slope * worst * steps / steps.mean())


PERPLEXITY = Metric(
    "perplexity", True, False, _surprise, _perplexity, stake=_perplexity_stake, bounds=(1, math.inf)
)
