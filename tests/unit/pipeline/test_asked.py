"""What plan.yaml asks of a fleet reaches the problem, and means count what the floor is about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.catalog import load
from planner.domain.problem import Candidate, Period
from planner.domain.quality import AccuracyFloor, Quality
from planner.domain.workload import FleetLimits, Slo, Workload
from planner.pipeline.asked import Asked, asked_of, counts_as, offers_within
from planner.spec import read_spec

CATALOG = load(None)
QUALITY = Quality(
    metric="accuracy",
    value=0.90,
    low=0.88,
    high=0.92,
    drop=0.01,
    drop_low=-0.01,
    drop_high=0.03,
    confidence=0.95,
    samples=100,
)
SPEC = """
services:
  - model: a.onnx
    accuracy: {max_drop: 2%, per: average}
    workload: {rates_rps: {day: 100, night: 5}, redundancy: n+1, slo: {latency: 50ms}}
  - model: b.onnx
    accuracy: {minimum: 80%}
    workload: {rate_rps: 7, max_spot_share: 30%, redundancy: zone, slo: {latency: 1s}}
fleet:
  periods: [{name: day, hours: 14}, {name: night, hours: 10}]
  quotas: [{at_most: 3, device: L4}]
  purchase: [on-demand, spot]
  spot_availability: 90%
  min_zones: 2
  max_kinds: 3
  max_instances_per_offer: 9
  budget_usd_per_hour: 50
  objective: carbon
"""


def candidate(workload: str, device: str) -> Candidate:
    return Candidate(f"{workload}/{device}", workload, "fp32", "b", device, 1, 1, 1, 10.0, 1, 10.0)


def test_every_limit_reaches_the_problem(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(SPEC)
    fleet = read_spec(tmp_path / "plan.yaml")
    asked = asked_of(fleet, CATALOG)
    offers = offers_within(CATALOG, fleet.limits)
    problem = asked.problem([candidate("a", "L4"), candidate("b", "genoa")], offers)
    a, b = problem.demands
    assert (a.rate_rps, a.rates_rps, a.redundancy, a.min_mean_quality) == (100, (100, 5), "instance", 0.0)
    assert (b.rate_rps, b.max_spot_share, b.redundancy, b.min_mean_quality) == (7, 0.3, "zone", None)
    assert problem.periods == (Period("day", 14), Period("night", 10))
    assert [(q.at_most, q.device) for q in problem.quotas] == [(3, "L4")]
    assert (problem.min_zones, problem.max_kinds, problem.max_instances_per_offer) == (2, 3, 9)
    assert (problem.budget_usd_per_hour, problem.objective) == (50, "carbon")
    assert {offer.device for offer in problem.offers} == {"L4", "genoa"}
    figures = {f.offer_id: f for f in problem.figures}
    watts = CATALOG.device("L4").tdp_w
    assert watts is not None
    for offer in problem.offers:
        found = figures[offer.id]
        assert found.availability == (0.9 if offer.purchase == "spot" else 1.0)
        if offer.device == "genoa":
            assert (found.power_w, found.carbon_g_per_hour) == (None, None), "no source gives a CPU's power"
            continue
        assert found.power_w == watts * offer.device_count
        if offer.grams_co2_per_kwh is None:
            assert found.carbon_g_per_hour is None
        else:
            assert found.carbon_g_per_hour == pytest.approx(found.power_w * offer.grams_co2_per_kwh / 1000)
    assert {offer.purchase for offer in problem.offers} == {"on-demand", "spot"}


@pytest.mark.parametrize(
    ("floor", "quality", "margin"),
    [
        (AccuracyFloor("m", None, 0.02), QUALITY, -0.01),
        (AccuracyFloor("m", None, 0.02, "point"), QUALITY, 0.01),
        (AccuracyFloor("m", 0.8, None), QUALITY, 0.08),
        (AccuracyFloor("m", 0.8, None, "point"), QUALITY, 0.10),
        (AccuracyFloor("wer", 0.2, None), replace(QUALITY, higher_is_better=False), -0.72),
    ],
)
def test_a_mean_counts_what_is_better_than_the_floor(
    floor: AccuracyFloor, quality: Quality, margin: float
) -> None:
    """By the pessimistic end, unless the floor is judged by the point; 0 is what the mean has to reach."""
    workload = Workload("w", 1, Slo(99, 1), floor, floor_on_average=True)
    assert counts_as(workload, quality) == pytest.approx(margin)
    (demand,) = Asked((workload,), FleetLimits()).problem([], []).demands
    assert demand.min_mean_quality == 0


def test_devices_that_are_left_out_are_not_offered() -> None:
    every = offers_within(CATALOG, FleetLimits())
    no_gpu = offers_within(CATALOG, FleetLimits(without=("gpu",)))
    only = offers_within(CATALOG, FleetLimits(only=("Ada Lovelace", "T4"), without=("L40S",)))
    kinds = {device.name: device for device in CATALOG.devices}
    assert {kinds[o.device].kind for o in every} == {"cpu", "gpu"}
    assert {kinds[o.device].kind for o in no_gpu} == {"cpu"}
    assert {o.device for o in only} >= {"L4", "T4"} and "L40S" not in {o.device for o in only}
    assert all(kinds[o.device].architecture == "Ada Lovelace" or o.device == "T4" for o in only)
    committed = offers_within(CATALOG, FleetLimits(purchases=("reserved",), terms=("1yr",)))
    assert {o.term for o in committed} == {"1yr"}
