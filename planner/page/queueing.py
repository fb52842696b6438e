"""What one replica takes, and what that does to latencies."""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner.page.charts import (
    MUTED,
    SERIES,
    Chart,
    Figure,
    across,
    axis,
    label,
    layout,
    lines,
    log_axis,
    rings,
    side_by_side,
    upright,
)
from planner.page.html import Html, badge, element, folded, joined, note, paragraph, section, table
from planner.page.shown import ByRate, Shown
from planner.page.words import (
    analysis,
    badges,
    milliseconds,
    number,
    percent,
    quality_of,
    rps,
    runs,
    used,
    workload_of,
)
from planner.report.plan_json import CandidatePart, WorkloadPart
from planner.units import NS_PER_MS

STYLES = ("solid", "dash", "dot", "dashdot")


def queueing(shown: Shown) -> Html:
    report = shown.report
    parts: list[Html] = [
        paragraph(
            "A replica is one engine with its batcher. Its capacity is the highest rate of requests at which "
            "the SLO's percentile, queueing included, is within the budget; planned with is the lower end of "
            "its 95\u00a0% interval, less the headroom."
        )
    ]
    drawn = [_sojourns(shown, k, by_rate) for k, by_rate in enumerate(shown.by_rate)]
    if drawn:
        parts += [element("h3", "Sojourn by rate, of each replica in the plan"), side_by_side(drawn)]
    parts += [note(text) for text in shown.missing.get("capacity", ())]
    parts += [element("h3", "Capacity by batch size"), side_by_side(_capacities(shown))]
    parts.append(folded(f"All {len(report.candidates)} candidates", _all(shown)))
    return section("capacity", "Capacity and queueing", joined(parts))


def _sojourns(shown: Shown, number_of: int, by_rate: ByRate) -> Chart:
    part = next(c for c in shown.report.candidates if c.id == by_rate.candidate_id)
    workload = workload_of(shown.report, part)
    budget, curve = workload.slo.budget_ms, by_rate.curve
    data = []
    for k, percentile in enumerate(curve.percentiles):
        times = [of_rate[k] / NS_PER_MS for of_rate in curve.sojourn_ns]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"p{percentile:g}",
                "x": list(curve.rates_rps),
                "y": [ms if math.isfinite(ms) else None for ms in times],
                "line": {"color": SERIES[k], "width": 3 if percentile == workload.slo.percentile else 2},
                "marker": {"size": 5},
                "hoverinfo": "text",
                "hovertext": [
                    lines(f"p{percentile:g} {milliseconds(ms)}", f"at {rps(rate)}")
                    for rate, ms in zip(curve.rates_rps, times, strict=True)
                ],
            }
        )
    limit, words = across(budget, f"budget {milliseconds(budget)}")
    planned = _planned(shown, by_rate)
    line, said = upright(planned, f"planned {rps(planned)}", before=planned > max(curve.rates_rps) / 2)
    figure = {
        "data": data,
        "layout": layout(
            axis("requests/s at one replica", rangemode="tozero"),
            axis("queueing and inference, ms", range=[0, budget * 1.35]),
            shapes=[limit, line],
            annotations=[words, said],
        ),
    }
    how = "by short simulations, a sketch" if curve.simulated else "by the exact queue"
    crowded = ", service times stretched as on a crowded instance" if by_rate.extrapolated else ""
    name = f"{workload.name}: " if len(shown.report.workloads) > 1 else ""
    return Chart(
        f"sojourn-{number_of}",
        f"{name}{runs(part)}, {part.device}",
        figure,
        f"Percentiles of a request's time {how}{crowded}.",
        340,
    )


def _planned(shown: Shown, by_rate: ByRate) -> float:
    """The highest rate that one of its replicas gets."""
    return max(
        traffic.replica_rps
        for placement in shown.report.fleet.placements
        if placement.extrapolated == by_rate.extrapolated
        for traffic in placement.traffic
        if traffic.candidate_id == by_rate.candidate_id
    )


def _capacities(shown: Shown) -> Iterator[Chart]:
    chosen = used(shown.report)
    for k, workload in enumerate(shown.report.workloads):
        mine = [part for part in shown.report.candidates if part.workload == workload.name]
        if not mine:
            continue
        groups: dict[str, list[CandidatePart]] = {}
        for part in mine:
            groups.setdefault(_group(part), []).append(part)
        # Many lines are told apart by pointing at them, not by a legend.
        legend = len(groups) <= 8
        data = [_line(group, parts, at, workload) for at, (group, parts) in enumerate(groups.items())]
        ringed = [part for part in mine if part.id in chosen]
        data.append(rings([p.max_batch_size for p in ringed], [p.capacity_low_rps for p in ringed], 18))
        sizes = sorted({part.max_batch_size for part in mine})
        ticks = {"type": "log", "tickvals": sizes, "ticktext": [str(size) for size in sizes]}
        figure = {
            "data": data,
            "layout": layout(
                axis("largest batch", **ticks),
                log_axis("requests/s of one replica", (part.capacity_low_rps for part in mine)),
                showlegend=legend,
            ),
        }
        name = workload.name if len(shown.report.workloads) > 1 else "One replica"
        caption = (
            "Lower end of the interval that is planned with, before headroom; bars reach to the upper end."
        )
        yield Chart(f"capacity-{k}", name, figure, caption, 380)


def _group(part: CandidatePart) -> str:
    many = f", {part.instances} instances" if part.instances > 1 else ""
    wait = f", delay ≤ {part.queue_delay_ms:g} ms" if part.queue_delay_ms else ""
    threads = f", {part.threads} threads" if part.threads > 1 else ""
    classes = f", {'+'.join(part.classes)}" if part.classes else ""
    return f"{part.variant} on {part.device}{threads}{many}{wait}{classes}, {part.backend}"


def _line(group: str, parts: list[CandidatePart], at: int, workload: WorkloadPart) -> Figure:
    ordered = sorted(parts, key=lambda part: part.max_batch_size)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(group),
        "x": [part.max_batch_size for part in ordered],
        "y": [part.capacity_low_rps for part in ordered],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [part.capacity_high_rps - part.capacity_low_rps for part in ordered],
            "arrayminus": [0.0 for _ in ordered],
            "thickness": 1,
            "width": 3,
            "color": MUTED,
        },
        "line": {
            "color": SERIES[at % len(SERIES)],
            "dash": STYLES[at // len(SERIES) % len(STYLES)],
            "width": 2,
        },
        "marker": {"size": 6},
        "hoverinfo": "text",
        "hovertext": [
            lines(
                group,
                f"batch ≤ {part.max_batch_size}",
                f"{number(part.capacity_low_rps)} to {rps(part.capacity_high_rps)}",
                analysis(part, workload),
            )
            for part in ordered
        ],
    }


def _all(shown: Shown) -> Html:
    report = shown.report
    chosen = used(report)
    headers = (
        "candidate",
        "",
        "capacity, req/s",
        "its interval",
        "packed",
        "SLO's percentile there",
        "busy",
        "mean batch",
        "accuracy",
        "USD per million, full",
    )
    right = headers[2:]

    def row(part: CandidatePart) -> tuple[str, ...]:
        workload, full = workload_of(report, part), shown.full.get(part.id)
        quality = quality_of(report, part)
        mark = (badge("in the plan", "good"), " ") if part.id in chosen else ()
        return (
            element("code", part.id),
            joined((*mark, badges(part, workload))),
            number(part.capacity_rps),
            f"{number(part.capacity_low_rps)} to {number(part.capacity_high_rps)}",
            number(part.packed_capacity_rps),
            milliseconds(part.sojourn_ms),
            percent(part.utilisation),
            number(part.mean_batch_size),
            number(quality.value) if quality else "",
            number(full.usd_per_million_requests) if full else "fits nowhere",
        )

    def worth(part: CandidatePart) -> tuple[str, bool, float]:
        full = shown.full.get(part.id)
        return part.workload, part.id not in chosen, full.usd_per_million_requests if full else math.inf

    return table(headers, map(row, sorted(report.candidates, key=worth)), right, tall=True)
