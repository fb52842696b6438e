"""What the plan would cost if more or less were asked for."""

from __future__ import annotations

import math

from planner.domain.reasons import Curve, Point
from planner.page.charts import ACCENT, PAPER, Chart, axis, layout, lines, log_axis, side_by_side, upright
from planner.page.html import Html, element, note, paragraph, section, table
from planner.page.shown import Shown
from planner.page.words import number

TITLES = {"slo": "By the SLO's latency", "rate": "By the rate", "floor": "By the accuracy floor"}
STEEP = 20
"""Costs so many times apart are drawn on a logarithmic axis."""
UNITS = {"slo": "ms, overhead included", "rate": "requests/s"}


def sweeps(shown: Shown) -> Html:
    parts = [paragraph("Every point is a fleet that was solved for. Hollow: not proven the cheapest.")]
    # One point is no curve.
    curves = [c for c in shown.curves if sum(p.usd_per_hour is not None for p in c.points) > 1]
    drawn = [_chart(shown, k, curve) for k, curve in enumerate(curves)]
    if drawn:
        parts.append(side_by_side(drawn))
    without = [(c, p) for c in shown.curves for p in c.points if p.usd_per_hour is None]
    if without:
        rows = [
            (f"{_whose(c)}{TITLES[c.over].lower()}", f"{number(p.value)} {c.unit}", p.reason)
            for c, p in without
        ]
        parts += [element("h3", "No fleet"), table(("", "at", "because"), rows)]
    for text in dict.fromkeys(curve.note for curve in shown.curves):
        parts.append(note(text))
    parts += [note(text) for text in shown.missing.get("sweeps", ())]
    return section("sweeps", "If more or less were asked", *parts)


def _whose(curve: Curve) -> str:
    return f"{curve.workload}: " if curve.workload else ""


def _chart(shown: Shown, number_of: int, curve: Curve) -> Chart:
    solved = [point for point in curve.points if point.usd_per_hour is not None]
    costs = [point.usd_per_hour for point in solved if point.usd_per_hour is not None]
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "USD/h",
            "x": [point.value for point in solved],
            "y": costs,
            # What lies between two points is known to neither.
            "line": {"color": ACCENT, "width": 2, "shape": "linear", "dash": "dot"},
            "marker": {
                "size": 9,
                "color": [ACCENT if point.proven else PAPER for point in solved],
                "line": {"width": 2, "color": ACCENT},
            },
            "hoverinfo": "text",
            "hovertext": [_told(curve, point) for point in solved],
        }
    ]
    line, words = upright(curve.asked, "asked")
    unit, log = UNITS.get(curve.over, curve.unit), curve.over != "floor"
    if log:
        # Shapes are put by the value itself, words by its logarithm.
        words["x"] = math.log10(curve.asked)
    figure = {
        "data": data,
        "layout": layout(
            log_axis(unit, (p.value for p in curve.points)) if log else axis(unit),
            log_axis("USD/h", costs)
            if max(costs) > STEEP * min(costs)
            else axis("USD/h", rangemode="tozero"),
            shapes=[line],
            annotations=[words],
            showlegend=False,
        ),
    }
    several = len(shown.report.workloads) > 1
    title = TITLES[curve.over]
    if several:
        title = f"{curve.workload or 'All workloads together'}: {title.lower()}"
    caption = "The cost of the cheapest fleet at each point, all else as it is."
    return Chart(f"sweep-{number_of}", title, figure, caption, 320)


def _told(curve: Curve, point: Point) -> str:
    return lines(
        f"{number(point.value)} {curve.unit}",
        f"{number(point.usd_per_hour or 0.0)} USD/h{'' if point.proven else ', not proven'}",
        *point.fleet.split(" + "),
    )
