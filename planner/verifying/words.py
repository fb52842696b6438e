"""Verdicts in words: by how much, which assumption broke, and what to do about it."""

from __future__ import annotations

import math

from planner.domain.workload import Arrivals
from planner.units import NS_PER_MS
from planner.verifying.seen import Seen
from planner.verifying.verify import ARRIVALS, FAILS, HOLDS, QUEUES, Case

_MS_DIGITS = 3


def arrivals_words(arrivals: Arrivals) -> str:
    if arrivals.trace:
        return f"a trace of {len(arrivals.trace):,} requests"
    return "Poisson" if arrivals.poisson else f"gamma, cv {arrivals.cv:g}"


def percentile_words(seen: Seen) -> str:
    """``24.3 (23.9 to 24.7)``, in ms."""
    if math.isinf(seen.percentile_ns):
        return "grows without end"
    high = "?" if math.isinf(seen.high_ns) else _ms(seen.high_ns)
    return f"{_ms(seen.percentile_ns)} ({_ms(seen.low_ns)} to {high})"


def distance_words(percentile_ns: float, budget_ns: float) -> str:
    """``is 5 ms below the budget of 20 ms``"""
    distance_ns = percentile_ns - budget_ns
    side = "above" if distance_ns > 0 else "below"
    return f"is {_ms(abs(distance_ns))} ms {side} the budget of {_ms(budget_ns)} ms"


def case_words(case: Case, arrivals: Arrivals | None) -> str:
    """What a case comes to; empty where it holds, and there is no more to say."""
    if case.verdict == HOLDS:
        return ""
    if case.whole is None:
        return f"without {case.lost} nothing is left to serve some of the requests"
    slo, seen = case.workload.slo, case.whole
    allowed = 1 - slo.percentile / 100
    what = f"p{slo.percentile:g} {percentile_words(seen)}"
    if not math.isinf(seen.percentile_ns):
        what += f" ms {distance_words(seen.percentile_ns, slo.budget_ns)}"
    late = f"{seen.late:.3%} of the requests are late ({seen.late_low:.3%} to {seen.late_high:.3%})"
    what += f"; {late}, {allowed * 100:.3g}% may be"
    if not case.settled:
        what += "; queues remember longer than runs last, more may be late"
    if case.verdict != FAILS:
        return f"{what}; simulate more requests to tell (--requests)"
    return f"{what}; {_why(case, arrivals)}"


def _why(case: Case, arrivals: Arrivals | None) -> str:
    if case.broke == ARRIVALS:
        came, planned = arrivals or case.workload.arrivals, case.workload.arrivals
        return (
            f"arrivals broke it: {arrivals_words(came)}, where the plan assumes {arrivals_words(planned)}, "
            "with which it does not fail; plan with workload.arrivals as they are"
        )
    if case.broke == QUEUES:
        return "queues broke it: the plan ignores them (workload.capacity: saturated)"
    return "it fails even with all that the plan assumes; plan with more headroom (workload.slo.headroom)"


def _ms(ns: float) -> str:
    return f"{ns / NS_PER_MS:.{_MS_DIGITS}g}"
