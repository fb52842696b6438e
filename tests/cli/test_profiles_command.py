"""planner profiles as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from planner.cli import app
from planner.domain.conditions import Conditions
from planner.domain.profile import Configuration, Environment, Profile
from planner.store import ProfileStore

ENVIRONMENT = Environment(
    "A CPU with quite a long name, as they have", "genoa", (), 2, 8 << 30, "Linux", (("onnxruntime", "1"),)
)
CONFIGURATION = Configuration(
    "m" * 64, "prune-30+int8-dynamic", "v" * 64, "sapphire-rapids", "onnxruntime", 4, 1, 2, ()
)
SHEET = """\
model,variant,device,backend,batch_size,mean_ms,p50_ms,p95_ms,p99_ms,source
bert,fp16,T4,tensorrt,1,3,2.9,3.5,4.25,a paper
bert,fp16,T4,tensorrt,2,5,4.9,5.5,6.25,a paper
"""


def planner(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["profiles", *map(str, arguments)])


def refused(*arguments: str | Path) -> str:
    run = planner(*arguments)
    assert run.exit_code == 2
    assert run.stdout == ""
    return run.stderr


def shown(*arguments: str | Path) -> str:
    run = planner(*arguments)
    assert run.exit_code == 0, run.stderr
    assert max(map(len, run.stdout.splitlines())) <= 100
    return run.stdout


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    """Two profiles of 500 samples, 1.001 to 1.5 ms."""
    store = ProfileStore(tmp_path / "store")
    samples = tuple(1_000_000 + 1000 * i for i in range(1, 501))
    profile = Profile(CONFIGURATION, ENVIRONMENT, samples, 1 << 20, "2026-01-01T00:00:00+00:00")
    store.put(profile)
    store.put(replace(profile, configuration=replace(CONFIGURATION, batch_size=8)))
    return store


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "sheet.csv"
    path.write_text(SHEET)
    return path


def test_show_tells_how_far_to_trust_a_profile(store: ProfileStore) -> None:
    calm = store.all()[0]
    told = Conditions(0.07, ("power cap",), 8.0, 2.0, 2.5e6, (1700, 1980), (50, 61), (310.2, 480.0))
    c = replace(CONFIGURATION, batch_size=16)
    store.put(replace(calm, configuration=c, conditions=told, foreign_load=0.2))
    (marked,) = (p for p in store.all() if p.configuration == c)
    text = shown("show", store.folder, store.id_of(marked))
    for line in (
        "load of other processes up to 20%",
        "drift: not settled, the last turn's median is +7% from the first's",
        "throttled: power cap",
        "energy per request: 0.125 J by the GPU, 0.5 J by the CPU packages",
        "GPU 1700 to 1980 MHz, 50 to 61 °C, 310 to 480 W",
    ):
        assert line in text.splitlines(), line
    content = json.loads(planner("show", store.folder, store.id_of(marked), "--json").stdout)
    assert content["gpu_joules_per_request"] == 0.125
    assert content["throttled"] == ["power cap"]
    text = shown("show", store.folder, store.id_of(calm))
    assert not [word for word in ("drift", "throttled", "energy", "GPU", "load") if word in text]
    assert json.loads(planner("show", store.folder, store.id_of(calm), "--json").stdout)["drift"] is None


def test_the_program_knows_the_command() -> None:
    command = [sys.executable, "-m", "planner", "profiles", "list"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "bert-large" in run.stdout
    assert json.loads(planner("list", "--json").stdout)[0]["reference"] == "bert-large"


def test_list_fits_the_width_and_names_what_cannot_be_read(store: ProfileStore) -> None:
    (store.folder / "m").mkdir()
    (store.folder / "m" / "broken.json").write_text("{")
    text = shown("list", store.folder)
    assert "2 profiles" in text
    assert "broken.json" in text
    listed = json.loads(shown_json("list", store.folder))
    assert [p["configuration"]["batch_size"] for p in listed["profiles"]] == [4, 8]
    assert len(listed["unreadable"]) == 1
    shown("list", "bert-large")


def shown_json(*arguments: str | Path) -> str:
    run = planner(*arguments, "--json")
    assert run.exit_code == 0, run.stderr
    return run.stdout


def test_show_gives_percentiles_with_intervals(store: ProfileStore) -> None:
    id = json.loads(shown_json("list", store.folder))["profiles"][0]["id"]
    text = shown("show", store.folder, id[:6])
    assert "distribution-free" in text
    told = json.loads(shown_json("show", store.folder, id))
    assert told["p50_ms"] == pytest.approx(1.25)
    low, high = told["intervals_ms"]["p50"]
    # 500 samples: the ranks of a 95 % interval of the median are 250 -+ 1.96 * sqrt(500) / 2.
    assert (low, high) == pytest.approx((1.228, 1.273), abs=0.002)
    assert told["intervals_ms"]["p99"][0] <= told["p99_ms"] <= told["intervals_ms"]["p99"][1]
    assert len(told["samples_ns"]) == 500


def test_show_of_an_imported_profile_names_the_source(sheet: Path) -> None:
    listed = json.loads(shown_json("list", sheet))["profiles"]
    text = shown("show", sheet, listed[0]["id"])
    assert "imported from a paper" in text
    assert "Number of samples unknown" in text
    assert listed[0]["samples"] is None
    assert (listed[0]["p90_ms"], listed[0]["p95_ms"]) == (None, 3.5)
    assert "no profile begins" in refused("show", sheet, "zzz")


def test_import_takes_all_rows_or_none(sheet: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    assert "Imported 2 profiles" in shown("import", sheet, target)
    assert {p.source for p in ProfileStore(target).all()} == {"a paper"}
    assert json.loads(shown_json("import", "bert-large", target))["imported"] == 238

    sheet.write_text(SHEET + "bert,fp16,T4,tensorrt,zero,3,2.9,3.5,4.25,a paper\nbert,fp16\n")
    other = tmp_path / "other"
    lines = refused("import", sheet, other).splitlines()
    assert lines[0] == f"{sheet}:4: batch_size: expected a whole number above 0, got 'zero'"
    assert lines[1].startswith(f"{sheet}:5: expected 10 cells")
    assert "2 problem(s)" in lines[2] and "nothing was imported" in lines[2]
    assert not other.exists()


def test_compare_says_what_changed(store: ProfileStore, tmp_path: Path) -> None:
    faster = ProfileStore(tmp_path / "faster")
    for profile in store.all():
        faster.put(replace(profile, samples_ns=tuple(ns // 2 for ns in profile.samples_ns)))
    text = shown("compare", store.folder, faster.folder)
    assert text.count("faster") == 4
    told = json.loads(shown_json("compare", store.folder, store.folder))
    assert [c["verdict"] for c in told["comparisons"][0]["changes"]] == ["no significant change"] * 2

    moved = ProfileStore(tmp_path / "moved")
    for profile in faster.all():
        moved.put(replace(profile, environment=replace(ENVIRONMENT, cores=4)))
    assert "--across-environments" in refused("compare", store.folder, moved.folder)
    text = shown("compare", store.folder, moved.folder, "--across-environments")
    assert "Different environments: cores 2, then 4" in text


def test_merge_and_prune_tell_what_they_did(store: ProfileStore, sheet: Path, tmp_path: Path) -> None:
    target = tmp_path / "all"
    shown("import", sheet, target)
    assert "2 added" in shown("merge", target, store.folder)
    assert json.loads(shown_json("merge", target, store.folder))["added"] == []
    told = json.loads(shown_json("prune", target, "--older-than", "1", "--dry-run"))
    assert (len(told["deleted"]), len(told["undated"]), told["left"]) == (2, 2, 2)
    assert len(ProfileStore(target).all()) == 4
    assert "2 deleted, 2 left" in shown("prune", target, "--older-than", "1")
    assert len(ProfileStore(target).all()) == 2
    assert "say what to prune" in refused("prune", target)
    assert "no such folder" in refused("prune", tmp_path / "nowhere", "--unreadable")


def test_an_unknown_name_is_one_line(tmp_path: Path) -> None:
    for command in (
        ("list", "bert-larg"),
        ("import", "bert-larg", tmp_path),
        ("compare", "bert-larg", "bert-large"),
    ):
        message = refused(*command)
        assert message.count("\n") == 1
        assert "did you mean bert-large?" in message
