"""`planner catalog import skypilot` and `planner catalog diff`: output, JSON, exit codes."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from planner.cli import app

FIXTURES = Path(__file__).parents[1] / "fixtures" / "skypilot"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["catalog", *map(str, arguments)])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    found = run("import", "skypilot", FIXTURES, "--to", tmp_path / "own", "--date", "2026-11-01")
    assert found.exit_code == 0, found.output
    return tmp_path / "own"


def test_import_counts_what_it_kept_and_dropped(tmp_path: Path) -> None:
    found = run("import", "skypilot", FIXTURES, "--to", tmp_path / "own", "--date", "2026-11-01")
    assert found.exit_code == 0, found.output
    assert max(map(len, found.output.splitlines())) <= 100
    (runpod,) = [line.split() for line in found.output.splitlines() if line.startswith("runpod ")]
    assert runpod == ["runpod", "8", "7", "1", "6", "2", "11", "2026-11-01"]
    for words in ("spot price not below on-demand", "MI300X 1", "--accelerator NAME=DEVICE", "fleet.catalog"):
        assert words in found.output


def test_import_as_json(tmp_path: Path) -> None:
    found = run("import", "skypilot", FIXTURES, "--to", tmp_path / "own", "--provider", "aws", "--json")
    (aws,) = json.loads(found.output)["providers"]
    assert (aws["provider"], aws["rows_read"], aws["rows_kept"], aws["offers"]) == ("aws", 12, 8, 10)
    assert aws["dropped"]["duplicate"] == 1
    assert aws["not_in_the_catalog"]["Inferentia2"] == 1


def test_what_was_imported_is_listed_checked_and_planned_with(own: Path) -> None:
    assert "offers, all in order" in run("check", own).output
    listed = run("list", "--catalog", own, "--provider", "vast")
    assert "5 offers" in listed.output
    assert "H100-NVL-94GB" in listed.output


def test_an_accelerator_named_by_hand(tmp_path: Path) -> None:
    arguments = ("import", "skypilot", FIXTURES, "--to", tmp_path / "own", "--provider", "vast", "--json")
    found = run(*arguments, "--accelerator", "V100=V100-PCIe-16GB")
    assert "V100" not in json.loads(found.output)["providers"][0]["not_in_the_catalog"]
    wrong = run(*arguments, "--accelerator", "V100")
    assert wrong.exit_code == 2
    assert "expected NAME=DEVICE" in wrong.output


def test_diff_fits_100_columns_and_tells_all_as_json(own: Path) -> None:
    found = run("diff", own)
    assert found.exit_code == 0, found.output
    assert max(map(len, found.output.splitlines())) <= 100
    assert "+177.5%" in found.output
    assert "more added; --all shows them" in found.output
    assert "more added" not in run("diff", own, "--all").output
    told = json.loads(run("diff", own, "--json").output)
    assert len(told["added"]) == 34
    assert told["removed"] == []
    assert told["changed"][0]["id"] == "azure/Standard_ND96asr_v4/westus2/spot"
    assert told["changed"][0]["change"] == pytest.approx(13.5985 / 4.901 - 1, abs=1e-3)


def test_diff_of_two_folders(own: Path, tmp_path: Path) -> None:
    assert run("import", "skypilot", FIXTURES, "--to", tmp_path / "b", "--provider", "aws").exit_code == 0
    told = json.loads(run("diff", own, tmp_path / "b", "--json").output)
    assert told["added"] == []
    assert "vast/1x-RTX_4090-32-65536/Germany, DE, EU/on-demand" in [o["id"] for o in told["removed"]]


def test_diff_without_a_folder_is_of_the_one_that_imports_go_to(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.rename(own.parent / "catalog")
    monkeypatch.chdir(own.parent)
    assert "34 added" in run("diff").output


def test_mistakes_end_in_one_line_and_code_2(tmp_path: Path) -> None:
    for arguments, words in (
        (("diff", tmp_path / "none"), "is not a folder"),
        (("import", "skypilot", tmp_path / "none"), "is not a folder"),
        (
            ("import", "skypilot", FIXTURES, "--provider", "azur", "--to", tmp_path / "o"),
            "did you mean azure",
        ),
    ):
        found = run(*arguments)
        assert found.exit_code == 2
        assert words in found.output
        assert len(found.output.strip().splitlines()) == 1


def test_a_plan_at_old_prices_says_so(tmp_path: Path) -> None:
    """The example buys what its catalog has, and most of that is older than 90 days."""
    example = Path(__file__).parents[2] / "examples" / "bert-large" / "plan.yaml"
    done = CliRunner().invoke(app, ["plan", str(example), "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    plan = json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))
    bought = {part["offer_id"] for part in plan["fleet"]["placements"]}
    old = [note for note in plan["notes"] if note.startswith("Old price: ")]
    dated = {offer["id"]: offer["price_as_of"] for offer in plan["offers"]}
    assert {offer for offer in bought if any(offer in note for note in old)} == {
        offer for offer in bought if date.fromisoformat(dated[offer]) < date.today() - timedelta(days=90)
    }
