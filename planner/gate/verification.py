"""Whether the new plan's fleet, simulated, holds its SLO."""

from __future__ import annotations

from pathlib import Path

from planner.domain.progress import Progress, silent
from planner.errors import PlannerError
from planner.gate.outcome import CANNOT_TELL, FAILED, PASSED, Outcome
from planner.pipeline import read_plan
from planner.verifying import FAILS, HOLDS, Verification, case_words, verify

RULE = "verification"
REQUESTS, MORE = 200_000, 1_000_000
"""At first, and where that does not show that it holds."""


def judged(plan: Path, profiles: Path, progress: Progress = silent) -> Outcome:
    """Fails where two simulations fail that have nothing in common: each fails a fleet that is exactly as
    good as asked in one of 200 cases, the two in one of 40,000."""
    try:
        made = read_plan(plan)
        first = verify(made, REQUESTS, profiles=profiles, seed=0, progress=progress)
        found = first
        if first.verdict != HOLDS:
            found = verify(made, MORE, profiles=profiles, seed=1, progress=progress)
    except PlannerError as error:
        return Outcome(RULE, CANNOT_TELL, f"not simulated: {error}")
    if found.verdict == HOLDS:
        return Outcome(RULE, PASSED, f"holds the SLO over {found.simulated:,} requests, simulated")
    if first.verdict == found.verdict == FAILS:
        return Outcome(RULE, FAILED, f"does not hold the SLO, simulated twice: {_worst(found)}")
    return Outcome(RULE, CANNOT_TELL, f"simulated, too close to tell: {_worst(found)}")


def _worst(found: Verification) -> str:
    case = next(case for case in found.cases if case.verdict == found.verdict)
    return case_words(case, found.arrivals)
