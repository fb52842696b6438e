from __future__ import annotations

from planner.gate.diff import diff
from planner.gate.known import Known, called


def test_another_name_of_the_only_workload_is_no_difference(plans: dict[str, Known]) -> None:
    before, after = called(plans["baseline"], "net-2"), plans["same"]
    assert before.report.workloads[0].name == "net-2"
    assert before.problem is not None
    assert {demand.workload for demand in before.problem.demands} == {"net-2"}
    assert diff(before, after).changes == ()
    assert called(before, "net").problem == plans["baseline"].problem
