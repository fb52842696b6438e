"""Latency, cost and accuracy of every candidate: which ones nothing beats, and which were chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from planner.page.charts import (
    PAPER,
    Chart,
    Figure,
    axis,
    label,
    layout,
    lines,
    log_axis,
    ramp,
    rings,
    side_by_side,
)
from planner.page.html import Html, element, joined, note, paragraph, section
from planner.page.shown import Shown
from planner.page.words import analysis, milliseconds, number, origin, quality_of, rps, runs, used
from planner.report.plan_json import CandidatePart, QualityPart, WorkloadPart
from planner.units import format_usd


@dataclass(frozen=True, slots=True)
class Mark:
    """One candidate. ``better``: its accuracy, more is better; None: unknown. ``on_front``: no other is at
    least as good in all three and better in one; of those that serve the same classes of requests."""

    part: CandidatePart
    latency_ms: float
    usd: float
    better: float | None
    quality: QualityPart | None
    on_front: bool
    chosen: bool


def front(shown: Shown) -> Html:
    parts: list[Html] = [
        paragraph(
            "Every candidate that was measured in full or imported: the latency of one full batch without "
            "any queue, and what a million requests cost on the cheapest offer for it when that is always "
            "full, queueing and headroom counted. Solid: nothing is at least as good in latency, cost and "
            "accuracy. Faint: something is. Ringed: the plan runs it."
        )
    ]
    for workload in shown.report.workloads:
        marks = marks_of(shown, workload)
        if not marks:
            continue
        if len(shown.report.workloads) > 1:
            parts.append(element("h3", workload.name))
        parts.append(side_by_side(_charts(shown, workload, marks)))
    if shown.unmeasured:
        parts.append(
            note(
                f"{shown.unmeasured} more configurations were not measured in full, since they cannot make "
                "the plan cheaper; they are not drawn."
            )
        )
    return section("front", "Latency, cost and accuracy", joined(parts))


def marks_of(shown: Shown, workload: WorkloadPart) -> list[Mark]:
    """Of the workload's candidates that have a cost."""
    chosen = used(shown.report)
    bare = []
    for part in shown.report.candidates:
        full = shown.full.get(part.id)
        if part.workload != workload.name or full is None:
            continue
        better = shown.candidates[part.id].quality
        latency = part.profiles[-1].slo_percentile_ms
        quality = quality_of(shown.report, part)
        bare.append((part, latency, full.usd_per_million_requests, better, quality))
    scores = [(ms, usd, -(better or 0.0)) for _, ms, usd, better, _ in bare]
    found = []
    for one, score in zip(bare, scores, strict=True):
        part = one[0]
        # Of small requests more are served than of large ones: that is no merit.
        peers = (
            s for (p, *_), s in zip(bare, scores, strict=True) if p.classes.keys() == part.classes.keys()
        )
        found.append(Mark(*one, not _beaten(score, peers), part.id in chosen))
    return found


def _beaten(one: Sequence[float], others: Iterable[Sequence[float]]) -> bool:
    """Whether another is no worse in anything, and not the same."""
    return any(other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in others)


def _charts(shown: Shown, workload: WorkloadPart, marks: list[Mark]) -> list[Chart]:
    which = "" if len(shown.report.workloads) == 1 else f" of {workload.name}"
    number_of = [w.name for w in shown.report.workloads].index(workload.name)
    percentile = f"p{workload.slo.percentile:g} of one full batch, ms"
    cost = "USD per million requests"
    latency = {
        "data": list(_traces(shown, workload, marks, lambda m: m.latency_ms)),
        "layout": layout(
            log_axis(percentile, (m.latency_ms for m in marks)), log_axis(cost, (m.usd for m in marks))
        ),
    }
    caption = f"{len(marks)} candidates{which}; the colour tells the variant."
    found = [Chart(f"front-{number_of}", "Cost by latency", latency, caption, 430)]
    judged = [m for m in marks if m.quality is not None]
    if len({(m.quality.value, m.part.variant) for m in judged if m.quality}) > 1:
        metric = judged[0].quality.metric if judged[0].quality else ""
        source = (
            "declared by a source" if judged[0].quality and judged[0].quality.source else "with its interval"
        )
        traces = _traces(
            shown, workload, judged, lambda m: m.quality.value if m.quality else 0.0, spread=True
        )
        accuracy = {
            "data": list(traces),
            "layout": layout(axis(metric), log_axis(cost, (m.usd for m in judged))),
        }
        caption = f"The same candidates by {metric}, {source}."
        found.append(Chart(f"accuracy-{number_of}", "Cost by accuracy", accuracy, caption, 430))
    return found


def _traces(
    shown: Shown, workload: WorkloadPart, marks: list[Mark], x: Callable[[Mark], float], spread: bool = False
) -> Iterator[Figure]:
    """Two for each variant, on the front and not, the least accurate first; then rings about the chosen."""
    kinds: dict[str, list[Mark]] = {}
    for mark in sorted(marks, key=lambda m: (m.better if m.better is not None else 0.0, m.part.variant)):
        kinds.setdefault(mark.part.variant, []).append(mark)
    for k, (variant, mine) in enumerate(kinds.items()):
        color, quality = ramp(len(kinds), k), mine[0].quality
        name = label(f"{variant} ({number(quality.value)})" if quality else variant)
        some_on_front = any(m.on_front for m in mine)
        for on_front in (True, False):
            those = [m for m in mine if m.on_front == on_front]
            if not those:
                continue
            yield {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "legendgroup": name,
                "showlegend": on_front == some_on_front,
                "x": [x(m) for m in those],
                "y": [m.usd for m in those],
                "opacity": 1.0 if on_front else 0.4,
                "marker": {
                    "color": color,
                    "size": 11 if on_front else 9,
                    "line": {"width": 1, "color": PAPER},
                },
                "hoverinfo": "text",
                "hovertext": [_told(shown, workload, m) for m in those],
                **({"error_x": _interval(those, color)} if spread else {}),
            }
    chosen = [m for m in marks if m.chosen]
    yield rings([x(m) for m in chosen], [m.usd for m in chosen], 20)


def _interval(marks: list[Mark], color: str) -> Figure:
    """Of the accuracy; of a declared one there is none."""
    found = [m.quality for m in marks if m.quality]
    return {
        "type": "data",
        "symmetric": False,
        "array": [q.high - q.value for q in found],
        "arrayminus": [q.value - q.low for q in found],
        "color": color,
        "thickness": 1,
        "width": 3 if any(q.high > q.low for q in found) else 0,
    }


def _told(shown: Shown, workload: WorkloadPart, mark: Mark) -> str:
    part, full = mark.part, shown.full[mark.part.id]
    quality = mark.quality
    accuracy = []
    if quality is not None:
        interval = "declared" if quality.source else f"{quality.low:.4f} to {quality.high:.4f}"
        accuracy = [f"{quality.metric} {quality.value:.4f} ({interval})"]
    return lines(
        *(["IN THE PLAN"] if mark.chosen else []),
        f"{runs(part)}",
        f"on {part.device}, {part.backend}",
        f"one batch: p{workload.slo.percentile:g} {milliseconds(mark.latency_ms)} ({origin(part)})",
        f"takes {rps(part.capacity_low_rps)} ({analysis(part, workload)})",
        f"{format_usd(mark.usd)} per million: {full.replicas} on each {full.offer.instance_type}",
        *accuracy,
        "on the front" if mark.on_front else "beaten by another",
    )
