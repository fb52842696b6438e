"""An explanation as people read it: tables that fit 100 columns, and curves as bars."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from planner.cli.output import columns, console
from planner.cli.render_solution import amount
from planner.units import format_change, format_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from planner.domain.reasons import Alternative, Binding, Cost, Curve, Explanation, Point

_BAR = 20
"""Characters of the longest bar."""


def explanation(found: Explanation) -> None:
    out = console()
    mark = ", the present plan, kept" if found.kept else ""
    proof = "optimal" if found.proven else f"not proven, bound {format_usd(found.bound_usd_per_hour)}/h"
    out.print(f"Plan: [bold]{format_usd(found.usd_per_hour)}[/]/h ({proof}{mark})")
    if found.amount is not None:
        out.print(f"Objective: {found.objective} {amount(found.objective, found.amount)}")
    out.print(f"Runner-up: {escape(found.runner_up)}")
    for workload, mine in _by_workload(a for a in found.alternatives if a.some is not None).items():
        _alternatives(out, found, workload, mine)
    _ruled_out(out, [a for a in found.alternatives if a.some is None])
    _limits(out, found.objective, found.limits)
    for curve in found.curves:
        _curve(out, curve)
    for note in found.notes:
        out.print(f"[yellow]Note:[/] {escape(note)}")


def _by_workload(alternatives: Iterable[Alternative]) -> dict[str, list[Alternative]]:
    found: dict[str, list[Alternative]] = defaultdict(list)
    for alternative in alternatives:
        found[alternative.workload].append(alternative)
    return found


def _alternatives(out: Console, found: Explanation, workload: str, mine: Sequence[Alternative]) -> None:
    out.print()
    right = ("some, USD/h", "against the plan", "alone, USD/h")
    table = columns("", f"{workload} by", *right, "", right=right)
    for a in sorted(mine, key=lambda a: (a.by, a.some.usd_per_hour if a.some else 0.0)):
        least = "≥ " if a.at_least else ""
        some, alone = (f"{least}{_cost(cost)}" if cost else "none" for cost in (a.some, a.alone))
        against = format_change(a.some.usd_per_hour, found.usd_per_hour) if a.some else ""
        why = "in the plan" if a.used else a.reason if a.some and a.some.amount is not None else ""
        table.add_row(a.by, escape(a.name), some, against, alone, escape(why))
    out.print(table)


def _cost(cost: Cost) -> str:
    return f"{cost.usd_per_hour:.4g}{'' if cost.proven else ' (not proven)'}"


def _ruled_out(out: Console, never: Sequence[Alternative]) -> None:
    """Those with the same reason in one line."""
    if not never:
        return
    out.print()
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for a in never:
        # Offers are counted device by device; the rest of the reason is the same.
        _, _, after = a.reason.partition(" offers: ")
        reasons[a.by, after or a.reason].append(a.name)
    for (by, reason), names in reasons.items():
        out.print(f"No plan by {by} [bold]{escape(', '.join(names))}[/]: {escape(reason)}")


def _limits(out: Console, objective: str, limits: Sequence[Binding]) -> None:
    if not limits:
        return
    out.print()
    unit = "USD/h" if objective == "usd" else objective
    table = columns(
        "limit", f"without it, {unit}", "wider by", "saves", right=(f"without it, {unit}", "saves")
    )
    for limit in sorted(limits, key=lambda b: -b.saves):
        step = "" if limit.step_saves is None else f"{limit.step_saves:.4g}"
        whole = f"-{limit.saves:.4g}" if limit.saves else "does not bind"
        table.add_row(escape(limit.limit), whole, limit.step if step else "", step)
    out.print(table)


def _curve(out: Console, curve: Curve) -> None:
    out.print()
    whose = curve.workload or "all workloads together"
    out.print(f"[bold]{curve.over}[/] of {escape(whose)}: USD/h at each")
    table = columns(curve.unit, "USD/h", "", "", right=(curve.unit, "USD/h"))
    most = max((p.usd_per_hour for p in curve.points if p.usd_per_hour is not None), default=0.0)
    for point in curve.points:
        table.add_row(*_row(point, curve.asked, most))
    out.print(table)
    out.print(escape(curve.note))


def _row(point: Point, asked: float, most: float) -> tuple[str, str, str, str]:
    value = f"{point.value:.4g}{' *' if point.value == asked else ''}"
    if point.usd_per_hour is None:
        return value, "none", "", escape(point.reason)
    bar = "█" * max(round(point.usd_per_hour / most * _BAR), 1)
    proven = "" if point.proven else " (not proven)"
    return value, f"{point.usd_per_hour:.4g}{proven}", bar, escape(point.fleet)
