"""Imported profiles in the store, files of schema 1, and names that point out of the folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from planner.domain.profile import Configuration, Environment, Profile, imported_environment
from planner.domain.published import Published
from planner.errors import StoreError
from planner.store import ProfileStore, locate, read_profile, reference_names

PUBLISHED = Profile(
    Configuration("", "fp16", "", "T4", "tensorrt", 8, 1, 1, (), "bert-large-128"),
    imported_environment("a paper", (("tensorrt", "8.5.1"),)),
    (),
    0,
    "",
    source="a paper",
    published=Published(((95.0, 30), (99.0, 40)), 25.5, 300.0),
)
MEASURED = Profile(
    Configuration("m" * 64, "int8", "v" * 64, "genoa", "onnxruntime", 4, 1, 2, (("x", (4, 8)),)),
    Environment("CPU", "genoa", ("avx2",), 2, 8 << 30, "Linux", (("onnxruntime", "1"),)),
    (3, 1, 2),
    1 << 20,
    "2026-01-01T00:00:00+00:00",
)


def test_a_published_profile_comes_back_equal(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    path = store.put(PUBLISHED)
    assert path.parent.name == "bert-large-128"
    assert store.find(PUBLISHED.configuration, PUBLISHED.environment) == PUBLISHED


def test_sources_and_models_never_mix(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    store.put(PUBLISHED)
    other = replace(PUBLISHED, environment=imported_environment("another paper", (("tensorrt", "8.5.1"),)))
    assert store.find(other.configuration, other.environment) is None
    renamed = replace(PUBLISHED.configuration, model="bert-large-384")
    assert store.find(renamed, PUBLISHED.environment) is None


def test_a_file_of_schema_1_is_read_and_found(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    path = store.put(MEASURED)
    content = json.loads(path.read_text())
    for key in ("source", "published", "fresh", "conditions"):
        del content[key]
    del content["configuration"]["model"]
    path.write_text(json.dumps(content | {"schema": 1}))
    assert store.find(MEASURED.configuration, MEASURED.environment) == MEASURED
    # What version 0.1 called the file: else everything measured with it would be measured again.
    assert path.name == "int8-b4-t1-c64b1ce9fa6e.json"


@pytest.mark.parametrize(
    "damage",
    [
        {"published": {"percentiles_ns": [[95, 30], [99, 20]], "mean_ns": None, "throughput_rps": None}},
        {"published": {"percentiles_ns": [[99, 1.5]], "mean_ns": None, "throughput_rps": None}},
        {"published": {"percentiles_ns": []}},
        {"published": None},
        {"source": ""},
        {"samples_ns": [1, 2]},
    ],
)
def test_a_damaged_published_profile_is_named(tmp_path: Path, damage: dict[str, object]) -> None:
    path = ProfileStore(tmp_path).put(PUBLISHED)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(StoreError, match=path.name):
        read_profile(path)


@pytest.mark.parametrize("name", ["../../out", "..", "/etc/x", "a/b", ""])
def test_no_name_points_out_of_the_folder(tmp_path: Path, name: str) -> None:
    store = ProfileStore(tmp_path / "store")
    for configuration in (
        replace(MEASURED.configuration, variant=name),
        replace(MEASURED.configuration, model_sha256=name),
        replace(PUBLISHED.configuration, model=name or ".."),
    ):
        path = store.path_of(configuration, MEASURED.environment)
        assert path.parent.parent == tmp_path / "store"
        assert path.resolve().is_relative_to((tmp_path / "store").resolve() / path.parent.name)


def test_a_name_is_a_path_or_a_reference(tmp_path: Path) -> None:
    assert "bert-large" in reference_names()
    assert locate("bert-large", tmp_path).suffix == ".csv"
    (tmp_path / "bert-large").mkdir()
    assert locate("bert-large", tmp_path) == tmp_path / "bert-large"
    with pytest.raises(StoreError, match="did you mean bert-large"):
        locate("bert-larg", tmp_path / "elsewhere")
