"""Factors beside profiles: samples stay, plans take times as long as they were in service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.domain.profile import Configuration, Profile, imported_environment
from planner.domain.published import Published
from planner.errors import StoreError
from planner.store import (
    CALIBRATION_JSON,
    Calibration,
    ProfileStore,
    read_calibrations,
    write_calibrations,
)

ENVIRONMENT = imported_environment("a test", ())
PROFILE = Profile(
    configuration=Configuration("aa", "fp32", "ab", "genoa", "onnxruntime", 4, 1, 1, (("x", (4, 3)),)),
    environment=ENVIRONMENT,
    samples_ns=(1000, 2000, 3000),
    memory_bytes=1,
    taken_at="2026-01-01T00:00:00+00:00",
)
FACTOR = Calibration(
    "fp32", "ab", "onnxruntime", "genoa", ENVIRONMENT.id, 1.5, 100, "2026-01-02T00:00:00+00:00"
)


def test_a_factor_is_of_every_batch_size_and_samples_stay(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    other = replace(PROFILE, configuration=replace(PROFILE.configuration, batch_size=8))
    elsewhere = replace(PROFILE, configuration=replace(PROFILE.configuration, device="milan"))
    for profile in (PROFILE, other, elsewhere):
        store.put(profile)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*.json")}
    write_calibrations(tmp_path, [FACTOR])
    factors = {(p.configuration.device, p.configuration.batch_size): p.calibration for p in store.all()}
    assert factors == {("genoa", 4): 1.5, ("genoa", 8): 1.5, ("milan", 4): 1.0}
    found = store.find(PROFILE.configuration, ENVIRONMENT)
    assert found is not None
    assert found.samples_ns == PROFILE.samples_ns
    assert found.service_ns == (1500, 3000, 4500)
    assert found.mean_ns() == 2000, "what was measured"
    assert store.of_model("aa")[0].calibration == 1.5
    store.put(found)
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*/*.json")}


def test_another_environment_has_none(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    store.put(replace(PROFILE, environment=imported_environment("another", ())))
    write_calibrations(tmp_path, [FACTOR])
    assert [p.calibration for p in store.all()] == [1.0]


def test_published_steps_are_stretched_too() -> None:
    published = Published(((50.0, 1000), (99.0, 2000)), None, None)
    profile = replace(PROFILE, samples_ns=(), published=published, source="a paper")
    twice = replace(profile, calibration=2.0)
    assert twice.service_ns == tuple(2 * ns for ns in profile.service_ns)


def test_a_later_factor_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    write_calibrations(tmp_path, [FACTOR, replace(FACTOR, device="milan")])
    write_calibrations(tmp_path, [replace(FACTOR, factor=1.1)])
    assert {c.device: c.factor for c in read_calibrations(tmp_path).values()} == {"genoa": 1.1, "milan": 1.5}


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_JSON).write_text('{"schema": 9}')
    with pytest.raises(StoreError, match="delete it to plan by profiles alone"):
        ProfileStore(tmp_path).all()
    with pytest.raises(ValueError, match="above 0"):
        replace(FACTOR, factor=0.0)
