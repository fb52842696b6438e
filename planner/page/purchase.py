"""The head of the page, what was asked, and what to buy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from planner.page.charts import SERIES, Chart, axis, label, layout, lines
from planner.page.html import Html, badge, element, note, paragraph, section, table
from planner.page.shown import Shown
from planner.page.words import (
    AMOUNTS,
    badges,
    bought,
    milliseconds,
    moment,
    number,
    percent,
    rps,
    runs,
    workload_of,
)
from planner.report import PlanReport
from planner.report.plan_json import PlacementPart, TrafficPart, WorkloadPart
from planner.units import NS_PER_MS, format_usd

REDUNDANCY = {"none": "", "instance": "any one instance may be lost", "zone": "any one zone may be lost"}
MOST_NOTES = 8
"""That are shown at once; more are folded."""
MOST_BARS = 8
"""Kinds of instances that a chart tells apart."""


def head(report: PlanReport) -> Html:
    names = ", ".join(workload.name for workload in report.workloads)
    made = f"{moment(report.created_at)} · planner {report.planner_version}"
    return element(
        "header", element("p", "Deployment plan", class_="kicker"), element("h1", names), paragraph(made)
    )


def summary(report: PlanReport) -> Html:
    cost, baseline = report.fleet.cost, report.baseline
    tiles = [
        _tile("per hour", format_usd(cost.usd_per_hour), "mean over the periods" if report.periods else ""),
        _tile("per month", format_usd(cost.usd_per_month), "730 hours"),
        _tile("per million requests", format_usd(cost.usd_per_million_requests), ""),
    ]
    if baseline.saving is not None:
        tiles.append(_tile("saved", f"{baseline.saving:.0%}", "against fp32, one request at a time"))
    if report.proof.amount is not None:
        what, unit = AMOUNTS[report.objective]
        amount = report.proof.amount / (NS_PER_MS if report.objective == "latency" else 1)
        tiles.append(_tile(what, f"{number(amount)} {unit}".strip(), "what the plan is chosen by"))
    tiles.append(_proof(report))
    notes = list(dict.fromkeys(report.notes))
    told = element(
        "details",
        element("summary", f"Before you trust it ({len(notes)})"),
        element("ul", *(element("li", text) for text in notes)),
        **_open(len(notes) <= MOST_NOTES),
    )
    tiled = element("div", *tiles, class_="tiles")
    return element("section", tiled, told if notes else Html(""), id="summary")


def _tile(name: str, value: str, under: str, kind: str = "") -> Html:
    return element(
        "div",
        element("span", name, class_="name"),
        element("span", value, class_="value"),
        element("span", under, class_="under"),
        class_=f"tile {kind}".strip(),
    )


def _proof(report: PlanReport) -> Html:
    proof = report.proof
    bound = f"nothing below {format_usd(proof.bound_usd_per_hour)}/h"
    if not proof.proven:
        return _tile("not proven", f"gap {proof.gap:.1%}", bound, "warn")
    if report.kept:
        return _tile("proof", "kept", "no other plan saves as much as asked for", "good")
    return _tile("proof", "optimal", f"{bound} · {proof.solver}", "good")


def asked(report: PlanReport) -> Html:
    headers = (
        "workload",
        "rate",
        "latency",
        "of it overhead",
        "headroom",
        "accuracy floor",
        "also",
        "served by",
    )
    return section("asked", "What was asked", table(headers, (_asked(w) for w in report.workloads)))


def _asked(w: WorkloadPart) -> tuple[str, ...]:
    rates = w.rates_rps.values()
    rate = f"{number(min(rates))} to {rps(w.rate_rps)}" if rates else rps(w.rate_rps)
    floor = w.floor
    limit = (
        f"{floor.metric} at least {floor.minimum:g}"
        if floor.max_drop is None
        else f"{floor.metric} at most {floor.max_drop:g} below fp32"
    )
    also = [REDUNDANCY[w.redundancy]]
    if w.max_spot_share < 1:
        also.append(f"at most {w.max_spot_share:.0%} on spot")
    if w.classes:
        also.append(f"requests: {', '.join(f'{c.share:.0%} {c.name}' for c in w.classes)}")
    if w.arrivals is not None:
        also.append(f"arrivals: {w.arrivals.kind}, cv {w.arrivals.cv:.3g}")
    if w.capacity == "saturated":
        also.append("queues ignored")
    if floor.per == "average":
        also.append("floor on average")
    if w.model is not None:
        by = f"{w.model.path}"
    else:
        by = f"{w.imported.count} imported profiles of {w.imported.model}" if w.imported else ""
    slo = w.slo
    return (
        w.name,
        rate,
        f"p{slo.percentile:g} within {milliseconds(slo.latency_ms)}",
        milliseconds(slo.overhead_ms),
        percent(slo.headroom),
        limit,
        ", ".join(text for text in also if text),
        by,
    )


def buy(shown: Shown) -> Html:
    report = shown.report
    parts: list[Html] = []
    if report.fleet.commitments:
        parts += [element("h3", "Committed, in all periods"), _commitments(report)]
    chart = _by_period(report)
    if chart is not None:
        parts.append(chart.html())
    periods = [(name, list(held)) for name, held in groupby(report.fleet.placements, key=lambda p: p.period)]
    hours = {period.name: period.hours for period in report.periods}
    for name, held in periods:
        listed = _placements(report, held)
        total = sum(placement.usd_per_hour for placement in held)
        if not name:
            parts.append(listed)
            continue
        count = sum(placement.instances for placement in held)
        words = f"{name}: {count} instances, {format_usd(total)}/h, {hours[name]:g} h"
        parts.append(element("details", element("summary", words), listed, **_open(len(periods) <= 2)))
    parts += _engines(report)
    return section("buy", "What to buy", *parts)


def _open(wanted: bool) -> dict[str, str]:
    return {"open": "open"} if wanted else {}


def _placements(report: PlanReport, held: list[PlacementPart]) -> Html:
    headers = ("buy", "instance", "where", "runs on each", "traffic", "latency", "spare", "USD/h")
    right = ("buy", "traffic", "latency", "spare", "USD/h")
    return table(headers, (row for placement in held for row in _rows(report, placement)), right)


def _rows(report: PlanReport, placement: PlacementPart) -> Iterator[tuple[str, ...]]:
    offer = next(offer for offer in report.offers if offer.id == placement.offer_id)
    candidates = {candidate.id: candidate for candidate in report.candidates}
    first = True
    for traffic in placement.traffic:
        candidate = candidates[traffic.candidate_id]
        workload = workload_of(report, candidate)
        name = f"{workload.name}: " if len(report.workloads) > 1 else ""
        what = element(
            "span",
            f"{traffic.replicas_per_instance} × {name}{runs(candidate)} ({candidate.backend}) ",
            badges(candidate, workload, placement.extrapolated),
        )
        where = f"{placement.zone or offer.region}, {bought(offer)}"
        yield (
            f"{placement.instances} ×" if first else "",
            element("span", element("strong", offer.instance_type), f" {offer.provider}") if first else "",
            where if first else "",
            what,
            _traffic(traffic),
            f"p{workload.slo.percentile:g} {milliseconds(traffic.predicted_sojourn_ms)}",
            milliseconds(traffic.slo_margin_ms),
            number(placement.usd_per_hour) if first else "",
        )
        first = False


def _traffic(traffic: TrafficPart) -> Html:
    share = element("strong", f"{traffic.share:.0%}")
    return element("span", share, f" {rps(traffic.rate_rps)}")


def _commitments(report: PlanReport) -> Html:
    held = report.fleet.commitments
    rows = [(f"{c.instances} ×", c.offer_id, number(c.usd_per_hour)) for c in held]
    return table(("buy", "offer", "USD/h"), rows, ("buy", "USD/h"))


def _by_period(report: PlanReport) -> Chart | None:
    """Instances of each kind, from period to period."""
    if len(report.periods) < 2:
        return None
    counts: dict[str, dict[str, int]] = {}
    for placement in report.fleet.placements:
        of_kind = counts.setdefault(placement.offer_id, {})
        of_kind[placement.period] = of_kind.get(placement.period, 0) + placement.instances
    most = sorted(counts, key=lambda kind: -sum(counts[kind].values()))
    shown, rest = most[:MOST_BARS], most[MOST_BARS:]
    stacks = {kind: counts[kind] for kind in shown}
    for kind in rest:
        others = stacks.setdefault("others", {})
        for period, count in counts[kind].items():
            others[period] = others.get(period, 0) + count
    names = [period.name for period in report.periods]
    data = [
        {
            "type": "bar",
            "name": label(kind),
            "x": [label(name) for name in names],
            "y": [of_kind.get(name, 0) for name in names],
            "marker": {"color": SERIES[k % len(SERIES)]},
            "hoverinfo": "text",
            "hovertext": [lines(name, f"{of_kind.get(name, 0)} × {kind}") for name in names],
        }
        for k, (kind, of_kind) in enumerate(stacks.items())
    ]
    figure = {
        "data": data,
        "layout": layout(axis("", type="category"), axis("instances"), barmode="stack", bargap=0.2),
    }
    paid = " Commitments are paid for in all of them." if report.fleet.commitments else ""
    caption = f"Instances that run in each period.{paid}"
    return Chart("periods", "Instances by period", figure, caption, 360 + 16 * len(stacks))


def _engines(report: PlanReport) -> list[Html]:
    if not report.engines:
        return [note("There are no engines: the profiles are imported, nothing was built.")]
    headers = ("engine", "on", "state", "file", "sha256", "how to build it there")
    kinds = {"measured": "good", "built-ahead": "warn", "to-build": "warn"}
    rows = [
        (
            f"{e.workload}: {e.variant}" if len(report.workloads) > 1 else e.variant,
            f"{e.device}, {e.backend}",
            badge(e.status, kinds[e.status]),
            e.path,
            element("code", e.sha256[:12]),
            element("code", e.build) if e.build else "",
        )
        for e in report.engines
    ]
    return [element("h3", "Engines"), table(headers, rows)]
