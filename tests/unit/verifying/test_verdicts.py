"""Observations to words, and to factors in the profile store."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import jsonschema
import pytest

from planner.errors import InputError
from planner.verifying import (
    FAILS,
    HOLDS,
    UNCLEAR,
    Observed,
    dump_observed,
    judged,
    observed_schema,
    read_observed,
)

AS_PREDICTED = Observed(
    candidate_id="fp32/onnxruntime/genoa/t1/b4",
    workload="net",
    rate_rps=100.0,
    asked_rps=100.0,
    percentile=99,
    budget_ms=20.0,
    measured_ms=15.0,
    measured_low_ms=14.0,
    measured_high_ms=16.0,
    predicted_ms=15.2,
    overhead_ms=0.1,
    requests=6000,
    valid=True,
    predicted_batch_size=1.5,
    mean_batch_size=1.5,
    service_ratio=1.01,
    arrival_cv=1.02,
)


def broke(observed: Observed) -> list[str]:
    return [name for name, _ in judged(observed).broke]


def test_what_is_as_predicted_holds_and_broke_nothing() -> None:
    found = judged(AS_PREDICTED)
    assert (found.verdict, found.predicted, found.broke) == (HOLDS, True, ())
    assert "5 ms below the budget of 20 ms" in found.words


@pytest.mark.parametrize(
    ("seen", "name", "words"),
    [
        ({"service_ratio": 1.2}, "service times", "service times broke it: 1.20 times the profile's"),
        ({"arrival_cv": 1.8}, "arrivals", "cv 1.80, where the plan assumes 1.00"),
        ({"rate_rps": 130.0}, "rate", "130/s came, 100 were planned for"),
        ({"mean_batch_size": 2.5}, "batching", "2.50 requests in a batch on average, 1.50 were predicted"),
    ],
)
def test_the_assumption_that_broke_is_named(seen: dict[str, float], name: str, words: str) -> None:
    found = judged(
        replace(AS_PREDICTED, **seen, measured_ms=30.0, measured_low_ms=28.0, measured_high_ms=33.0)
    )
    assert (found.verdict, found.predicted) == (FAILS, False)
    assert broke(found.observed) == [name]
    assert words in found.words
    assert "10 ms above the budget of 20 ms" in found.words


def test_what_explains_most_comes_first_and_batches_are_no_cause_of_their_own() -> None:
    seen = replace(AS_PREDICTED, service_ratio=1.1, arrival_cv=2.0, mean_batch_size=3.0)
    assert broke(seen) == ["arrivals", "service times"]


def test_of_few_requests_rate_and_arrivals_may_differ_by_chance() -> None:
    few = replace(AS_PREDICTED, requests=100, rate_rps=120.0, arrival_cv=1.3)
    assert broke(few) == []
    assert broke(replace(few, requests=10_000)) == ["arrivals", "rate"]


def test_faster_than_profiled_is_off_as_well() -> None:
    assert broke(replace(AS_PREDICTED, service_ratio=0.8)) == ["service times"]


def test_what_straddles_the_budget_or_is_no_valid_run_is_open() -> None:
    assert judged(replace(AS_PREDICTED, measured_high_ms=21.0)).verdict == UNCLEAR
    invalid = judged(replace(AS_PREDICTED, valid=False))
    assert invalid.verdict == UNCLEAR
    assert "not a valid run" in invalid.words


def test_observations_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    both = (AS_PREDICTED, replace(AS_PREDICTED, service_ratio=None, arrival_cv=None, highest_rps=120.0))
    path.write_text(dump_observed([judged(seen) for seen in both]))
    jsonschema.validate(json.loads(path.read_text()), observed_schema())
    assert read_observed(path) == both


def test_what_is_no_observation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    path.write_text(json.dumps({"schema_version": 1, "observed": [asdict(AS_PREDICTED) | {"budget_ms": -1}]}))
    with pytest.raises(InputError, match=r"observed\.0\.budget_ms"):
        read_observed(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_observed(tmp_path / "none.json")
