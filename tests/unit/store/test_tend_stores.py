"""Merging stores and pruning them: nothing is lost that was not named, and everything is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from planner.domain.profile import Configuration, Environment, Profile, imported_environment
from planner.domain.published import Published
from planner.errors import StoreError
from planner.store import ProfileStore, merge, prune

ENVIRONMENT = Environment("CPU", "genoa", ("avx2",), 2, 8 << 30, "Linux", (("onnxruntime", "1"),))
CONFIGURATION = Configuration("m" * 64, "int8", "v" * 64, "genoa", "onnxruntime", 4, 1, 2, ())
PROFILE = Profile(CONFIGURATION, ENVIRONMENT, (5, 6, 7), 1 << 20, "2026-01-01T00:00:00+00:00")
PUBLISHED = Profile(
    replace(CONFIGURATION, model="net", model_sha256="", variant_sha256=""),
    imported_environment("a paper", ()),
    (),
    0,
    "",
    source="a paper",
    published=Published(((99.0, 40),)),
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def batch(size: int) -> Profile:
    return replace(PROFILE, configuration=replace(CONFIGURATION, batch_size=size))


@pytest.fixture
def stores(tmp_path: Path) -> tuple[ProfileStore, ProfileStore]:
    return ProfileStore(tmp_path / "here"), ProfileStore(tmp_path / "there")


def test_each_profile_meets_its_fate(stores: tuple[ProfileStore, ProfileStore]) -> None:
    here, there = stores
    longer = replace(batch(1), samples_ns=(1, 2, 3, 4))
    for profile in (batch(1), batch(2), batch(4), replace(batch(8), samples_ns=(1, 2, 3, 4))):
        here.put(profile)
    for profile in (longer, batch(2), replace(batch(4), samples_ns=(8, 8, 8)), batch(8), PUBLISHED):
        there.put(profile)
    broken = there.folder / "m" / "broken.json"
    broken.parent.mkdir()
    broken.write_text("{")

    merged = merge(here, there.folder)
    lengths = [len(merged.added), len(merged.replaced), len(merged.identical), len(merged.kept)]
    assert lengths == [1, 1, 1, 1]
    assert here.find(longer.configuration, ENVIRONMENT) == longer
    assert here.find(batch(4).configuration, ENVIRONMENT) == batch(4), "in a conflict the store's own stays"
    assert here.find(batch(8).configuration, ENVIRONMENT) != batch(8), "the larger stays"
    assert here.find(PUBLISHED.configuration, PUBLISHED.environment) == PUBLISHED
    (conflict,), (unreadable,) = merged.conflicts, merged.unreadable
    assert "int8-b4" in conflict
    assert "broken.json" in unreadable
    assert broken.read_text() == "{", "the other store is not changed"

    again = merge(here, there.folder)
    assert not again.added and not again.replaced
    assert len(again.identical) == 3


def test_environments_stay_apart(stores: tuple[ProfileStore, ProfileStore]) -> None:
    here, there = stores
    here.put(PROFILE)
    there.put(replace(PROFILE, environment=replace(ENVIRONMENT, cores=4)))
    assert len(merge(here, there.folder).added) == 1
    assert len(here.all()) == 2


def test_a_damaged_profile_is_not_written_over(stores: tuple[ProfileStore, ProfileStore]) -> None:
    here, there = stores
    path = here.put(PROFILE)
    path.write_text("{")
    there.put(PROFILE)
    merged = merge(here, there.folder)
    assert len(merged.unreadable) == 1
    assert path.read_text() == "{"


def test_only_a_folder_can_be_merged(stores: tuple[ProfileStore, ProfileStore]) -> None:
    with pytest.raises(StoreError, match="not a folder"):
        merge(stores[0], stores[1].folder)


def test_prune_deletes_what_is_named(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    other = replace(batch(2), environment=replace(ENVIRONMENT, cores=4), taken_at="2026-02-27T00:00:00+00:00")
    old, newer, undated = store.put(batch(1)), store.put(other), store.put(PUBLISHED)
    broken = tmp_path / "m" / "broken.json"
    broken.parent.mkdir()
    broken.write_text("{")

    told = prune(store, older_than=timedelta(days=30), dry_run=True, now=NOW)
    assert [path for path, _ in told.deleted] == [old]
    assert told.undated == (undated,)
    assert old.exists(), "a dry run deletes nothing"

    assert prune(store, older_than=timedelta(days=30), now=NOW) == told
    assert not old.exists()
    assert newer.exists() and undated.exists() and broken.exists()

    by_environment = prune(store, environment=other.environment.id[:6])
    assert [path for path, _ in by_environment.deleted] == [newer]
    assert [path for path, _ in prune(store, unreadable=True).deleted] == [broken]
    assert store.all() == [PUBLISHED]


@pytest.mark.parametrize("begin", ["zz", ""])
def test_prune_needs_one_environment(tmp_path: Path, begin: str) -> None:
    store = ProfileStore(tmp_path)
    store.put(PROFILE)
    with pytest.raises(StoreError, match=f"no environment begins with.*{ENVIRONMENT.id}"):
        prune(store, environment=begin)
    with pytest.raises(StoreError, match="say what to prune"):
        prune(store)
