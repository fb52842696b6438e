"""What a plan rests on: accuracies, what was rejected and why, where every price and latency is from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from planner.page.html import Html, badge, bar, element, folded, joined, note, paragraph, section, table
from planner.page.shown import Shown
from planner.page.words import (
    IMPORTED,
    MEASURED,
    PUBLISHED,
    bought,
    day,
    listed,
    milliseconds,
    moment,
    number,
    used,
)
from planner.report import PlanReport
from planner.report.plan_json import (
    CandidatePart,
    EnvironmentPart,
    OfferPart,
    ProfilePart,
    RejectionPart,
    VariantPart,
)
from planner.units import GIB, format_bytes

STAGES = {
    "variant": "could not be made",
    "quality": "missed the accuracy floor, or has no accuracy",
    "profile": "was not measured, or cannot be used",
    "capacity": "holds the SLO at no rate",
    "fleet": "cannot be bought, or has nothing to run",
}
_COUNT = re.compile(r"^\d+ offers?: ")
_FIGURE = re.compile(r"-?\d[\d.,]*(?:[eE][+-]?\d+)?%?")


def accuracy(report: PlanReport) -> Html:
    headers = (
        "variant",
        "on",
        "size",
        "metric",
        "value",
        "interval",
        "drop from fp32",
        "samples",
        "floor",
        "source",
    )
    right = ("size", "value", "samples")
    parts = []
    for workload in report.workloads:
        if len(report.workloads) > 1:
            parts.append(element("h3", workload.name))
        mine = [variant for variant in report.variants if variant.workload == workload.name]
        parts.append(table(headers, map(_variant, mine), right))
        told = [f"{variant.variant}: {text}" for variant in mine for text in variant.notes]
        if told:
            parts.append(folded("How they were made", element("ul", *(element("li", text) for text in told))))
    return section("accuracy", "Accuracy", *parts)


def _variant(v: VariantPart) -> tuple[str, ...]:
    q = v.quality
    interval = "unknown" if q.confidence is None else f"{q.low:.4f} to {q.high:.4f} ({q.confidence:.0%})"
    drop = "unknown" if q.drop is None else f"{q.drop:+.4f}"
    if q.drop_low is not None and q.drop_high is not None and q.confidence is not None and q.drop:
        drop += f" ({q.drop_low:+.4f} to {q.drop_high:+.4f})"
    return (
        element("strong", v.variant),
        v.backend,
        "unknown" if v.size_bytes is None else format_bytes(v.size_bytes),
        q.metric,
        f"{q.value:.4f}",
        interval,
        drop,
        "" if q.samples is None else number(q.samples),
        badge("holds", "good") if v.holds_floor else badge("missed", "bad"),
        element("span", badge("declared", "warn"), f" {q.source}") if q.source else badge(MEASURED, "good"),
    )


def rejected(report: PlanReport) -> Html:
    groups: dict[tuple[str, str], list[RejectionPart]] = {}
    for rejection in report.rejections:
        groups.setdefault((rejection.stage, gist(rejection.reason)), []).append(rejection)
    most = max(map(len, groups.values()), default=1)
    ordered = sorted(groups.items(), key=lambda item: (list(STAGES).index(item[0][0]), -len(item[1])))
    rows = [
        (
            badge(stage),
            _reason(why, mine),
            str(len(mine)),
            bar(len(mine) / most),
        )
        for (stage, why), mine in ordered
    ]
    legend = [
        element("span", badge(stage), f" {STAGES[stage]} ")
        for stage in dict.fromkeys(s for (s, _), _ in ordered)
    ]
    words = f"{len(report.rejections)} rejections, by stage and reason; open one to see what it is of."
    return section(
        "rejections",
        "Rejected",
        paragraph(words if rows else "Nothing was rejected."),
        element("p", *legend, class_="legend"),
        table(("stage", "reason", "count", ""), rows, ("count",)) if rows else Html(""),
    )


def gist(reason: str) -> str:
    """What reasons have in common that differ in their figures only: up to the first colon or semicolon."""
    text = _COUNT.sub("", reason)
    first = re.split(r"[:;](?=\s|$)", text, maxsplit=1)[0]
    return _FIGURE.sub("…", first).strip() or text


def _reason(why: str, mine: list[RejectionPart]) -> Html:
    if len(mine) == 1:
        return element("span", element("code", mine[0].subject), f" {mine[0].reason}")
    rows = [(element("code", rejection.subject), rejection.reason) for rejection in mine]
    return folded(f"{why}: {listed((r.subject for r in mine), 3)}", table(("of", "reason"), rows, tall=True))


def sources(shown: Shown) -> Html:
    report = shown.report
    headers = ("offer", "where", "bought", "device", "vCPUs", "memory", "USD/h", "as of", "source")
    bought_ids = {placement.offer_id for placement in report.fleet.placements}
    ordered = sorted(report.offers, key=lambda offer: (offer.id not in bought_ids, offer.id))
    prices = table(headers, (_offer(offer, offer.id in bought_ids) for offer in ordered), ("vCPUs", "USD/h"))
    words = (
        f"The prices of every offer that this plan, its runner-up or the unoptimised fleet uses, out of "
        f"{report.offers_considered:,} considered. Prices are those of the catalog at its date, not quotes."
    )
    return section(
        "sources",
        "Sources and dates",
        element("h3", "Prices"),
        paragraph(words),
        prices,
        element("h3", "Latency profiles"),
        *_profiles(report),
        element("h3", "Where they were taken"),
        *_environments(report),
        element("h3", "Data and files"),
        table(("what", "source", "samples", "sha256"), _files(report)),
    )


def _offer(offer: OfferPart, in_plan: bool) -> tuple[str, ...]:
    mark = (" ", badge("in the plan", "good")) if in_plan else ()
    several = f"{offer.device_count:g} × " if offer.device_count else ""
    told = f"{offer.price_source}; {offer.note}" if offer.note else offer.price_source
    return (
        element("span", f"{offer.provider} ", element("strong", offer.instance_type), *mark),
        offer.region,
        bought(offer),
        f"{several}{offer.device}",
        str(offer.vcpus),
        "unknown" if offer.memory_bytes is None else f"{offer.memory_bytes / GIB:.4g} GiB",
        number(offer.usd_per_hour),
        offer.price_as_of,
        told,
    )


def _profiles(report: PlanReport) -> Iterator[Html]:
    chosen = used(report)
    seen: dict[tuple[object, ...], tuple[CandidatePart, ProfilePart, bool]] = {}
    for part in sorted(report.candidates, key=lambda c: c.id not in chosen):
        for profile in part.profiles:
            each = part.threads // part.instances
            key = (part.variant, part.backend, each, profile.model_dump_json())
            seen.setdefault(key, (part, profile, part.id in chosen))
    measured = sum(not profile.source for _, profile, _ in seen.values())
    times = sorted(profile.taken_at for _, profile, _ in seen.values() if profile.taken_at)
    when = f" Taken from {day(times[0])} to {day(times[-1])}." if times else ""
    yield paragraph(
        f"{len(seen)} profiles: {measured} measured by the planner ({report.measured_profiles} in this run), "
        f"{len(seen) - measured} imported.{when}"
    )
    percentiles = {f"p{workload.slo.percentile:g}" for workload in report.workloads}
    percentile = percentiles.pop() if len(percentiles) == 1 else "SLO's percentile"
    headers = ("profile", "of", "samples", "mean", "p50", percentile, "while measured", "taken", "source")
    rows = (_profile(*one) for one in seen.values())
    yield table(headers, rows, ("samples", "mean", "p50", percentile), tall=True)


def _profile(part: CandidatePart, profile: ProfilePart, in_plan: bool) -> tuple[str, ...]:
    each = part.threads // part.instances
    threads = f", {each} threads" if each > 1 else ""
    of_class = f", {profile.request_class}" if profile.request_class else ""
    mark = (" ", badge("in the plan", "good")) if in_plan else ()
    if profile.source:
        kind = PUBLISHED if profile.samples is None else IMPORTED
        source = element("span", badge(kind, "warn"), f" {profile.source}")
    else:
        source = element("span", badge(MEASURED, "good"), f" environment {profile.environment}")
    return (
        element("span", f"{part.variant}, batch {profile.batch_size}{threads}{of_class}", *mark),
        f"{profile.device}, {part.backend}",
        "not told" if profile.samples is None else number(profile.samples),
        "" if profile.mean_ms is None else milliseconds(profile.mean_ms),
        "" if profile.p50_ms is None else milliseconds(profile.p50_ms),
        milliseconds(profile.slo_percentile_ms),
        ", ".join(_conditions(profile)),
        moment(profile.taken_at) if profile.taken_at else "not told",
        source,
    )


def _conditions(profile: ProfilePart) -> Iterator[str]:
    if profile.foreign_load is not None:
        yield f"others took {profile.foreign_load:.0%}"
    if profile.drift:
        yield f"drift {profile.drift:+.0%}"
    if profile.throttled:
        yield f"throttled: {', '.join(profile.throttled)}"
    if profile.calibration != 1:
        yield f"planned with {profile.calibration:.3f} times these, as in service"


def _environments(report: PlanReport) -> Iterator[Html]:
    rows = []
    if report.environment is not None:
        rows.append(_environment(report.environment, "the planning machine"))
    for taken in report.taken_in:
        here = "a device of the planning machine" if taken.here else "elsewhere"
        rows.append(_environment(taken.environment, here))
    if not rows:
        yield note("Nothing was measured: all profiles are imported, their sources are above.")
        return
    headers = ("environment", "stands for", "machine", "cores", "memory", "system", "libraries")
    yield table(headers, rows, ("cores",))


def _environment(e: EnvironmentPart, where: str) -> tuple[str, ...]:
    libraries = ", ".join(f"{name} {version}" for name, version in e.libraries.items())
    return (
        element("span", element("code", e.id), f" {where}"),
        f"{e.device}{f': {e.device_note}' if e.device_note else ''}",
        f"{e.cpu_model} {e.cpu_architecture}".strip(),
        str(e.cores or ""),
        format_bytes(e.memory_bytes) if e.memory_bytes else "",
        e.system,
        libraries,
    )


def _files(report: PlanReport) -> Iterator[tuple[str, ...]]:
    yield "plan.yaml", report.files.plan_yaml, "", _sha(report.inputs.plan_yaml_sha256)
    yield "catalog", "devices and offers", "", _sha(report.inputs.catalog_sha256)
    yield "problem", report.files.problem, "", _sha(report.files.problem_sha256)
    for w in report.workloads:
        if w.model is not None:
            yield (
                f"{w.name}: model",
                f"{w.model.path}, {format_bytes(w.model.size_bytes)}",
                "",
                _sha(w.model.sha256),
            )
        for name, data in (("calibration", w.calibration), ("evaluation", w.evaluation)):
            if data is not None:
                kind = (" ", badge("random inputs", "bad")) if data.synthetic else ()
                source = joined((data.source, *kind))
                yield f"{w.name}: {name}", source, number(data.samples), _sha(data.sha256)
        if w.imported is not None:
            what = f"{w.imported.profiles}: {w.imported.model}, {w.imported.count} profiles"
            yield f"{w.name}: imported", what, "", _sha(w.imported.sha256)


def _sha(digest: str) -> Html:
    return element("code", digest[:12])
