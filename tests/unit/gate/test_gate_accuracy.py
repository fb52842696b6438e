"""Accuracy by the reports of two plans; by outputs it is judged in tests/integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.gate.accuracy import by_reports, outcome
from planner.gate.known import Known
from planner.gate.outcome import CANNOT_TELL, FAILED, PASSED
from planner.gate.pairs import Unpaired
from planner.report import PlanReport
from planner.report.plan_json import CandidatePart, DataPart

Plans = dict[str, Known]
LEVEL = 0.0003
BASE = Path()


def judged_as(report: PlanReport, data: str = "the same", **quality: Any) -> PlanReport:
    """Every variant with this quality, on these data."""
    variants = [
        v.model_copy(update={"quality": v.quality.model_copy(update=quality)}) for v in report.variants
    ]
    evaluation = DataPart(source="", sha256=data, samples=1000, synthetic=False)
    workloads = [w.model_copy(update={"evaluation": evaluation}) for w in report.workloads]
    return report.model_copy(update={"variants": variants, "workloads": workloads})


@pytest.fixture
def report(plans: Plans) -> PlanReport:
    return plans["baseline"].report


@pytest.fixture
def used(plans: Plans) -> CandidatePart:
    return next(c for c in plans["baseline"].report.candidates if c.id in plans["baseline"].used)


def measured(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "confidence": 0.95, "samples": 1000}


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (measured(0.90, 0.02), PASSED),
        (measured(0.92, 0.02), PASSED),
        # Intervals of 95 % that are apart, and not at the gate's level.
        (measured(0.855, 0.02), PASSED),
        (measured(0.80, 0.02), FAILED),
    ],
)
def test_only_intervals_that_are_far_apart_are_a_drop(
    report: PlanReport, used: CandidatePart, now: dict[str, Any], verdict: str
) -> None:
    before, after = judged_as(report, **measured(0.90, 0.02)), judged_as(report, **now)
    found = by_reports(used, before, after, BASE, 0.0, LEVEL, "no engines")
    assert (found.verdict, "no engines" in found.words) == (verdict, True)


def test_what_is_allowed_is_no_drop(report: PlanReport, used: CandidatePart) -> None:
    before, after = judged_as(report, **measured(0.9, 0.001)), judged_as(report, **measured(0.87, 0.001))
    assert by_reports(used, before, after, BASE, 0.0, LEVEL).verdict == FAILED
    assert by_reports(used, before, after, BASE, 0.05, LEVEL).verdict == PASSED


def test_less_is_worse_or_better_as_the_metric_has_it(report: PlanReport, used: CandidatePart) -> None:
    before = judged_as(report, metric="rmse", **measured(1.0, 0.01))
    more, less = (judged_as(report, metric="rmse", **measured(value, 0.01)) for value in (1.5, 0.5))
    assert by_reports(used, before, more, BASE, 0.0, LEVEL).verdict == FAILED
    assert by_reports(used, before, less, BASE, 0.0, LEVEL).verdict == PASSED


def test_on_other_data_nothing_can_be_told(report: PlanReport, used: CandidatePart) -> None:
    before, after = judged_as(report), judged_as(report, data="others")
    assert by_reports(used, before, after, BASE, 0.0, LEVEL).verdict == CANNOT_TELL


def test_a_declared_accuracy_is_what_it_is(report: PlanReport, used: CandidatePart) -> None:
    lower = judged_as(report, value=0.88)
    assert by_reports(used, judged_as(report), judged_as(report), BASE, 0.0, LEVEL).verdict == PASSED
    assert by_reports(used, judged_as(report), lower, BASE, 0.0, LEVEL).verdict == FAILED


def test_a_variant_that_cannot_be_made_any_more_fails(plans: Plans, used: CandidatePart) -> None:
    before, after = plans["baseline"], plans["same"].report
    gone = outcome(Unpaired(used, "int8: no such operator", gone=True), before, after, BASE, 0.0, LEVEL)
    assert (gone.verdict, "no such operator" in gone.words) == (FAILED, True)
