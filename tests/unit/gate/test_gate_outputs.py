from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from planner.gate import Gated, Outcome, diff, dump_gate, github_annotations, junit, markdown, read_policy
from planner.gate.known import Known
from planner.gate.outcome import CANNOT_TELL, FAILED, PASSED

NASTY = '50% slower | <b>worse</b>\nand: more, & "so" on'


@pytest.fixture(scope="module")
def gated(plans: dict[str, Known]) -> Gated:
    outcomes = (
        Outcome("plan", PASSED, "feasible"),
        Outcome("latency", FAILED, NASTY, "int8/onnxruntime/genoa/t1/b8"),
        Outcome("accuracy", CANNOT_TELL, "not the same data", "int8"),
        Outcome("prices", FAILED, "prices changed"),
    )
    changes = diff(plans["baseline"], plans["busier"])
    return Gated(plans["baseline"], plans["busier"], read_policy(None), outcomes, changes)


def test_annotations_are_one_line_each_with_github_s_escapes(gated: Gated) -> None:
    error, *warnings = github_annotations(gated).splitlines()
    assert error == (
        "::error title=planner gate%2C latency%3A int8/onnxruntime/genoa/t1/b8::"
        'failed: 50%25 slower | <b>worse</b>%0Aand: more, & "so" on'
    )
    assert [line.partition(" ")[0] for line in warnings] == ["::warning", "::warning"]


def test_junit_counts_failures_and_keeps_the_words(gated: Gated) -> None:
    suite = ElementTree.fromstring(junit(gated)).find("testsuite")
    assert suite is not None
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "2",
    }
    (failure,) = suite.iter("failure")
    # XML turns a line break in an attribute into a space, unless it is escaped.
    assert (failure.get("message") or "").replace("\n", " ") == NASTY.replace("\n", " ")


def test_markdown_keeps_its_table_whatever_is_in_a_cell(gated: Gated) -> None:
    text = markdown(gated)
    assert text.startswith("## Deployment plan: 1 rule(s) violated, 2 warning(s)\n")
    row = next(line for line in text.splitlines() if "50%" in line)
    assert row.replace("\\|", "").count("|") == 4
    assert "<b>" not in text
    assert "$" in text
    assert "demand" in text


def test_without_a_plan_there_is_nothing_to_compare(plans: dict[str, Known]) -> None:
    failed = Gated(plans["baseline"], None, read_policy(None), (Outcome("plan", FAILED, "none"),), None)
    assert "1 rule(s) violated" in markdown(failed)
    assert json.loads(dump_gate(failed))["changes"] is None


def test_json_says_what_became_of_each_outcome(gated: Gated) -> None:
    content = json.loads(dump_gate(gated))
    assert not content["passed"]
    assert [outcome["weight"] for outcome in content["outcomes"]] == ["pass", "fail", "warn", "warn"]
    assert content["changes"]["shares"]
