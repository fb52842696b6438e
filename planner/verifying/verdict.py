"""What was observed, against what the plan predicts: does it hold, and if not, which assumption broke?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.units import NS_PER_MS
from planner.verifying.observed import Observed
from planner.verifying.verify import FAILS, HOLDS, UNCLEAR, Verdict
from planner.verifying.words import distance_words

SERVICE, ARRIVALS, RATE, BATCHING = "service times", "arrivals", "rate", "batching"
"""What a prediction assumes."""
SERVICE_OFF, ARRIVALS_OFF, RATE_OFF, BATCHES_OFF = 0.05, 0.1, 0.03, 0.1
"""From which relative difference on each of them counts as broken, ..."""
CHANCE = 3.0
"""...and, of the rate and the arrivals, this over the root of the number of requests more."""
PREDICTION_OFF = 0.1
"""A prediction is right where it lies within the measured interval, or no further than this from it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """``verdict``: by the interval of what was measured, against the budget. ``predicted``: the prediction is
    right. ``broke``: the assumptions that do not hold, what explains most first, each with its words."""

    observed: Observed
    verdict: Verdict
    predicted: bool
    broke: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        """One line: by how much, and why."""
        o = self.observed
        parts = [
            f"p{o.percentile:g} {o.measured_ms:.3g} ({o.measured_low_ms:.3g} to {o.measured_high_ms:.3g}) ms "
            f"{distance_words(o.measured_ms * NS_PER_MS, o.budget_ms * NS_PER_MS)}",
            f"{o.measured_ms / o.predicted_ms:.2f} times the {o.predicted_ms:.3g} ms predicted",
        ]
        if not o.valid:
            parts.append("not a valid run by the load generator's own rules")
        parts += [words for _, words in self.broke]
        if not self.broke and not self.predicted:
            parts.append("services, arrivals and batches are as assumed, as far as that was seen")
        return "; ".join(parts)


def judged(observed: Observed) -> Judged:
    o = observed
    verdict: Verdict
    if o.measured_low_ms > o.budget_ms:
        verdict = FAILS
    else:
        verdict = HOLDS if o.measured_high_ms <= o.budget_ms and o.valid else UNCLEAR
    low, high = o.measured_low_ms * (1 - PREDICTION_OFF), o.measured_high_ms * (1 + PREDICTION_OFF)
    return Judged(o, verdict, low <= o.predicted_ms <= high, tuple(_broke(o)))


def _broke(o: Observed) -> list[tuple[str, str]]:
    """Batches are what services and arrivals make of them: they count where those are as assumed."""
    found: list[tuple[float, str, str]] = []
    chance = CHANCE / math.sqrt(o.requests)
    if o.service_ratio is not None and _off(o.service_ratio) > SERVICE_OFF:
        words = f"service times broke it: {o.service_ratio:.2f} times the profile's (--recalibrate)"
        found.append((_off(o.service_ratio), SERVICE, words))
    if _off(o.rate_rps / o.asked_rps) > RATE_OFF + chance:
        words = f"the rate is not the plan's: {o.rate_rps:.4g}/s came, {o.asked_rps:.4g} were planned for"
        found.append((_off(o.rate_rps / o.asked_rps), RATE, words))
    if o.arrival_cv is not None and _off(o.arrival_cv / o.planned_cv) > ARRIVALS_OFF + chance:
        words = f"arrivals broke it: cv {o.arrival_cv:.2f}, where the plan assumes {o.planned_cv:.2f}"
        found.append((_off(o.arrival_cv / o.planned_cv), ARRIVALS, words))
    if not found and o.mean_batch_size and o.predicted_batch_size:
        ratio = o.mean_batch_size / o.predicted_batch_size
        if _off(ratio) > BATCHES_OFF:
            words = (
                f"batching broke it: {o.mean_batch_size:.2f} requests in a batch on average, "
                f"{o.predicted_batch_size:.2f} were predicted"
            )
            found.append((_off(ratio), BATCHING, words))
    return [(name, words) for _, name, words in sorted(found, reverse=True)]


def _off(ratio: float) -> float:
    return max(ratio, 1 / ratio) - 1 if ratio > 0 else float("inf")
