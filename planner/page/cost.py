"""What the plan costs against what else could be bought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.domain.reasons import Alternative
from planner.page.html import Html, badge, bar, element, note, paragraph, section, table
from planner.page.shown import Shown
from planner.page.words import number
from planner.report import PlanReport
from planner.units import format_change

WHOLE = ("fleet", "USD/h", "", "against the plan", "")
ALONE = ("alone", "USD/h", "", "against the plan", "some of it, USD/h", "")
RIGHT = ("USD/h", "against the plan", "some of it, USD/h")


@dataclass(frozen=True, slots=True)
class _Row:
    """``more``: cells that follow."""

    name: Html
    usd_per_hour: float | None
    more: tuple[str, ...]
    at_least: bool = False
    proven: bool = True


def cost(shown: Shown) -> Html:
    report = shown.report
    rows = list(_whole(report))
    parts = [
        paragraph(
            "Each figure is the cost of a whole fleet that was solved for, with the prices named below; "
            "measured, imported and simulated figures that it rests on are marked where they stand."
        ),
        _bars(WHOLE, rows, report),
    ]
    for workload in dict.fromkeys(a.workload for a in shown.alternatives):
        mine = [a for a in shown.alternatives if a.workload == workload]
        several = f"{workload}: " if len(report.workloads) > 1 else ""
        parts.append(element("h3", f"{several}with only one device, or one variant"))
        parts.append(_bars(ALONE, [_alone(a) for a in mine], report))
    parts += [note(text) for text in shown.missing.get("cost", ())]
    return section("cost", "Cost against the alternatives", *parts)


def _whole(report: PlanReport) -> Iterator[_Row]:
    fleet, proof, baseline, second = report.fleet, report.proof, report.baseline, report.runner_up
    plan, why = element("strong", "This plan"), "the present plan, kept" if report.kept else ""
    yield _Row(plan, fleet.cost.usd_per_hour, (why,), proven=proof.proven)
    other = second.fleet.cost.usd_per_hour if second.fleet else None
    yield _Row(Html("Runner-up"), other, (second.reason,))
    fp32 = baseline.fleet.cost.usd_per_hour if baseline.fleet else None
    yield _Row(Html("Unoptimised"), fp32, (baseline.note,))
    bound = "no fleet that holds the SLO and the floor costs less"
    yield _Row(Html("Lower bound"), proof.bound_usd_per_hour, (bound,))


def _alone(a: Alternative) -> _Row:
    used = (" ", badge("in the plan", "good")) if a.used else ()
    name = element("span", f"{a.by} ", element("strong", a.name), *used)
    least = "≥ " if a.at_least else ""
    some = f"{least}{number(a.some.usd_per_hour)}" if a.some else "none"
    why = "at least: not measured in full" if a.at_least else "" if a.some and a.alone else a.reason
    if a.alone is None:
        return _Row(name, None, (some, why or "cannot serve everything alone"))
    return _Row(name, a.alone.usd_per_hour, (some, why), a.at_least, a.alone.proven)


def _bars(headers: tuple[str, ...], rows: list[_Row], report: PlanReport) -> Html:
    plan = report.fleet.cost.usd_per_hour
    most = max([plan, *(row.usd_per_hour for row in rows if row.usd_per_hour is not None)])
    return table(headers, (_cells(row, plan, most) for row in rows), RIGHT)


def _cells(row: _Row, plan: float, most: float) -> tuple[str, ...]:
    if row.usd_per_hour is None:
        return row.name, "none", "", "", *row.more
    *others, why = row.more
    told = why if row.proven else f"not proven; {why}".rstrip("; ")
    cost = f"{'≥ ' if row.at_least else ''}{number(row.usd_per_hour)}"
    difference = format_change(row.usd_per_hour, plan)
    return row.name, cost, bar(row.usd_per_hour / most if most else 0.0), difference, *others, told
