"""Figures for plotly.js as plain values. Colours are the page's own, by name: they follow light and dark."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from planner.page.html import Html, element, joined

Figure = dict[str, Any]

TEXT, MUTED, LINE, ACCENT, WARN, PAPER = (
    f"var(--{name})" for name in ("text", "muted", "line", "accent", "warn", "paper")
)
SERIES = tuple(f"var(--series-{k})" for k in range(8))
RAMP = tuple(f"var(--ramp-{k})" for k in range(8))
"""From the least to the most."""


@dataclass(frozen=True, slots=True)
class Chart:
    """``height`` in pixels; ``caption`` says what is to be seen."""

    name: str
    title: str
    figure: Figure
    caption: str
    height: int = 380

    def html(self) -> Html:
        # Within a script element nothing but "<" could end it.
        values = Html(json.dumps(self.figure, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))
        size = f"height:{self.height}px"
        return element(
            "figure",
            element("h3", self.title),
            element("div", id=self.name, class_="chart", style=size, role="img", aria_label=self.title),
            element("script", values, type="application/json"),
            element("figcaption", self.caption),
        )


def side_by_side(charts: Iterable[Chart]) -> Html:
    """As many in a row as there is room for."""
    return element("div", joined(chart.html() for chart in charts), class_="charts")


def label(text: str) -> str:
    """Text as it is: plotly.js reads some markup in what it shows."""
    return escape(text)


def lines(*texts: str) -> str:
    """What a pointer over a mark is told."""
    return "<br>".join(map(label, texts))


def axis(title: str, **more: Any) -> Figure:
    return {
        "title": {"text": label(title), "font": {"size": 12}, "standoff": 8},
        "automargin": True,
        "gridcolor": LINE,
        "linecolor": LINE,
        "zerolinecolor": LINE,
        "tickfont": {"color": MUTED},
        **more,
    }


def log_axis(title: str, values: Iterable[float]) -> Figure:
    """Marked at 1, 2 and 5, or more, of each power of ten about the values, all of which are above 0."""
    every = [value for value in values if value > 0] or [1.0]
    least, most = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    digits = (1, 2, 5) if max(every) > 8 * min(every) else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [digit * 10.0**power for power in range(least, most + 1) for digit in digits]
    return axis(title, type="log", tickvals=ticks, ticktext=[f"{tick:,.10g}" for tick in ticks])


def layout(x: Figure, y: Figure, **more: Any) -> Figure:
    return {
        "xaxis": x,
        "yaxis": y,
        "font": {"color": TEXT, "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 48, "r": 12, "t": 8, "b": 40},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": PAPER,
            "bordercolor": LINE,
            "font": {"color": TEXT, "size": 12},
            "align": "left",
        },
        "legend": {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top", "font": {"size": 11}},
        "dragmode": False,
        **more,
    }


def ramp(count: int, at: int) -> str:
    """The colour of the one at that place of so many."""
    return RAMP[round(at * (len(RAMP) - 1) / max(count - 1, 1))]


def rings(x: Sequence[float], y: Sequence[float], size: int) -> Figure:
    """About the marks of what the plan runs."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "in the plan",
        "x": x,
        "y": y,
        "marker": {"symbol": "circle-open", "size": size, "color": ACCENT, "line": {"width": 2.5}},
        "hoverinfo": "skip",
    }


def across(y: float, text: str, color: str = WARN) -> tuple[Figure, Figure]:
    """A line over the whole width, and its words: a shape and an annotation."""
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
    words = {"xref": "paper", "x": 0, "xanchor": "left", "y": y, "yanchor": "bottom", "text": label(text)}
    return (
        {**line, "line": {"color": color, "width": 1.5, "dash": "dash"}},
        {**words, "showarrow": False, "xshift": 4, "font": {"size": 11, "color": color}},
    )


def upright(x: float, text: str, before: bool = True, color: str = ACCENT) -> tuple[Figure, Figure]:
    """A line over the whole height, and its words ``before`` it or after."""
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x}
    side, shift = ("right", -3) if before else ("left", 3)
    words = {"yref": "paper", "y": 1, "yanchor": "top", "x": x, "xanchor": side, "text": label(text)}
    return (
        {**line, "line": {"color": color, "width": 1.5, "dash": "dot"}},
        {**words, "showarrow": False, "xshift": shift, "font": {"size": 11, "color": color}},
    )
