"""Whether a variant is less accurate than the baseline's, beyond what as many samples leave open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.backends import backend
from planner.errors import PlannerError
from planner.gate.known import Known
from planner.gate.outcome import CANNOT_TELL, FAILED, PASSED, Outcome, Verdict
from planner.gate.pairs import Pair, Unpaired
from planner.pipeline.engines import outputs_at
from planner.pipeline.inputs import BACKEND
from planner.pipeline.services import judged_for
from planner.pipeline.steps import EVALUATION_BATCH, entry_of
from planner.profiling.environment import usable_cores
from planner.quality import assess, metric, predict_all
from planner.quality.intervals import Floats, bootstrap, tango, z_value
from planner.report import PlanReport
from planner.report.plan_json import CandidatePart, QualityPart, VariantPart
from planner.variants import evaluation_of

RULE = "accuracy"


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse than the baseline's, positive where it is; ``low``..``high`` at the gate's level."""

    metric: str
    drop: float
    low: float
    high: float
    samples: int

    @property
    def words(self) -> str:
        return (
            f"{self.metric} {-self.drop:+.4f} ({-self.high:+.4f} to {-self.low:+.4f}, {self.samples} samples)"
        )


def judged(pair: Pair, same_model: bool, allowed: float, level: float) -> Outcome | None:
    """By the outputs of both engines on the same samples; None where these cannot be compared so."""
    found = paired(pair, same_model, level)
    if found is None:
        return None
    verdict: Verdict = FAILED if found.low > allowed else PASSED
    more = "; noise can make as much" if verdict == PASSED and found.drop > allowed else ""
    words = f"{found.words} against the baseline's engine, sample by sample{more}"
    return Outcome(RULE, verdict, words, pair.subject)


def paired(pair: Pair, same_model: bool, level: float) -> Drop | None:
    """None where the metric is a comparison with fp32, and fp32 is another one now.

    Raises PlannerError where the baseline's engine does not take these inputs.
    """
    prepared, entry = pair.prepared, entry_of(pair.prepared, pair.variant)
    how, labels = prepared.metric, prepared.main.evaluation.labels
    if not how.needs_labels and not same_model:
        return None
    size = min(EVALUATION_BATCH, pair.candidate.max_batch_size)
    outputs = [
        outputs_at(pair.place, engine, pair.candidate.backend, entry.evaluation, entry, size)
        for engine in (pair.before, pair.after)
    ]
    if how.needs_labels:
        # So many resamples that the level's quantile lies among them.
        found = assess(
            how, outputs[1], outputs[0], labels, confidence=1 - 2 * level, resamples=_resamples(level)
        )
        return Drop(how.name, found.drop, found.drop_low, found.drop_high, found.samples)
    reference = _reference(pair)
    theirs, ours = (np.asarray(how.observe(out, labels, reference)) for out in outputs)
    if how.hits:
        lost, gained, n = float((theirs * (1 - ours)).sum()), float((ours * (1 - theirs)).sum()), len(ours)
        low, high = tango(lost, gained, n, 1 - 2 * level)
        return Drop(how.name, (lost - gained) / n, float(low), float(high), n)
    sign = 1.0 if how.higher_is_better else -1.0

    def drop(weights: Floats) -> Floats:
        was, now = (how.combine(side, labels, weights) for side in (theirs, ours))
        return np.asarray(sign * (was - now))[:, None]

    ends = bootstrap(drop, len(ours), 1 - 2 * level, 0, _resamples(level))
    estimate = float(drop(np.ones((1, len(ours))))[0, 0])
    return Drop(how.name, estimate, float(ends[0, 0]), float(ends[1, 0]), len(ours))


def _resamples(level: float) -> int:
    return max(2000, round(4 / level))


def _reference(pair: Pair) -> list[np.ndarray[Any, Any]]:
    how, entry = evaluation_of(pair.baseline), pair.prepared.main
    with backend(BACKEND).load(how.path, usable_cores(), how.optimized) as session:
        return predict_all(session.infer, entry.evaluation, entry.inputs, EVALUATION_BATCH)


def outcome(
    found: Pair | Unpaired, before: Known, after: PlanReport, base: Path, allowed: float, level: float
) -> Outcome:
    """By outputs where both engines are at hand, else by what the two reports say of the variant."""
    candidate = found.candidate
    if isinstance(found, Pair) and found.same:
        return Outcome(RULE, PASSED, "the same engine as the baseline's, bit for bit", found.subject)
    if isinstance(found, Unpaired) and found.gone:
        return Outcome(RULE, FAILED, f"it cannot be made any more: {found.why}", found.subject)
    why = found.why if isinstance(found, Unpaired) else ""
    if isinstance(found, Pair):
        try:
            by_outputs = judged(found, _same_model(candidate, before.report, after), allowed, level)
        except PlannerError as error:
            by_outputs, why = None, str(error)
        if by_outputs is not None:
            return by_outputs
    return by_reports(candidate, before.report, after, base, allowed, level, why)


def _same_model(candidate: CandidatePart, before: PlanReport, after: PlanReport) -> bool:
    was, now = (
        next((w.model.sha256 for w in report.workloads if w.name == candidate.workload and w.model), None)
        for report in (before, after)
    )
    return was is not None and was == now


def by_reports(
    candidate: CandidatePart,
    before: PlanReport,
    after: PlanReport,
    base: Path,
    allowed: float,
    level: float,
    why: str = "",
) -> Outcome:
    """By the intervals that the reports give: they are not paired, so only a large drop shows.

    Each is widened to the level as a normal distribution's would be; where they are apart in spite of that,
    the variant is worse. ``why`` the outputs themselves were not compared.
    """
    aside = f" (by the two reports; {why})" if why else " (by the two reports)"
    one, other = _quality(candidate, before), _quality(candidate, after)
    data = {
        workload.evaluation and workload.evaluation.sha256
        for report in (before, after)
        for workload in report.workloads
        if workload.name == candidate.workload
    }
    if one is None or other is None or one.metric != other.metric or len(data) > 1:
        missing = "one of them has no accuracy of it on the same data by the same metric"
        return Outcome(RULE, CANNOT_TELL, f"{missing}{aside}", candidate.id)
    sign = 1.0 if metric(one.metric, base).higher_is_better else -1.0
    drop = sign * (one.value - other.value)
    surely = drop
    if one.confidence and other.confidence:
        wide = z_value(1 - level) / z_value(one.confidence)
        was = sign * one.value - wide * (sign * one.value - (one.low if sign > 0 else -one.high))
        now = sign * other.value + wide * ((other.high if sign > 0 else -other.low) - sign * other.value)
        surely = was - now
    words = f"{one.metric} {other.value:.4f}, the baseline's {one.value:.4f}{aside}"
    return Outcome(RULE, FAILED if surely > allowed else PASSED, words, candidate.id)


def _quality(candidate: CandidatePart, report: PlanReport) -> QualityPart | None:
    """None where nobody judged its variant."""
    found: dict[str, VariantPart] = {
        v.backend: v
        for v in report.variants
        if (v.workload, v.variant) == (candidate.workload, candidate.variant)
    }
    return judged_for(found, candidate.backend).quality if found else None
