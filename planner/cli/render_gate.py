"""A gate's outcome, and the differences of two plans, as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from planner.cli.output import columns, console
from planner.units import format_usd

if TYPE_CHECKING:
    from planner.gate import Diff, Gated

_STYLES = {"pass": "green", "warn": "yellow", "fail": "red"}


def gated(found: Gated) -> None:
    out = console()
    table = columns("", "rule", "what was found")
    for outcome in found.outcomes:
        weight = found.policy.weight(outcome)
        table.add_row(f"[{_STYLES[weight]}]{weight}[/]", escape(outcome.name), escape(outcome.words))
    out.print(table)
    if found.changes is not None:
        out.print()
        _differences(out, found.changes)
    out.print()
    if found.violated:
        names = ", ".join(dict.fromkeys(outcome.name for outcome in found.violated))
        out.print(f"[bold red]Gate failed[/]: {escape(names)}")
    else:
        out.print(
            "[bold green]Gate passed[/]" + (f", {len(found.warned)} warning(s)" if found.warned else "")
        )


def differences(found: Diff) -> None:
    _differences(console(), found)


def _differences(out: Console, found: Diff) -> None:
    was, now = found.before_usd_per_hour, found.after_usd_per_hour
    out.print(f"Cost: {format_usd(was)}/h, now [bold]{format_usd(now)}[/]/h ({now / was - 1:+.1%})")
    per_million = (format_usd(usd) for usd in (found.before_usd_per_million, found.after_usd_per_million))
    out.print(f"Per million requests: {', now '.join(per_million)}")
    if found.changes:
        table = columns("", "what", "before", "now", "USD/h", right=("USD/h",))
        for c in found.changes:
            usd = "" if c.usd_per_hour is None else f"{c.usd_per_hour:+.4g}"
            table.add_row(c.kind, *(escape(text) for text in (c.subject, c.before, c.after)), usd)
        out.print(table)
    else:
        out.print("Nothing else changed.")
    if found.shares:
        table = columns("the difference is due to", "USD/h", "", right=("USD/h",))
        for share in found.shares:
            usd = "not known" if share.usd_per_hour is None else f"{share.usd_per_hour:+.4g}"
            table.add_row(share.due_to, usd, escape(share.note))
        out.print(table)
    for note in found.notes:
        out.print(f"[yellow]Note:[/] {escape(note)}")
