from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import SpecError
from planner.gate import CANNOT_TELL, FAILED, PASSED, Outcome, policy_schema, read_policy


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def test_without_a_file_and_with_an_empty_one_the_defaults_hold(tmp_path: Path) -> None:
    assert read_policy(None) == read_policy(written(tmp_path, "# nothing\n"))
    assert read_policy(None).max_cost_increase == 0.05


def test_shares_are_written_either_way(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, "max_cost_increase: 10%\nmax_slowdown: 0.02\n"))
    assert (policy.max_cost_increase, policy.max_slowdown) == (0.1, 0.02)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_costs: 5%", "max_costs: unknown key; known here: max_cost_increase"),
        ("max_slowdown: soon", "max_slowdown: expected a share of 0 or more"),
        ("max_slowdown: -1%", "max_slowdown: expected a share of 0 or more"),
        ("max_slowdown: true", "max_slowdown: expected a share of 0 or more"),
        ("cannot_tell: maybe", "cannot_tell: 'pass', 'warn' or 'fail'"),
        ("- a list", "expected keys"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SpecError) as raised:
        read_policy(written(tmp_path, text))
    assert told in str(raised.value)
    assert "policy.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read_policy(tmp_path / "policy.yaml")


def test_what_a_verdict_means_is_the_policy_s_to_say(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, "cannot_tell: fail\nprice_changes: pass\nchanged_choice: warn\n"))
    assert policy.weight(Outcome("latency", CANNOT_TELL, "")) == "fail"
    assert policy.weight(Outcome("prices", FAILED, "")) == "pass"
    assert policy.weight(Outcome("choice", FAILED, "")) == "warn"
    assert policy.weight(Outcome("cost", FAILED, "")) == "fail"
    assert policy.weight(Outcome("cost", PASSED, "")) == "pass"
    assert read_policy(None).weight(Outcome("latency", CANNOT_TELL, "")) == "warn"


def test_the_schema_names_every_key_with_what_it_means() -> None:
    properties = policy_schema()["properties"]
    assert set(properties) == set(type(read_policy(None)).model_fields)
    assert all(key["description"] for key in properties.values())
