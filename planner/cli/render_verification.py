"""A verification as people read it: what each case comes to, and the replicas of the worst ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from planner.cli.output import columns, console
from planner.units import NS_PER_MS, format_ms
from planner.verifying import FAILS, HOLDS, UNCLEAR, arrivals_words, case_words, percentile_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.store import Calibration
    from planner.verifying import Case, Judged, Replicas, Verification

_STYLE = {HOLDS: "green", FAILS: "bold red", UNCLEAR: "yellow"}


def verification(found: Verification) -> None:
    out = console()
    as_asked = "as planned" if found.arrivals is None else arrivals_words(found.arrivals)
    out.print(f"Verdict: {_verdict(found.verdict)}")
    out.print(
        f"Simulated {found.simulated:,} requests, seed {found.seed}; arrivals: {as_asked}; "
        "intervals: 99 %, percentiles in ms"
    )
    out.print()
    _cases(out, found)
    for case in found.cases:
        if words := case_words(case, found.arrivals):
            out.print(f"[{_STYLE[case.verdict]}]{escape(_name(case))}[/]: {escape(words)}")
    for case in _worst(found.cases):
        _replicas(out, case)


def observations(found: Sequence[Judged]) -> None:
    """What was seen in service, beside what was predicted."""
    out = console()
    right = ("rps", "predicted", "service ×", "cv")
    table = columns(
        "replica of", "rps", "percentile, ms", "predicted", "service ×", "cv", "verdict", right=right
    )
    for judged in found:
        o = judged.observed
        table.add_row(
            escape(o.candidate_id),
            f"{o.rate_rps:.4g}",
            f"p{o.percentile:g} {o.measured_ms:.3g} ({o.measured_low_ms:.3g} to {o.measured_high_ms:.3g})",
            f"{o.predicted_ms:.3g}",
            "" if o.service_ratio is None else f"{o.service_ratio:.2f}",
            "" if o.arrival_cv is None else f"{o.arrival_cv:.2f}",
            _verdict(judged.verdict),
        )
    out.print(table)
    for judged in found:
        out.print(f"{escape(judged.observed.candidate_id)}: {escape(judged.words)}")


def calibrated(factors: Sequence[Calibration]) -> None:
    out = console()
    for c in factors:
        out.print(
            f"Calibrated: {escape(c.variant)} with {escape(c.backend)} on {escape(c.device)} takes "
            f"{c.factor:.3f} times as long as profiled, by {c.requests:,} requests; planning again"
        )
    if not factors:
        out.print("Service times are as profiled: nothing to calibrate, the plan stays.")


def _cases(out: Console, found: Verification) -> None:
    right = ("late", "time over SLO", "budget")
    table = columns(
        "workload", "lost", "percentile", "budget", "late", "time over SLO", "verdict", right=right
    )
    table.columns[2].no_wrap = True
    for case in found.cases:
        seen, slo = case.whole, case.workload.slo
        table.add_row(
            escape(f"{case.workload.name} {case.period}".strip()),
            escape(case.lost or "nothing"),
            f"p{slo.percentile:g} {percentile_words(seen)}" if seen else "",
            format_ms(slo.budget_ns),
            f"{seen.late:.3%}" if seen else "",
            f"{seen.over:.3%}" if seen else "",
            _verdict(case.verdict),
        )
    out.print(table)


def _worst(cases: tuple[Case, ...]) -> list[Case]:
    """Of each workload the case with most late requests."""
    found: dict[str, Case] = {}
    for case in cases:
        before = found.get(case.workload.name)
        if case.whole and (before is None or before.whole is None or case.whole.late > before.whole.late):
            found[case.workload.name] = case
    return list(found.values())


def _replicas(out: Console, case: Case) -> None:
    out.print()
    out.print(f"Replicas: {escape(_name(case))}")
    right = ("", "rps each", "planned", "busy", "queue mean", "p99")
    headers = ("", "replicas", "rps each", f"p{case.workload.slo.percentile:g}", "planned", "busy")
    table = columns(*headers, "queue mean", "p99", "late", "verdict", right=right)
    table.columns[3].no_wrap = True
    for replicas in case.replicas:
        table.add_row(*_row(replicas))
    out.print(table)
    several = [r for r in case.replicas if r.kind.count > 1 and r.together.requests]
    for replicas in several:
        times = [seen.percentile_ns for seen in replicas.each]
        least, most = (
            f"{ns / NS_PER_MS:.3g}" if math.isfinite(ns) else "no end" for ns in (min(times), max(times))
        )
        out.print(f"  {escape(replicas.kind.candidate.id)}: from {least} to {most} ms, replica by replica")


def _row(replicas: Replicas) -> tuple[str, ...]:
    kind, seen = replicas.kind, replicas.together
    return (
        f"{kind.count} ×",
        escape(kind.candidate.id),
        f"{kind.rate_rps / kind.count:.4g}",
        percentile_words(seen),
        "" if kind.predicted_ns is None else f"{kind.predicted_ns / NS_PER_MS:.3g}",
        f"{seen.utilisation:.0%}",
        f"{seen.found_mean:.3g}",
        f"{seen.found_p99:.0f}",
        f"{seen.late:.2%}",
        _verdict(replicas.verdict),
    )


def _name(case: Case) -> str:
    name = f"{case.workload.name} {case.period}".strip()
    return f"{name} without {case.lost}" if case.lost else name


def _verdict(verdict: str) -> str:
    return f"[{_STYLE[verdict]}]{verdict}[/]"
