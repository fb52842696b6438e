"""A solution as people read it: a table that fits 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from planner.cli.output import columns, console
from planner.units import format_usd

if TYPE_CHECKING:
    from planner.domain.problem import Problem, Solution

_UNITS = {
    "energy": "{:.4g} W",
    "carbon": "{:.4g} g CO2/h",
    "accuracy": "{:.4g} mean quality",
    "latency": "{:.4g} ms mean latency",
}


def solution(problem: Problem, found: Solution) -> None:
    out = console()
    out.print(_table(problem, found))
    for bought in found.commitments:
        out.print(
            f"Committed: {bought.instances} × {escape(bought.offer_id)}, {format_usd(bought.usd_per_hour)}/h"
        )
    mean = " on average" if len(problem.periods) > 1 else ""
    out.print(f"Cost: [bold]{format_usd(found.usd_per_hour)}[/]/h{mean}")
    if found.amount is not None and found.amount_bound is not None:
        out.print(f"Objective: {_amount(found, found.amount)}")
    if found.proven:
        what = "no fleet is better by more than asked for" if found.kept else "optimal"
        out.print(f"Proof: {what}, bound {_bound(found)} ({found.solver})")
    else:
        out.print(f"[yellow]Not proven[/]: gap {found.gap:.2%}, bound {_bound(found)}")
    for note in found.notes:
        out.print(f"[yellow]Note:[/] {escape(note)}")


def _table(problem: Problem, found: Solution) -> Table:
    offers = {offer.id: offer for offer in problem.offers}
    table = columns()
    if problem.periods:
        table.add_column("period")
    table.add_column("", justify="right")
    for title in ("instance", "where", "runs"):
        table.add_column(title, overflow="fold")
    table.add_column("requests/s", justify="right")
    table.add_column("USD/h", justify="right")
    for placement in found.placements:
        offer = offers[placement.pattern.offer_id]
        bought = f"{offer.purchase} {offer.term}".strip()
        where = ", ".join(part for part in (placement.zone or offer.region, bought) if part)
        flows = dict(placement.flow_rps)
        for row, (candidate_id, replicas) in enumerate(placement.pattern.replicas):
            first = [placement.period] if problem.periods else []
            head = (
                [*first, f"{placement.instances} ×", f"{offer.provider} {offer.instance_type}".strip(), where]
                if row == 0
                else [""] * (len(first) + 3)
            )
            mark = " (extrapolated)" if placement.pattern.extrapolated else ""
            table.add_row(
                *map(escape, head),
                escape(f"{replicas} × {candidate_id}{mark}"),
                f"{flows[candidate_id]:.4g}",
                f"{placement.usd_per_hour:.4g}" if row == 0 else "",
            )
    return table


def _bound(found: Solution) -> str:
    if found.amount_bound is None:
        return f"{format_usd(found.bound_usd_per_hour)}/h"
    return _amount(found, found.amount_bound)


def _amount(found: Solution, value: float) -> str:
    return _UNITS[found.objective].format(value / 1e6 if found.objective == "latency" else value)
