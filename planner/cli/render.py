"""What people read: tables that fit 100 columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from planner.cli.output import columns, console, write_json
from planner.units import format_bytes, format_ms, format_seconds, format_usd

if TYPE_CHECKING:
    from planner.catalog import Figure
    from planner.domain.device import Device
    from planner.domain.offer import Offer
    from planner.domain.problem import Rejection
    from planner.domain.quality import AccuracyFloor
    from planner.pipeline import DryRun, Judged
    from planner.profiling.campaign import Campaign
    from planner.report import Engine, PlanReport
    from planner.report.plan_json import (
        CandidatePart,
        FleetPart,
        OfferPart,
        TrafficPart,
        VariantPart,
        WorkloadPart,
    )


def plan(report: PlanReport, folder: Path) -> None:
    out = console()
    out.print()
    for workload in report.workloads:
        out.print(_asked(workload))
    out.print(_fleet_table(report))
    for bought in report.fleet.commitments:
        out.print(
            f"Committed: {bought.instances} × {escape(bought.offer_id)}, {format_usd(bought.usd_per_hour)}/h "
            "in all periods"
        )
    out.print(_cost_line("Plan", report.fleet, bold=True))
    if report.baseline.fleet is not None and report.baseline.saving is not None:
        line = _cost_line("Unoptimised (fp32, batch 1)", report.baseline.fleet)
        out.print(f"{line}; the plan saves [bold green]{report.baseline.saving:.0%}[/]")
    else:
        out.print(f"Unoptimised: {report.baseline.note}")
    out.print(f"Runner-up: {report.runner_up.reason}")
    proof = report.proof
    if proof.proven:
        what = "the present plan, no other one saves as much as asked for" if report.kept else "optimal"
        out.print(f"Proof: {what}, bound {format_usd(proof.bound_usd_per_hour)}/h ({proof.solver})")
    else:
        out.print(
            f"[yellow]Not proven[/]: gap {proof.gap:.2%}, bound {format_usd(proof.bound_usd_per_hour)}/h"
        )
    for workload in report.workloads:
        if len(report.workloads) > 1:
            out.print(f"[bold]{escape(workload.name)}[/]")
        mine = [variant for variant in report.variants if variant.workload == workload.name]
        out.print((_declared_table if workload.imported else _variants_table)(mine))
    stages: dict[str, int] = {}
    for rejection in report.rejections:
        stages[rejection.stage] = stages.get(rejection.stage, 0) + 1
    if stages:
        counted = ", ".join(f"{count} by {stage}" for stage, count in stages.items())
        out.print(f"Rejected: {counted} (reasons in plan.json)")
    imported = [workload.imported for workload in report.workloads if workload.imported]
    for source in imported:
        out.print(f"Nothing measured: {source.count} imported profiles of {source.model}.")
    if len(imported) < len(report.workloads):
        out.print(_measured_line(report.measured_profiles, report.reused_profiles))
    for note in report.notes:
        out.print(f"[yellow]Note:[/] {note}")
    for engine in report.engines:
        if engine.status != "measured":
            how = f"; there: {engine.build}" if engine.build else ""
            what = f"{engine.variant} for {engine.device}, {engine.backend}, {STATUS[engine.status]}{how}"
            out.print(f"[yellow]Engine:[/] {escape(what)}")
    none = len(imported) == len(report.workloads)
    engines = "no engines" if none else f"{len(report.engines)} engine(s)"
    out.print(f"Wrote {_shown(folder / 'plan.json')} and {engines} beside it.")


def _asked(workload: WorkloadPart) -> str:
    slo = workload.slo
    rate = f"{workload.rate_rps:g} requests/s"
    if workload.rates_rps:
        rate = f"{min(workload.rates_rps.values()):.4g} to {rate}"
    also = {"none": "", "instance": ", n+1", "zone": ", any zone may be lost"}[workload.redundancy]
    return (
        f"[bold]{escape(workload.name)}[/]: {rate}, "
        f"p{slo.percentile:g} within {slo.latency_ms:g} ms "
        f"({slo.overhead_ms:g} ms overhead, {slo.budget_ms:g} ms for queue and inference, "
        f"{slo.headroom:.0%} headroom){also}"
    )


def _fleet_table(report: PlanReport) -> Table:
    percentiles = {f"p{workload.slo.percentile:g}" for workload in report.workloads}
    percentile = percentiles.pop() if len(percentiles) == 1 else "latency"
    imported = {workload.name for workload in report.workloads if workload.imported}
    headers = ("buy", "instance", "where", "runs on each", "traffic", percentile, "USD/h")
    right = ("buy", "traffic", percentile, "USD/h")
    table = columns(*(["period"] if report.periods else []), *headers, right=right)
    offers = {offer.id: offer for offer in report.offers}
    candidates = {candidate.id: candidate for candidate in report.candidates}
    several = len({variant.backend for variant in report.variants}) > 1
    period = ""
    for placement in report.fleet.placements:
        offer = offers[placement.offer_id]
        for row, traffic in enumerate(placement.traffic):
            candidate = candidates[traffic.candidate_id]
            name = f"{candidate.workload} " if len(report.workloads) > 1 else ""
            runs = (
                f"{traffic.replicas_per_instance} × {name}{candidate.variant}"
                f"{f' on {candidate.backend}' if several else ''}, {_threads(candidate, offer)}"
                f"batch ≤ {candidate.max_batch_size}"
                f"{f', {_classes(traffic)}' if traffic.classes else ''}"
                f"{f', delay ≤ {candidate.queue_delay_ms:g} ms' if candidate.queue_delay_ms else ''}"
            )
            marks = [
                *(["imported"] if candidate.workload in imported else []),
                *(["extrapolated"] if placement.extrapolated else []),
            ]
            if marks:
                runs += f" ({', '.join(marks)})"
            table.add_row(
                *([placement.period if placement.period != period else ""] if report.periods else []),
                f"{placement.instances} ×" if row == 0 else "",
                f"{offer.provider} {offer.instance_type}" if row == 0 else "",
                f"{placement.zone or offer.region}, {f'{offer.purchase} {offer.term}'.strip()}"
                if row == 0
                else "",
                runs,
                f"{traffic.share:.0%}",
                f"{traffic.predicted_sojourn_ms:.3g} ms",
                f"{placement.usd_per_hour:.4g}" if row == 0 else "",
            )
            period = placement.period
    return table


def _threads(candidate: CandidatePart, offer: OfferPart) -> str:
    """Of one engine instance, and how many of these a replica has; on a GPU threads tell nothing."""
    each = candidate.threads // candidate.instances
    threads = "" if offer.device_count else f"{each} thread{'s' if each > 1 else ''}"
    if candidate.instances > 1:
        threads = f"{candidate.instances} instances{f' of {threads}' if threads else ''}"
    return f"{threads}, " if threads else ""


def _classes(traffic: TrafficPart) -> str:
    """Which classes of requests go there, and how much of each."""
    return " + ".join(f"{rate:.4g} {name}/s" for name, rate in traffic.classes.items() if rate > 0)


def _cost_line(title: str, fleet: FleetPart, bold: bool = False) -> str:
    cost = fleet.cost
    hourly = f"{format_usd(cost.usd_per_hour)}/h"
    return (
        f"{title}: {f'[bold]{hourly}[/]' if bold else hourly}, {format_usd(cost.usd_per_month)}/month, "
        f"{format_usd(cost.usd_per_million_requests)} per million requests"
    )


def _variants_table(variants: list[VariantPart]) -> Table:
    first = variants[0].quality
    several = len({variant.backend for variant in variants}) > 1
    right = ("size", f"{first.metric} ({first.confidence:.0%} interval)", "drop from fp32 (paired)")
    table = columns("variant", *(["on"] if several else []), *right, "floor", right=right)
    for variant in variants:
        q = variant.quality
        baseline = variant is variants[0]
        table.add_row(
            variant.variant,
            *([variant.backend] if several else []),
            "unknown" if variant.size_bytes is None else format_bytes(variant.size_bytes),
            f"{q.value:.4f} ({q.low:.4f} to {q.high:.4f})",
            "" if baseline else f"{q.drop:+.4f} ({q.drop_low:+.4f} to {q.drop_high:+.4f})",
            "holds" if variant.holds_floor else "[red]missed[/]",
        )
    return table


def _declared_table(variants: list[VariantPart]) -> Table:
    """Of a plan from imported profiles: nothing was evaluated."""
    right = (f"{variants[0].quality.metric} (declared)", "drop from fp32")
    table = columns("variant", *right, "floor", "source", right=right)
    for variant in variants:
        q = variant.quality
        table.add_row(
            variant.variant,
            f"{q.value:.4f}",
            "unknown" if q.drop is None else f"{q.drop:+.4f}",
            "holds" if variant.holds_floor else "[red]missed[/]",
            escape(q.source),
        )
    return table


def _measured_line(measured: int, reused: int) -> str:
    if measured == 0:
        return f"Nothing measured: all {reused} profiles came from the store."
    return f"Measured {measured} configurations, {reused} came from the store."


def variants(judged: Judged, floor: AccuracyFloor) -> None:
    from planner.report.from_plan import variant_part

    out = console()
    out.print(_variants_table([variant_part(judgement, floor) for judgement in judged.judgements]))
    for variant, _ in judged.variants:
        out.print(f"{variant.name}: {_shown(variant.path)}")
        for note in variant.notes:
            out.print(f"  {note}")
    _rejections(out, judged.rejections)


def variants_json(judged: Judged, floor: AccuracyFloor) -> None:
    from planner.report.from_plan import variant_part

    write_json(
        {
            "variants": [
                variant_part(judgement, floor).model_dump(mode="json") | {"path": str(judgement.variant.path)}
                for judgement in judged.judgements
            ],
            "rejections": _rejection_list(judged.rejections),
        }
    )


def profiles(campaign: Campaign, percentile: float, store: Path) -> None:
    out = console()
    several = len({profile.configuration.device for profile in campaign.profiles}) > 1
    figures = ("side by side", "samples", "mean", "p50", f"p{percentile:g}", "memory")
    table = columns("configuration", *figures, right=figures)
    for profile in campaign.profiles:
        on = f" on {profile.configuration.device}" if several else ""
        table.add_row(
            profile.configuration.describe() + on,
            str(profile.configuration.replicas),
            str(len(profile.samples_ns)),
            format_ms(profile.mean_ns()),
            format_ms(profile.percentile_ns(50)),
            format_ms(profile.percentile_ns(percentile)),
            format_bytes(profile.memory_bytes),
        )
    out.print(table)
    _rejections(out, campaign.rejections)
    for note in campaign.notes:
        out.print(note)
    out.print(_measured_line(campaign.measured, campaign.reused))
    out.print(f"Profiles are in {_shown(store)}.")


def profiles_json(campaign: Campaign, percentile: float, store: Path) -> None:
    from planner.report.from_plan import profile_part

    write_json(
        {
            "profiles": [
                {"configuration": p.configuration.describe(), "device": p.configuration.device}
                | profile_part(p, percentile).model_dump(mode="json")
                for p in campaign.profiles
            ],
            "rejections": _rejection_list(campaign.rejections),
            "notes": list(campaign.notes),
            "measured": campaign.measured,
            "reused": campaign.reused,
            "store": str(store),
        }
    )


def dry_run(work: DryRun) -> None:
    out = console()
    if not work.recipes:
        out.print(
            f"Would make and measure nothing: plan over {work.offers} offers by {work.stored} imported "
            f"profiles, and write {_shown(work.output)}"
        )
        return
    out.print(f"Would make {len(work.recipes)} variants: {', '.join(work.recipes)}")
    out.print(
        f"Would measure the accuracy of each on {work.evaluation_samples} samples "
        f"(calibrating on {work.calibration_samples})"
    )
    out.print(
        f"Would measure {len(work.configurations)} configurations, up to {work.samples_each} samples each; "
        f"{work.stored} are in the profile store"
    )
    for configuration in work.configurations:
        out.print(f"  {configuration}")
    out.print(f"Would plan over {work.offers} offers and write {_shown(work.output)}")
    out.print(f"Takes at most about {format_seconds(work.seconds)}, estimated from three fp32 inferences")


def dry_run_json(work: DryRun) -> str:
    return (
        json.dumps(
            {
                "recipes": list(work.recipes),
                "configurations": list(work.configurations),
                "stored_configurations": work.stored,
                "samples_each": work.samples_each,
                "evaluation_samples": work.evaluation_samples,
                "calibration_samples": work.calibration_samples,
                "offers": work.offers,
                "estimated_seconds_at_most": work.seconds,
                "output": str(work.output),
            },
            indent=2,
        )
        + "\n"
    )


STATUS = {
    "measured": "measured",
    "built-ahead": "built ahead of time, unmeasured",
    "to-build": "yet to be built there",
}


def engines(found: list[Engine]) -> None:
    out = console()
    for engine in found:
        what = f"{engine.variant} on {engine.device}, {engine.backend}, {STATUS[engine.status]}"
        out.print(f"{what}: {_shown(engine.path)}, sha256 {engine.sha256}")
        if engine.build:
            out.print(f"  build it there with: {engine.build}", highlight=False)
    out.print(f"{len(found)} engine(s), each the one in the manifest.")


def offers(found: tuple[Offer, ...]) -> None:
    out = console()
    right = ("vCPUs", "memory", "USD/h")
    table = columns("provider", "instance", "region", "purchase", "device", *right, "as of", right=right)
    for offer in found:
        table.add_row(
            offer.provider,
            offer.instance_type,
            offer.region,
            f"{offer.purchase} {offer.term}".strip(),
            f"{offer.device_count:g} × {offer.device}" if offer.device_count else offer.device,
            str(offer.vcpus),
            "unknown" if offer.memory_bytes is None else format_bytes(offer.memory_bytes),
            f"{offer.usd_per_hour:.4g}",
            offer.price_as_of,
        )
    out.print(table)
    out.print(f"{len(found)} offers")


def offers_json(found: tuple[Offer, ...]) -> None:
    from planner.report.from_plan import offer_part

    write_json([offer_part(offer).model_dump(mode="json") for offer in found])


def offers_with_sources(found: tuple[Offer, ...]) -> None:
    offers(found)
    out = console()
    for offer in found:
        out.print(
            f"{offer.id}: {offer.price_source} ({offer.price_as_of}){f'; {offer.note}' if offer.note else ''}"
        )


def device(found: Device, figures: tuple[Figure, ...], sold: tuple[Offer, ...]) -> None:
    out = console()
    out.print(f"[bold]{found.name}[/]: {found.kind}, {found.vendor}, {found.architecture}")
    if found.note:
        out.print(found.note)
    table = columns("figure", "value", "source", "as of", "read or from memory")
    for figure in figures:
        source = figure.source
        table.add_row(figure.name, figure.value, source.citation, source.as_of, source.quality)
    out.print(table)
    offers(sold)


def wrote(path: Path) -> None:
    console().print(f"Wrote {_shown(path)}.")


def _rejections(out: Console, rejections: tuple[Rejection, ...]) -> None:
    for rejection in rejections:
        out.print(f"[red]rejected[/] ({rejection.stage}) {rejection.subject}: {rejection.reason}")


def _rejection_list(rejections: tuple[Rejection, ...]) -> list[dict[str, str]]:
    return [{"stage": r.stage, "subject": r.subject, "reason": r.reason} for r in rejections]


def _shown(path: Path) -> str:
    """Relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
