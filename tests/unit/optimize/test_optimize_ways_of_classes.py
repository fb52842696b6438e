"""Replicas of several sets of classes on a large instance: some ways to share it, and the plan says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Demand, Problem, RequestClass
from planner.optimize import solve
from planner.optimize.patterns import MOST_OF_CLASSES, columns


def offer(vcpus: int) -> Offer:
    return Offer(
        provider="p",
        instance_type=f"c{vcpus}",
        region="r",
        purchase="on-demand",
        device="cpu",
        device_count=0,
        vcpus=vcpus,
        memory_bytes=vcpus * 2**30,
        usd_per_hour=0.05 * vcpus,
        price_source="a test",
        price_as_of="2026-01-01",
    )


def candidate(name: str, **rates: float) -> Candidate:
    total = sum(rates.values())
    return Candidate(
        id=name,
        workload="w",
        variant="fp32",
        backend="onnxruntime",
        device="cpu",
        threads=1,
        max_batch_size=1,
        memory_bytes=1,
        capacity_rps=total,
        side_by_side=1,
        packed_capacity_rps=total * 0.9,
        classes=tuple(rates.items()),
    )


CANDIDATES = (
    candidate("short", short=100.0),
    candidate("long", long=30.0),
    candidate("both", short=42.0, long=18.0),
)


def problem(vcpus: int, rate_rps: float) -> Problem:
    classes = (RequestClass("short", 0.7), RequestClass("long", 0.3))
    return Problem((Demand("w", rate_rps, classes=classes),), CANDIDATES, (offer(vcpus),))


@pytest.mark.parametrize(("vcpus", "some"), [(4, False), (96, True)])
def test_large_instances_are_shared_in_some_ways(vcpus: int, some: bool) -> None:
    posed = problem(vcpus, 5000)
    listed = columns(posed)
    assert all(column.packing.of_some == some for column in listed)
    assert len(listed) <= MOST_OF_CLASSES
    for column in listed:
        assert sum(count for _, count in column.packing.replicas) <= vcpus
    solution = solve(posed, 20)
    assert any("some ways" in note for note in solution.notes) == some
    served = dict.fromkeys(("short", "long"), 0.0)
    for placement in solution.placements:
        for _, name, flow in placement.class_flow_rps:
            served[name] += flow
    assert served == pytest.approx({"short": 3500, "long": 1500})


def test_large_instances_cost_little_more_than_small_ones_in_every_way() -> None:
    """The price is by the vCPU: what is lost is a part of one instance, and the ways that are not weighed."""
    small = solve(problem(4, 5000), 20).usd_per_hour
    large = solve(problem(48, 5000), 20)
    assert large.usd_per_hour <= small + 0.05 * 48
    alone = replace(problem(48, 5000), candidates=CANDIDATES[:2])
    assert large.usd_per_hour <= solve(alone, 20).usd_per_hour + 1e-9
