"""The profiles of a plan, found again: as the plan took them, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from imported_plans import imported_plan, sheet, write_imported

from planner.domain.profile import Profile
from planner.errors import StoreError
from planner.pipeline import load_spec, plan, publish, read_plan
from planner.pipeline.made import Made
from planner.pipeline.profiled import known_profiles, profiles_of
from planner.pipeline.recomputed import fleet_of, recomputed
from planner.pipeline.showing import shown
from planner.store import Calibration, ProfileStore, write_calibrations
from planner.store import profiles_of as profiles_of_sheet

SHEET = sheet(
    "net,fp32,T4,tensorrt,1,4,4,4.1,4.2,,a paper",
    "net,fp32,T4,tensorrt,8,12,12,12.1,12.2,,a paper",
)
CONTENT = imported_plan({"fp32": 0.9}, {"minimum": 0.5}, {"rate_rps": 500}, {"only": ["T4"]})


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """By the profiles of a store, ``tmp_path / "store"``."""
    path = write_imported(tmp_path, SHEET, CONTENT, imported={"profiles": "store"})
    store = ProfileStore(tmp_path / "store")
    for profile in profiles_of_sheet(tmp_path / "sheet.csv"):
        store.put(profile)
    fleet = load_spec(path, tmp_path / "plan")
    publish(plan(fleet), fleet)
    return read_plan(tmp_path / "plan")


def found(made: Made) -> dict[str, tuple[Profile, ...]]:
    """Of the candidate of batches of 8."""
    (part,) = (part for part in made.report.candidates if part.max_batch_size == 8)
    (known,) = known_profiles(fleet_of(made).services).values()
    return profiles_of(made, part, known, 99)


def test_one_of_each_batch_size(made: Made) -> None:
    assert [p.configuration.batch_size for p in found(made)[""]] == [1, 8]


def test_a_factor_that_was_learnt_since_is_for_the_next_plan(made: Made, tmp_path: Path) -> None:
    before = found(made), shown(made, None, 0.0).by_rate
    assert before[1]
    c, environment = before[0][""][0].configuration, before[0][""][0].environment.id
    factor = Calibration(c.variant, c.variant_sha256, c.backend, c.device, environment, 2.0, 100, "")
    write_calibrations(tmp_path / "store", [factor])
    (known,) = known_profiles(fleet_of(made).services).values()
    assert {profile.calibration for profile in known} == {2.0}
    assert (found(made), shown(made, None, 0.0).by_rate) == before


def test_what_was_taken_again_since_is_not_taken(made: Made, tmp_path: Path) -> None:
    profile = found(made)[""][1]
    assert profile.published is not None
    slower = tuple((level, 2 * ns) for level, ns in profile.published.percentiles_ns)
    again = replace(profile, published=replace(profile.published, percentiles_ns=slower))
    ProfileStore(tmp_path / "store").put(again)
    with pytest.raises(StoreError, match="its profile of batch 8 is not there, or was taken again since"):
        found(made)
    assert shown(made, None, 0.0).missing["capacity"]


def test_a_plan_that_is_recomputed_stays_untouched(made: Made) -> None:
    before = {path: path.stat().st_mtime_ns for path in (made.folder, *made.folder.rglob("*"))}
    again = recomputed(made, made.report.workloads[0].name)
    workload = again.spec.workload
    problem = again.problem(replace(workload, slo=replace(workload.slo, latency_ns=60_000_000)))
    tighter = {c.id: c.capacity_rps for c in made.problem.candidates}
    assert all(c.capacity_rps > tighter[c.id] for c in problem.candidates)
    assert before == {path: path.stat().st_mtime_ns for path in (made.folder, *made.folder.rglob("*"))}
