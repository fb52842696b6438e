"""planner report, and the page that planner plan leaves beside the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import page_plans
import pytest
from imported_plans import write_imported
from plan_files import invoke, tiny_plan, write_plan

if TYPE_CHECKING:
    from onnx_models import LabelledModel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_plans.plan_one(tmp_path_factory.mktemp("one"))


def test_a_plan_has_its_page_beside_it(made: Path) -> None:
    report = json.loads((made / "plan.json").read_text())
    text = (made / "report.html").read_text()
    assert f"{report['fleet']['cost']['usd_per_hour']:.4g}" in text
    assert all(candidate["id"] in text for candidate in report["candidates"])
    assert str(made.parent) not in text and "sheet.csv" in text, "no folder of this machine"
    assert not list(made.glob(".report*")), "nothing half written"


def test_the_page_can_be_drawn_again_elsewhere(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "page.html"
    done = invoke("report", made, "--output", target, "--seconds", "0")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.replace("\n", "") == f"Wrote {target}."
    text = target.read_text()
    assert "No sweep over the rate: there was no time" in text
    assert 'id="sojourn-0"' in text and 'id="sweep-0"' not in text


def test_without_plan_yaml_the_page_says_what_it_lacks(made: Path, tmp_path: Path) -> None:
    for name in ("plan.json", "problem.json"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    assert invoke("report", tmp_path / "plan.json", "--seconds", "0").exit_code == 0
    text = (tmp_path / "report.html").read_text()
    assert "Latencies by rate are not drawn" in text and 'id="front-0"' in text
    assert 'id="sojourn-0"' not in text


def test_a_plan_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = invoke("report", tmp_path)
    assert done.exit_code == 2
    assert "make one with planner plan" in done.stderr and len(done.stderr.splitlines()) == 1


def test_no_page_on_request_nor_one_of_an_earlier_plan(tmp_path: Path) -> None:
    folder = page_plans.plan_one(tmp_path)
    assert (folder / "report.html").exists()
    done = invoke("plan", tmp_path / "plan.yaml", "--no-report")
    assert done.exit_code == 0
    assert "report.html" not in done.stdout
    assert not (folder / "report.html").exists()


def test_a_failure_to_draw_costs_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.pipeline import showing

    def fails(plan: Path) -> Path:
        raise RuntimeError("no ink\nat all")

    monkeypatch.setattr(showing, "write_page", fails)
    content = page_plans.content_of(tmp_path, name="net", rate_rps=2000)
    done = invoke("plan", write_imported(tmp_path, page_plans.SHEET, content), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["fleet"] == json.loads((tmp_path / "plan/plan.json").read_text())["fleet"]
    assert done.stderr == "planner: the plan is written, its report.html is not: no ink\n"


def test_a_plan_from_python_has_its_page_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from planner import plan
    from planner.pipeline import showing

    content = page_plans.content_of(tmp_path, name="net", rate_rps=2000)
    path = write_imported(tmp_path, page_plans.SHEET, content)
    page = tmp_path / "plan" / "report.html"
    plan(path)
    assert page.exists()
    plan(path, page=False)
    assert not page.exists()

    def fails(plan: Path) -> Path:
        raise RuntimeError("no ink")

    monkeypatch.setattr(showing, "write_page", fails)
    with pytest.warns(UserWarning, match="the plan is written, its report.html is not: no ink"):
        assert plan(path).fleet.placements


def test_what_was_measured_here_is_drawn_from_its_samples(tmp_path: Path, tiny_model: LabelledModel) -> None:
    fleet = page_plans.content_of(tmp_path)["fleet"]
    path = write_plan(
        tmp_path / "plan.yaml", tiny_plan(tiny_model), recipes=["fp32"], batch_sizes=[1], fleet=fleet
    )
    done = invoke("plan", path)
    assert done.exit_code == 0, done.stderr
    assert "report.html" in done.stdout
    text = (tmp_path / "plan" / "report.html").read_text()
    assert 'id="sojourn-0"' in text and "by the exact queue" in text
    assert "measured</span>" in text and "environment " in text
    assert str(tiny_model.model.parent) not in text
