"""The values of a curve, and what a fleet is called in a few words."""

from __future__ import annotations

import pytest

from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Demand, Pattern, Placement, Problem, Solution
from planner.pipeline import Sweep
from planner.pipeline.curves import in_short


def test_each_step_is_the_same_factor() -> None:
    values = Sweep("rate", 10, 1000, 5).values(asked=5)
    assert values == pytest.approx([10, 31.62, 100, 316.2, 1000])


def test_from_nothing_each_step_is_the_same_amount() -> None:
    assert Sweep("floor", 0, 0.02, 5).values(asked=0.5) == [0, 0.005, 0.01, 0.015, 0.02]


def test_the_plans_own_value_takes_the_place_of_one_beside_it() -> None:
    assert Sweep("rate", 10, 1000, 3).values(asked=97) == [10, 97, 1000]
    assert Sweep("rate", 10, 1000, 3).values(asked=60) == [10, 60, 100, 1000]
    assert Sweep("rate", 10, 1000, 3).values(asked=1000) == [10, 100, 1000]


def test_a_fleet_in_short_is_that_of_its_largest_period() -> None:
    def offer(name: str) -> Offer:
        return Offer("cloud", name, "r", "cpu", 0, 2, 1 << 33, "on-demand", 1.0, "", "")

    def candidate(name: str) -> Candidate:
        return Candidate(name, "w", name, "b", "cpu", 1, 1, 0, 1.0, 1, 1.0)

    def placed(offer_id: str, candidate_id: str, instances: int, period: str) -> Placement:
        return Placement(Pattern(offer_id, ((candidate_id, 2),), False), instances, (), 1.0, period)

    m, n = offer("m"), offer("n")
    problem = Problem((Demand("w", 1.0),), (candidate("int8"), candidate("fp32")), (m, n))
    placements = (
        placed(m.id, "int8", 1, "day"),
        placed(m.id, "int8", 2, "day"),
        placed(n.id, "fp32", 1, "day"),
        placed(n.id, "fp32", 3, "night"),
    )
    solution = Solution(placements, 1.0, 1.0, 0.0, True, 0.0, "")
    assert in_short(problem, solution) == "3 × m int8 + 1 × n fp32"
