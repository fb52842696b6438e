"""Each rule on plans of its own, and on what was measured side by side, given by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.gate import rules
from planner.gate.inputs import changed_inputs
from planner.gate.known import Known
from planner.gate.outcome import CANNOT_TELL, FAILED, PASSED, Outcome, Verdict
from planner.report import PlanReport

Plans = dict[str, Known]
LEVEL = 0.0003


def latencies(*verdicts: Verdict) -> list[Outcome]:
    return [Outcome("latency", verdict, "", f"engine {k}") for k, verdict in enumerate(verdicts)]


def updated(known: Known, **changes: Any) -> Known:
    return replace(known, report=known.report.model_copy(update=changes))


def as_if_same_inputs(before: Known, after: Known) -> Known:
    """The second plan, claiming the first one's inputs."""
    return updated(
        after, inputs=before.report.inputs, workloads=before.report.workloads, taken_in=before.report.taken_in
    )


def measured_again(known: Known) -> Known:
    """With profiles of another time."""
    candidates = [
        c.model_copy(update={"profiles": [p.model_copy(update={"taken_at": "later"}) for p in c.profiles]})
        for c in known.report.candidates
    ]
    return updated(known, candidates=candidates)


def with_interval(known: Known, share: float) -> Known:
    """Capacities whose intervals reach that far to both sides."""
    candidates = [
        c.model_copy(
            update={
                "capacity_low_rps": c.capacity_rps * (1 - share),
                "capacity_high_rps": c.capacity_rps * (1 + share),
            }
        )
        for c in known.report.candidates
    ]
    return updated(known, candidates=candidates)


def test_no_plan_fails_with_what_blocks_it() -> None:
    outcome = rules.feasible("nothing is fast enough")
    assert (outcome.verdict, "nothing is fast enough" in outcome.words) == (FAILED, True)
    assert rules.feasible("").verdict == PASSED


def test_the_same_plan_costs_the_same(plans: Plans) -> None:
    assert rules.cost(plans["baseline"], plans["same"], 0.0, latencies(CANNOT_TELL)).verdict == PASSED


def test_more_demand_is_no_noise(plans: Plans) -> None:
    outcome = rules.cost(plans["baseline"], plans["busier"], 0.05, latencies(PASSED))
    assert outcome.verdict == FAILED
    assert "without any change of capacities" in outcome.words
    assert rules.cost(plans["baseline"], plans["busier"], 0.6, latencies(PASSED)).verdict == PASSED


@pytest.mark.parametrize("verdict", [PASSED, FAILED, CANNOT_TELL])
def test_what_capacities_add_is_judged_side_by_side(plans: Plans, verdict: Verdict) -> None:
    after = as_if_same_inputs(plans["baseline"], plans["slower"])
    assert after.usd_per_hour > 1.2 * plans["baseline"].usd_per_hour
    assert rules.cost(plans["baseline"], after, 0.05, latencies(PASSED, verdict)).verdict == verdict


def test_a_variant_that_may_serve_no_more_is_no_noise(plans: Plans) -> None:
    before, after = plans["baseline"], plans["slower"]
    assert after.problem is not None
    problem = replace(
        after.problem, candidates=tuple(c for c in after.problem.candidates if c.variant != "int8")
    )
    variants = [v.model_copy(update={"holds_floor": v.variant != "int8"}) for v in after.report.variants]
    without = replace(updated(after, variants=variants), problem=problem)
    assert rules.cost(before, without, 0.05, latencies(PASSED)).verdict == FAILED


def test_without_engines_nothing_can_be_told_of_capacities(plans: Plans) -> None:
    after = as_if_same_inputs(plans["baseline"], plans["slower"])
    assert rules.cost(plans["baseline"], after, 0.05, []).verdict == CANNOT_TELL


def test_on_another_device_capacities_are_not_known_to_have_changed(plans: Plans) -> None:
    # The same hardware by another name, and dearer.
    before, other = plans["baseline"], plans["slower"]
    assert other.problem is not None
    problem = replace(
        other.problem,
        candidates=tuple(replace(c, id=f"other/{c.id}", device="other") for c in other.problem.candidates),
        offers=tuple(
            replace(o, instance_type=f"other-{o.instance_type}", device="other") for o in other.problem.offers
        ),
        figures=(),
    )
    after = replace(other, problem=problem)
    assert rules.without_noise(before, after, 10.0) == pytest.approx(before.usd_per_hour)
    assert rules.cost(before, after, 0.05, latencies(CANNOT_TELL)).verdict == CANNOT_TELL


def with_margin(report: PlanReport, share: float) -> PlanReport:
    budget = report.workloads[0].slo.budget_ms
    placements = [
        p.model_copy(
            update={"traffic": [t.model_copy(update={"slo_margin_ms": share * budget}) for t in p.traffic]}
        )
        for p in report.fleet.placements
    ]
    return report.model_copy(update={"fleet": report.fleet.model_copy(update={"placements": placements})})


def test_a_margin_is_kept_as_planned(plans: Plans) -> None:
    report = plans["baseline"].report
    assert rules.margin(report, report, 0.0, latencies(FAILED), LEVEL).verdict == PASSED


@pytest.mark.parametrize("verdict", [PASSED, FAILED, CANNOT_TELL])
def test_with_equal_inputs_a_margin_is_judged_side_by_side(plans: Plans, verdict: Verdict) -> None:
    before = with_margin(plans["baseline"].report, 0.11)
    after = with_margin(plans["baseline"].report, 0.09)
    assert rules.margin(before, after, 0.1, latencies(verdict), LEVEL).verdict == verdict
    assert rules.margin(before, after, 0.09, latencies(verdict), LEVEL).verdict == PASSED


def test_with_other_inputs_a_margin_is_judged_by_its_interval(plans: Plans) -> None:
    before, after = plans["baseline"].report, plans["busier"]
    fails = with_margin(after.report, 0.05)
    assert rules.margin(before, fails, 0.1, latencies(PASSED), LEVEL).verdict == FAILED
    noisy = with_margin(with_interval(after, 0.2).report, 0.05)
    assert rules.margin(before, noisy, 0.1, latencies(PASSED), LEVEL).verdict == PASSED


def test_prices_that_changed_are_named_with_what_they_add(plans: Plans) -> None:
    before = plans["baseline"].report
    assert rules.prices(before, before).verdict == PASSED
    offers = [o.model_copy(update={"usd_per_hour": 2 * o.usd_per_hour}) for o in before.offers]
    inputs = before.inputs.model_copy(update={"catalog_sha256": "another"})
    after = before.model_copy(update={"offers": offers, "inputs": inputs})
    outcome = rules.prices(before, after)
    assert outcome.verdict == FAILED
    assert f"{before.fleet.cost.usd_per_hour:+.4g}" in outcome.words
    assert "although nothing else did" in outcome.words
    assert rules.prices(before, before.model_copy(update={"inputs": inputs})).verdict == PASSED


def test_inputs_that_differ_are_named(plans: Plans) -> None:
    assert changed_inputs(plans["baseline"].report, plans["same"].report) == ()
    assert changed_inputs(plans["baseline"].report, plans["busier"].report) == ("plan.yaml",)
    assert "imported profiles" in changed_inputs(plans["baseline"].report, plans["slower"].report)


def chosen(before: Known, after: Known, *verdicts: Verdict) -> list[Outcome]:
    return list(rules.choice(before, after, latencies(*verdicts), LEVEL))


def test_another_choice_of_other_inputs_is_what_was_asked_for(plans: Plans) -> None:
    (outcome,) = chosen(plans["baseline"], plans["busier"])
    assert (outcome.verdict, "plan.yaml" in outcome.words) == (PASSED, True)


def test_the_same_choice_passes(plans: Plans) -> None:
    assert [o.verdict for o in chosen(plans["baseline"], plans["same"])] == [PASSED]


def test_a_variant_that_is_another_file_fails(plans: Plans) -> None:
    before = plans["baseline"]

    def named(sha256: str) -> Known:
        variants = [v.model_copy(update={"sha256": sha256}) for v in before.report.variants]
        return updated(before, variants=variants)

    files, fleet = chosen(named("one"), named("other"))
    assert (files.verdict, fleet.verdict) == (FAILED, PASSED)
    assert "int8" in files.words


def fp32_alone(plans: Plans) -> Known:
    """A plan that claims the baseline's inputs and runs fp32, int8 being among its candidates."""
    before = plans["baseline"]
    placements = [
        p.model_copy(
            update={
                "traffic": [
                    t.model_copy(update={"candidate_id": t.candidate_id.replace("int8", "fp32")})
                    for t in p.traffic
                ]
            }
        )
        for p in before.report.fleet.placements
    ]
    return updated(before, fleet=before.report.fleet.model_copy(update={"placements": placements}))


def test_another_choice_by_the_same_profiles_is_no_noise(plans: Plans) -> None:
    (outcome,) = chosen(plans["baseline"], fp32_alone(plans), PASSED)
    assert (outcome.verdict, "no noise" in outcome.words) == (FAILED, True)


def test_another_choice_within_the_interval_is_noise(plans: Plans) -> None:
    # The former choice costs as much as this one.
    (outcome,) = chosen(plans["baseline"], measured_again(fp32_alone(plans)), FAILED)
    assert (outcome.verdict, "within the interval" in outcome.words) == (PASSED, True)


@pytest.mark.parametrize("verdict", [PASSED, FAILED, CANNOT_TELL])
def test_beyond_the_interval_engines_decide_side_by_side(plans: Plans, verdict: Verdict) -> None:
    cheaper = measured_again(fp32_alone(plans))
    cost = cheaper.report.fleet.cost
    cost = cost.model_copy(update={"usd_per_hour": 0.5 * cost.usd_per_hour})
    cheaper = updated(cheaper, fleet=cheaper.report.fleet.model_copy(update={"cost": cost}))
    (outcome,) = chosen(plans["baseline"], cheaper, verdict)
    assert (outcome.verdict, "beyond" in outcome.words or "slower" in outcome.words) == (verdict, True)
    # Twice the capacity is within such an interval.
    assert [o.verdict for o in chosen(plans["baseline"], with_interval(cheaper, 0.4), verdict)] == [PASSED]
