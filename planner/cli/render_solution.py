"""A solution as people read it: a table that fits 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from planner.cli.output import columns, console
from planner.units import NS_PER_MS, format_usd

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
        out.print(f"Objective: {amount(found.objective, found.amount)}")
    if found.proven:
        what = "no fleet is better by more than asked for" if found.kept else "optimal"
        out.print(f"Proof: {what}, bound {_bound(found)} ({found.solver})")
    else:
        out.print(f"[yellow]Not proven[/]: gap {found.gap:.2%}, bound {_bound(found)}")
    for note in found.notes:
        out.print(f"[yellow]Note:[/] {escape(note)}")


def _table(problem: Problem, found: Solution) -> Table:
    offers = {offer.id: offer for offer in problem.offers}
    headers = ("", "instance", "where", "runs", "requests/s", "USD/h")
    right = ("", "requests/s", "USD/h")
    table = columns(*(["period"] if problem.periods else []), *headers, right=right)
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
    return amount(found.objective, found.amount_bound)


def amount(objective: str, value: float) -> str:
    """What a plan is chosen by, where that is not its cost."""
    return _UNITS[objective].format(value / NS_PER_MS if objective == "latency" else value)
