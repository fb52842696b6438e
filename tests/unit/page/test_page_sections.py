"""The page of a plan: all that is in it is shown, whatever it is called, and nothing is loaded."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import page_plans
import pytest
from page_plans import without_names

from planner.domain.reasons import Alternative, Cost, Curve, Point
from planner.page import Shown, page
from planner.page.front import marks_of
from planner.pipeline import read_plan
from planner.pipeline.showing import shown
from planner.report import PlanReport

HOSTILE = "</script><b>%{x}&amp;\"'"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Two workloads and two periods, with all there is time for."""
    made = read_plan(page_plans.plan_several(tmp_path_factory.mktemp("several")))
    return shown(made, None, 60.0)


@pytest.fixture(scope="module")
def drawn(told: Shown) -> str:
    return page(told)


def figures(text: str) -> dict[str, dict[str, Any]]:
    found = re.findall(
        r'<div id="([^"]+)" class="chart".*?<script type="application/json">(.*?)</script>', text, re.S
    )
    return {name: json.loads(values) for name, values in found}


def test_the_page_is_one_small_file_that_loads_nothing(drawn: str, tmp_path: Path) -> None:
    assert 1_000_000 < len(drawn.encode()) < 5_000_000
    # The packed library is letters and digits.
    assert not re.search(r"""(?:src|srcset|action|data)\s*=\s*["']?(?!data:)[^"'\s>]*//""", drawn)
    assert not re.search(r"""<link[^>]+href="(?!data:,)|@import|url\(|<iframe|<object|<embed""", drawn)
    assert "default-src 'none'" in drawn


def test_every_candidate_price_and_rejection_is_there(told: Shown, drawn: str) -> None:
    report = told.report
    names = [c.id for c in report.candidates] + [o.instance_type for o in report.offers]
    sources = [o.price_source for o in report.offers] + [o.price_as_of for o in report.offers]
    for text in (*names, *sources, *(r.subject for r in report.rejections), "a paper", "a blog", "a thesis"):
        assert text in drawn, text
    for amount in ("1,", f"{report.fleet.cost.usd_per_hour:.4g}", f"{report.proof.bound_usd_per_hour:.4g}"):
        assert amount in drawn
    for mark in ("published percentiles", "exact queue", "simulated queue", "declared"):
        assert mark in drawn


def test_figures_are_what_plotly_knows_and_name_every_candidate(told: Shown, drawn: str) -> None:
    from plotly.graph_objects import Figure

    made = figures(drawn)
    kinds = {name.rsplit("-", 1)[0] for name in made}
    assert kinds == {"periods", "front", "accuracy", "sojourn", "capacity", "sweep"}
    for figure in made.values():
        Figure(without_names(figure))
    for number, workload in enumerate(told.report.workloads):
        mine = [c for c in told.report.candidates if c.workload == workload.name]
        marks = [text for trace in made[f"front-{number}"]["data"] for text in trace.get("hovertext", ())]
        assert len(marks) == len(mine)
        chosen = {t.candidate_id for p in told.report.fleet.placements for t in p.traffic}
        assert sum("IN THE PLAN" in text for text in marks) == len(chosen & {c.id for c in mine})
        ringed = made[f"front-{number}"]["data"][-1]
        assert ringed["name"] == "in the plan" and len(ringed["x"]) == len(chosen & {c.id for c in mine})


def test_the_front_is_what_nothing_beats(told: Shown) -> None:
    for workload in told.report.workloads:
        marks = marks_of(told, workload)
        scores = [(m.latency_ms, m.usd, -(m.better or 0)) for m in marks]
        for mark, mine in zip(marks, scores, strict=True):
            beaten = [s for s in scores if s != mine and all(a <= b for a, b in zip(s, mine, strict=True))]
            assert mark.on_front == (not beaten)
        assert 0 < sum(m.on_front for m in marks) < len(marks)


def test_at_its_capacity_a_replica_just_holds_the_slo(told: Shown) -> None:
    """The percentile is within the budget below the capacity, and beyond it above: as the curve has it."""
    assert len(told.by_rate) == 3
    parts = {c.id: c for c in told.report.candidates}
    for one in told.by_rate:
        part = parts[one.candidate_id]
        workload = next(w for w in told.report.workloads if w.name == part.workload)
        at = one.curve.percentiles.index(workload.slo.percentile)
        assert one.curve.simulated == (workload.arrivals is not None)
        for rate, times in zip(one.curve.rates_rps, one.curve.sojourn_ns, strict=True):
            assert list(times) == sorted(times)
            within = times[at] <= workload.slo.budget_ms * 1e6
            if rate < 0.9 * part.capacity_rps or rate > 1.05 * part.capacity_rps:
                assert within == (rate < part.capacity_rps)


def test_hostile_names_stay_text(told: Shown) -> None:
    text = told.report.model_dump_json()
    for name in ("int8", "T4", "a paper", "day", "tensorrt"):
        text = text.replace(f'"{name}"', json.dumps(HOSTILE + name))
    text = text.replace("a thesis", json.dumps(HOSTILE)[1:-1])
    report = PlanReport.model_validate_json(text)
    hostile = page(replace(told, report=report))
    library = hostile.count("<b>")
    assert library == 0
    assert hostile.count("</script>") == page(told).count("</script>")
    assert "&lt;/script&gt;&lt;b&gt;" in hostile
    shown_by_plotly = figures(hostile)["front-0"]["data"][0]["name"]
    assert shown_by_plotly.startswith("&lt;/script&gt;&lt;b&gt;%{x}&amp;amp;")


def test_what_is_missing_is_told(told: Shown) -> None:
    report = told.report
    bare = report.model_copy(
        update={
            "baseline": report.baseline.model_copy(update={"fleet": None, "saving": None, "note": "no fp32"}),
            "runner_up": report.runner_up.model_copy(update={"fleet": None, "reason": "no plan without it"}),
            "rejections": [],
            "notes": [],
            "proof": report.proof.model_copy(update={"proven": False, "gap": 0.125}),
        }
    )
    why = {name: (f"no {name} today",) for name in ("cost", "capacity", "sweeps")}
    text = page(Shown(bare, told.candidates, {}, missing=why, unmeasured=7))
    for words in (
        *(f"no {name} today" for name in why),
        "no fp32",
        "no plan without it",
        "Nothing was rejected.",
        "gap 12.5%",
        "fits nowhere",
        "7 more configurations",
    ):
        assert words in text
    assert set(figures(text)) == {"periods", "capacity-0", "capacity-1"}


def test_a_profile_that_is_not_planned_with_as_it_was_measured_says_so(told: Shown, drawn: str) -> None:
    first, *others = told.report.candidates
    profiles = [profile.model_copy(update={"calibration": 1.25}) for profile in first.profiles]
    candidates = [first.model_copy(update={"profiles": profiles}), *others]
    words = "planned with 1.250 times these, as in service"
    assert words in page(replace(told, report=told.report.model_copy(update={"candidates": candidates})))
    assert "times these" not in drawn


def test_points_without_a_plan_and_unproven_ones_are_marked(told: Shown) -> None:
    points = (
        Point(5.0, None, None, True, "", "nothing is that fast"),
        Point(30.0, 2.0, None, True, "1 × a", ""),
        Point(60.0, 1.0, None, False, "1 × b", ""),
    )
    curve = Curve("slo", "ms", "search", 30.0, points, "By hand.")
    alone = Alternative("search", "device", "A10", False, None, None, False, "fleet: too small")
    least = Alternative(
        "search", "variant", "int4", False, Cost(3.0, None, True), Cost(4.0, None, False), True, "x"
    )
    text = page(replace(told, curves=(curve,), alternatives=(alone, least)))
    assert "nothing is that fast" in text and "By hand." in text and "fleet: too small" in text
    assert "≥ 4" in text and "not proven" in text
    [trace] = figures(text)["sweep-0"]["data"]
    assert trace["x"] == [30.0, 60.0]
    assert trace["marker"]["color"] == ["var(--accent)", "var(--paper)"]
    assert "not proven" in trace["hovertext"][1]
