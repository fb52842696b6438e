"""How numbers are written, where they come from, and what things are called."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from planner.page.html import Html, badge, joined
from planner.report import PlanReport
from planner.report.plan_json import CandidatePart, OfferPart, QualityPart, WorkloadPart

AMOUNTS = {
    "energy": ("mean power", "W"),
    "carbon": ("carbon", "g CO₂/h"),
    "accuracy": ("mean accuracy", ""),
    "latency": ("mean latency", "ms"),
}
"""What a plan is chosen by, where that is not its cost, and its unit."""

MEASURED, IMPORTED, PUBLISHED = "measured", "imported", "published percentiles"
_FOLDERS = re.compile(r"(?<![\w.:/~-])/(?:[^\s/:;,'\"()<>]+/)+|\b[A-Za-z]:\\(?:[^\s\\:;,'\"()<>]+\\)+")


def without_folders(value: Any) -> Any:
    """The same with absolute paths in its texts cut down to the file's name: a page may leave its machine."""
    if isinstance(value, str):
        return _FOLDERS.sub("…/", value)
    if isinstance(value, dict):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(inner) for inner in value]
    return value


def number(value: float) -> str:
    """Four digits that count, thousands apart: 0.1235, 12.35, 12,346."""
    if not math.isfinite(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 1000 else f"{value:.3g} ms"


def rps(value: float) -> str:
    return f"{number(value)} req/s"


def percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}"


def moment(text: str) -> str:
    """An ISO time as people write it; what is none stays as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def day(text: str) -> str:
    return text[:10]


def workload_of(report: PlanReport, candidate: CandidatePart) -> WorkloadPart:
    return next(workload for workload in report.workloads if workload.name == candidate.workload)


def origin(candidate: CandidatePart) -> str:
    """Where its latencies come from."""
    if any(profile.samples is None for profile in candidate.profiles):
        return PUBLISHED
    return IMPORTED if any(profile.source for profile in candidate.profiles) else MEASURED


def analysis(candidate: CandidatePart, workload: WorkloadPart) -> str:
    """How its capacity was found."""
    if workload.capacity == "saturated":
        return "queues ignored"
    waits = candidate.queue_delay_ms > 0 and candidate.max_batch_size > 1
    exact = workload.arrivals is None and candidate.instances == 1 and not waits
    return "exact queue" if exact else "simulated queue"


def badges(candidate: CandidatePart, workload: WorkloadPart, extrapolated: bool = False) -> Html:
    kind = origin(candidate)
    found = [badge(kind, "good" if kind == MEASURED else "warn")]
    how = analysis(candidate, workload)
    found.append(badge(how, "" if how == "exact queue" else "warn"))
    if extrapolated:
        found.append(badge("extrapolated", "warn"))
    return joined(found)


def runs(candidate: CandidatePart) -> str:
    """What one replica is: ``int8, 2 threads, batch ≤ 4``."""
    each = candidate.threads // candidate.instances
    threads = f"{each} thread{'s' if each > 1 else ''}"
    if candidate.instances > 1:
        threads = f"{candidate.instances} instances of {threads}"
    delay = f", delay ≤ {candidate.queue_delay_ms:g} ms" if candidate.queue_delay_ms else ""
    classes = f", for {' and '.join(candidate.classes)}" if candidate.classes else ""
    return f"{candidate.variant}, {threads}, batch ≤ {candidate.max_batch_size}{delay}{classes}"


def bought(offer: OfferPart) -> str:
    return f"{offer.purchase} {offer.term}".strip()


def quality_of(report: PlanReport, candidate: CandidatePart) -> QualityPart | None:
    """As its backend judges its variant, or else whoever does."""
    found = {
        v.backend: v.quality
        for v in report.variants
        if (v.workload, v.variant) == (candidate.workload, candidate.variant)
    }
    return found.get(candidate.backend, next(iter(found.values()), None))


def used(report: PlanReport) -> dict[str, bool]:
    """The candidates that the plan runs, in its order; true where some run extrapolated."""
    found: dict[str, bool] = {}
    for placement in report.fleet.placements:
        for traffic in placement.traffic:
            was = found.get(traffic.candidate_id, False)
            found[traffic.candidate_id] = was or placement.extrapolated
    return found


def listed(names: Iterable[str], most: int = 6) -> str:
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
