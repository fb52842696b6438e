"""The replicas of a plan, and what is left of them when something is lost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from planner.domain.problem import Candidate, Pattern, Placement, RequestClass
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import Slo, Workload
from planner.verifying.fleet import Kind, after, kinds_of, worst_loss

SLO = Slo(99, 20_000_000)
NET = Workload("net", 1000.0, SLO, AccuracyFloor("accuracy", 0.9, None), redundancy="instance")
LARGE = Candidate("large", "net", "fp32", "tensorrt", "L4", 1, 8, 0, 400.0, 1, 300.0)
SMALL = replace(LARGE, id="small", device="T4", capacity_rps=100.0, packed_capacity_rps=80.0)
OTHER = replace(LARGE, id="other", workload="other")
CANDIDATES = {c.id: c for c in (LARGE, SMALL, OTHER)}


def placed(
    offer: str, instances: int, flows: dict[str, float], *, each: int = 1, zone: str = ""
) -> Placement:
    packed = each > 1
    replicas = tuple((name, each) for name in flows)
    return Placement(Pattern(offer, replicas, packed), instances, tuple(flows.items()), 1.0, zone=zone)


def of(workload: Workload, *placements: Placement) -> tuple[Kind, ...]:
    return kinds_of(workload, placements, CANDIDATES, 0.25, {(0, "large"): 7.0})


def test_kinds_are_of_one_workload_and_packed_ones_are_slower() -> None:
    large, small = of(
        NET, placed("a", 2, {"large": 700.0, "other": 5.0}), placed("b", 3, {"small": 300.0}, each=2)
    )
    assert (large.count, large.rate_rps, large.stretch, large.capacities_rps) == (2, 700.0, 1.0, (400.0,))
    assert (large.predicted_ns, small.predicted_ns) == (7.0, None)
    assert (small.count, small.per_instance, small.stretch) == (6, 2, 1.25)
    assert small.capacities_rps == (80.0,)


def test_the_loss_that_leaves_the_rest_fullest_is_the_worst() -> None:
    placements = (placed("a", 2, {"large": 700.0}), placed("b", 5, {"small": 300.0}))
    kinds = of(NET, *placements)
    loss = worst_loss(kinds, placements, NET, 1000.0)
    assert loss is not None
    assert (loss.name, loss.lost) == ("one a", ((0, 1),))
    assert loss.load == pytest.approx(1000 / (400 + 500))
    left = after(loss, kinds, NET, 1000.0)
    assert [kind.count for kind in left] == [1, 5]
    assert [kind.rate_rps / kind.count / kind.capacities_rps[0] for kind in left] == pytest.approx(
        [loss.load] * 2
    )
    assert worst_loss(kinds, placements, replace(NET, redundancy="none"), 1000.0) is None


def test_with_a_zone_goes_all_that_is_in_it() -> None:
    placements = (
        placed("a", 1, {"large": 100.0}, zone="z1"),
        placed("b", 4, {"small": 400.0}, zone="z1"),
        placed("a", 1, {"large": 500.0}, zone="z2"),
    )
    asked = replace(NET, redundancy="zone")
    loss = worst_loss(of(asked, *placements), placements, asked, 1000.0)
    assert loss is not None
    assert (loss.name, loss.lost, loss.load) == ("zone z1", ((0, 1), (1, 4)), 2.5)


def test_each_class_goes_where_it_can_be_served_and_to_nothing_where_it_cannot() -> None:
    """Short requests to both kinds by what each takes of them, long ones to the one that takes them."""
    classes = (RequestClass("short", 0.8), RequestClass("long", 0.2))
    asked = replace(NET, classes=classes)
    shared = replace(LARGE, classes=(("short", 320.0), ("long", 80.0)))
    short = replace(SMALL, classes=(("short", 100.0),))
    placements = (
        replace(
            placed("a", 2, {"large": 300.0}),
            class_flow_rps=(("large", "short", 200.0), ("large", "long", 100.0)),
        ),
        replace(placed("b", 2, {"small": 200.0}), class_flow_rps=(("small", "short", 200.0),)),
    )
    kinds = kinds_of(asked, placements, {"large": shared, "small": short}, 0.0, {})
    assert [kind.rates_rps for kind in kinds] == [(200.0, 100.0), (200.0,)]
    loss = worst_loss(kinds, placements, asked, 500.0)
    assert loss is not None
    assert loss.name == "one a"
    left = after(loss, kinds, asked, 500.0)
    assert left[0].rates_rps == pytest.approx((400 * 320 / 520, 100.0))
    assert left[1].rates_rps == pytest.approx((400 * 200 / 520,))
    alone = kinds_of(asked, placements[:1], {"large": shared}, 0.0, {})
    gone = worst_loss((replace(alone[0], count=1),), placements[:1], asked, 500.0)
    assert gone is not None
    assert math.isinf(gone.load)
