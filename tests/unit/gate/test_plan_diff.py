from __future__ import annotations

import json
from dataclasses import replace

import pytest

from planner.gate.diff import Change, diff, dump_diff
from planner.gate.known import Known

Plans = dict[str, Known]


def of_kind(changes: tuple[Change, ...], kind: str) -> list[Change]:
    return [change for change in changes if change.kind == kind]


def test_equal_plans_have_no_differences(plans: Plans) -> None:
    found = diff(plans["baseline"], plans["same"])
    assert found.changes == ()
    assert {share.usd_per_hour for share in found.shares} == {0.0}


@pytest.mark.parametrize("other", ["slower", "busier", "fewer"])
def test_the_shares_add_up_to_the_difference(plans: Plans, other: str) -> None:
    found = diff(plans["baseline"], plans[other])
    total = sum(share.usd_per_hour or 0.0 for share in found.shares)
    assert total == pytest.approx(found.after_usd_per_hour - found.before_usd_per_hour)
    assert found.shares[-1].usd_per_hour == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("other", "due_to"),
    [("slower", "capacities and candidates"), ("busier", "demand"), ("fewer", "limits and objective")],
)
def test_each_cause_has_its_share(plans: Plans, other: str, due_to: str) -> None:
    found = diff(plans["baseline"], plans[other])
    assert found.after_usd_per_hour > found.before_usd_per_hour
    shares = {share.due_to: share.usd_per_hour for share in found.shares}
    assert shares.pop(due_to) == pytest.approx(found.after_usd_per_hour - found.before_usd_per_hour)
    assert all(usd == pytest.approx(0.0, abs=1e-9) for usd in shares.values())


def test_prices_have_theirs_and_are_listed(plans: Plans) -> None:
    before = plans["baseline"]
    assert before.problem is not None
    problem = replace(
        before.problem,
        offers=tuple(replace(o, usd_per_hour=3 * o.usd_per_hour) for o in before.problem.offers),
    )
    report = before.report.model_copy(
        update={
            "offers": [
                o.model_copy(update={"usd_per_hour": 3 * o.usd_per_hour}) for o in before.report.offers
            ]
        }
    )
    cost = report.fleet.cost.model_copy(update={"usd_per_hour": 3 * before.usd_per_hour})
    report = report.model_copy(update={"fleet": report.fleet.model_copy(update={"cost": cost})})
    found = diff(before, replace(before, report=report, problem=problem))
    shares = {share.due_to: share.usd_per_hour for share in found.shares}
    assert shares["prices and offers"] == pytest.approx(2 * before.usd_per_hour)
    assert sum(change.usd_per_hour or 0.0 for change in of_kind(found.changes, "price")) == pytest.approx(
        2 * before.usd_per_hour
    )


def test_what_changed_is_listed(plans: Plans) -> None:
    busier = diff(plans["baseline"], plans["busier"]).changes
    assert Change("input", "plan.yaml", "", "changed") in busier
    assert Change("workload", "net: rate, rps", "20000", "30000") in busier
    assert sum(c.usd_per_hour or 0.0 for c in of_kind(busier, "fleet")) == pytest.approx(
        plans["busier"].usd_per_hour - plans["baseline"].usd_per_hour
    )
    assert (
        Change("limit", "max_instances_per_offer", "None", "8")
        in diff(plans["baseline"], plans["fewer"]).changes
    )


def test_a_capacity_by_itself_is_told_what_it_costs(plans: Plans) -> None:
    slower = of_kind(diff(plans["baseline"], plans["slower"]).changes, "capacity")
    used = [change for change in slower if change.subject in plans["baseline"].used]
    assert used
    assert all(change.usd_per_hour is not None and change.usd_per_hour > 0 for change in used)


def test_without_its_problem_a_plan_is_compared_and_costs_are_not_attributed(plans: Plans) -> None:
    alone = replace(plans["baseline"], problem=None, missing="problem.json: gone")
    found = diff(alone, plans["busier"])
    assert found.shares == ()
    assert found.changes
    assert "problem.json: gone" in found.notes[0]


def test_the_json_holds_all_of_it(plans: Plans) -> None:
    found = diff(plans["baseline"], plans["busier"])
    content = json.loads(dump_diff(found))
    assert content["schema_version"] == 1
    assert len(content["changes"]) == len(found.changes)
    assert content["after_usd_per_hour"] == found.after_usd_per_hour
