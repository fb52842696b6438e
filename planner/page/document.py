"""The whole page in one file: nothing is loaded from anywhere, and the browser is told to load nothing."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from planner.errors import PlannerError
from planner.page.cost import cost
from planner.page.evidence import accuracy, rejected, sources
from planner.page.front import front
from planner.page.html import Html, element, joined
from planner.page.purchase import asked, buy, head, summary
from planner.page.queueing import queueing
from planner.page.shown import Shown
from planner.page.sweeps import sweeps
from planner.page.words import without_folders
from planner.report import PlanReport

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
CONTENTS = (
    ("buy", "Buy"),
    ("cost", "Cost"),
    ("front", "Front"),
    ("capacity", "Capacity"),
    ("sweeps", "Sweeps"),
    ("accuracy", "Accuracy"),
    ("rejections", "Rejected"),
    ("sources", "Sources"),
)


def page(shown: Shown) -> str:
    """The HTML. It names no folder of the machine that it was made on."""
    report = PlanReport.model_validate(without_folders(shown.report.model_dump()))
    shown = replace(shown, report=report)
    parts = (
        head(report),
        element("nav", *(element("a", name, href=f"#{anchor}") for anchor, name in CONTENTS)),
        summary(report),
        asked(report),
        buy(shown),
        cost(shown),
        front(shown),
        queueing(shown),
        sweeps(shown),
        accuracy(report),
        rejected(report),
        sources(shown),
        _foot(),
    )
    title = ", ".join(workload.name for workload in report.workloads)
    return "<!doctype html>\n" + element(
        "html",
        element(
            "head",
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            Html('<link rel="icon" href="data:,">'),
            element("title", f"Plan: {title}"),
            element("style", Html(_own("page.css"))),
        ),
        element(
            "body",
            element("main", joined(parts)),
            element("script", _library(), type="application/octet-stream", id="library"),
            element("script", Html(_own("page.js"))),
        ),
        lang="en",
    )


def _foot() -> Html:
    words = (
        "Made by planner. Charts: plotly.js, © Plotly, Inc., MIT licence. The figures are those of plan.json."
    )
    return element("footer", words)


def _own(name: str) -> str:
    return (files("planner.page") / name).read_text(encoding="utf-8")


@cache
def _library() -> Html:
    """plotly.js, packed: a third of its 4.6 MB. The same bytes for the same version."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise PlannerError("the package plotly is missing; install it with: pip install plotly")
    source = Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return Html(base64.b64encode(gzip.compress(source.read_bytes(), 6, mtime=0)).decode("ascii"))
