"""The profile store: what goes in comes out, environments never mix, files are whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from planner.domain.conditions import NOT_TOLD, Conditions
from planner.domain.profile import Configuration, Environment, Profile, samples_for
from planner.errors import StoreError, SupportError
from planner.store import ProfileStore, replace_text

ENVIRONMENT = Environment("CPU", "genoa", ("avx2", "avx512f"), 2, 8 << 30, "Linux", (("onnxruntime", "1"),))
CONFIGURATION = Configuration(
    "m" * 64, "int8", "v" * 64, "amd-genoa", "onnxruntime", 4, 1, 2, (("x", (4, 8)),)
)
PROFILE = Profile(
    CONFIGURATION, ENVIRONMENT, tuple(range(1, 460)), 1 << 20, "2026-01-01T00:00:00+00:00", 0.25
)


def test_a_profile_comes_back_equal(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    store.put(PROFILE)
    assert store.find(CONFIGURATION, ENVIRONMENT) == PROFILE
    assert store.all() == [PROFILE]
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


@pytest.mark.parametrize(
    "told",
    [
        Conditions(-0.07, ("power cap",), 12.5, 0.25, 2.5e6, (1700, 1980), (50, 61), (310.2, 480.0)),
        Conditions(drift=0.0, throttled=()),
    ],
)
def test_conditions_come_back_equal(tmp_path: Path, told: Conditions) -> None:
    store = ProfileStore(tmp_path)
    store.put(replace(PROFILE, conditions=told))
    assert store.find(CONFIGURATION, ENVIRONMENT) == replace(PROFILE, conditions=told)


def test_a_file_of_schema_2_tells_no_conditions(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    path = store.put(PROFILE)
    content = json.loads(path.read_text())
    del content["conditions"]
    path.write_text(json.dumps(content | {"schema": 2}))
    found = store.find(CONFIGURATION, ENVIRONMENT)
    assert found == PROFILE
    assert found.conditions == NOT_TOLD


@pytest.mark.parametrize("damage", [None, {}, {"drift": 0.1}, []])
def test_damaged_conditions_are_named(tmp_path: Path, damage: object) -> None:
    store = ProfileStore(tmp_path)
    path = store.put(PROFILE)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"conditions": damage}))
    with pytest.raises(StoreError, match=path.name):
        store.find(CONFIGURATION, ENVIRONMENT)


@pytest.mark.parametrize(
    "other",
    [
        replace(ENVIRONMENT, libraries=(("onnxruntime", "2"),)),
        replace(ENVIRONMENT, cores=4),
        replace(ENVIRONMENT, cpu_flags=("avx2",)),
    ],
)
def test_environments_never_mix(tmp_path: Path, other: Environment) -> None:
    store = ProfileStore(tmp_path)
    store.put(PROFILE)
    assert store.find(CONFIGURATION, other) is None
    store.put(replace(PROFILE, environment=other))
    assert len(store.all()) == 2


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIGURATION, replicas=1),
        replace(CONFIGURATION, variant_sha256="w" * 64),
        replace(CONFIGURATION, shapes=(("x", (4, 9)),)),
    ],
)
def test_configurations_never_mix(tmp_path: Path, other: Configuration) -> None:
    store = ProfileStore(tmp_path)
    store.put(PROFILE)
    assert store.find(other, ENVIRONMENT) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 1}', '{"schema": 99}'])
def test_a_damaged_profile_is_named(tmp_path: Path, damage: str) -> None:
    store = ProfileStore(tmp_path)
    path = store.put(PROFILE)
    path.write_text(damage)
    with pytest.raises(StoreError, match=path.name) as caught:
        store.find(CONFIGURATION, ENVIRONMENT)
    assert "\n" not in str(caught.value)


def test_samples_must_be_positive_whole_numbers(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    path = store.put(PROFILE)
    content = json.loads(path.read_text())
    content["samples_ns"][3] = -1
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="positive"):
        store.find(CONFIGURATION, ENVIRONMENT)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    replace_text(target, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_text(target, "\ud800")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_percentile_needs_its_samples() -> None:
    assert [samples_for(p) for p in (90, 95, 99)] == [44, 90, 459]
    assert PROFILE.percentile_ns(99) == 455
    short = replace(PROFILE, samples_ns=PROFILE.samples_ns[:-1])
    assert short.percentile_ns(95) == 436
    with pytest.raises(SupportError, match=r"p99 needs 459 samples .* there are 458"):
        short.percentile_ns(99)


def test_those_of_one_model_and_no_other_file_is_read(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    store.put(PROFILE)
    other = replace(PROFILE, configuration=replace(CONFIGURATION, model_sha256="f" * 64))
    path = store.put(other)
    path.write_text("half a file")
    assert store.of_model(CONFIGURATION.model_sha256) == [PROFILE]
    assert store.of_model("e" * 64) == []
    twin = CONFIGURATION.model_sha256[:12] + "f" * 52
    assert store.of_model(twin) == [], "the folder is named by the first digits alone"
