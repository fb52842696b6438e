"""Why there is no plan, and the nearest thing that would do: one line each."""

from __future__ import annotations

from collections.abc import Collection

from planner.catalog import Catalog
from planner.domain.plan import Judgement
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import Slo
from planner.profiling.campaign import Campaign
from planner.units import format_ms


def blocked_by_floor(floor: AccuracyFloor, judgements: tuple[Judgement, ...]) -> str:
    """No variant holds the floor: which comes nearest, and what floor it would hold."""
    nearest = min(judgements, key=lambda judgement: floor.shortfall(judgement.quality))
    variant, quality = nearest.variant, nearest.quality
    key = "max_drop" if floor.minimum is None else "minimum"
    asked = f"{key} {floor.max_drop if floor.minimum is None else floor.minimum:g}"
    would_do = f"{key}: {floor.that_holds(quality):.4f}"
    return (
        f"the accuracy floor blocks every variant: {floor.metric}, {asked}, judged by {floor.by}; nearest is "
        f"{variant.name} at {quality.value:.4f} ({quality.low:.4f} to {quality.high:.4f}) on "
        f"{quality.samples} samples; {would_do} would do"
    )


def blocked_by_slo(slo: Slo, campaign: Campaign) -> str:
    """No configuration holds the SLO: the fastest one, and what latency it would hold."""
    overhead = f" plus {format_ms(slo.overhead_ns)} overhead" if slo.overhead_ns else ""
    start = f"the SLO blocks every configuration: p{slo.percentile:g} within {format_ms(slo.budget_ns)}"
    if campaign.profiles:
        fastest = min(campaign.profiles, key=lambda p: p.percentile_ns(slo.percentile))
        alone = fastest.percentile_ns(slo.percentile)
        return (
            f"{start}{overhead}; the fastest, {fastest.configuration.describe()}, takes {format_ms(alone)} "
            f"when idle; a latency above {format_ms(alone + slo.overhead_ns)} would do for a low rate"
        )
    if campaign.probes:
        fastest = min(campaign.probes, key=lambda p: sorted(p.samples_ns)[len(p.samples_ns) // 2])
        ordered = sorted(fastest.samples_ns)
        return (
            f"{start}{overhead}; the fastest, {fastest.configuration.describe()}, has a median of "
            f"{format_ms(ordered[len(ordered) // 2])} when idle; a latency above "
            f"{format_ms(ordered[-1] + slo.overhead_ns)} is the least to try "
            f"(the slowest of its {len(ordered)} samples)"
        )
    return f"nothing could be measured: {campaign.rejections[0].subject}: {campaign.rejections[0].reason}"


def blocked_by_fleet(catalog: Catalog, devices: Collection[str], left: int) -> str:
    selling = [offer for offer in catalog.offers if offer.device in devices]
    where = sorted({f"{o.provider} {o.region} ({o.purchase})" for o in selling})
    nearest = (
        f"offers with it: {', '.join(where)}" if where else "no offer in the catalog has it; add your own"
    )
    return (
        f"the fleet limits leave {left} offers, none of them with {' or '.join(sorted(devices))}, "
        f"which the profiles are of; {nearest}; widen fleet.providers, fleet.regions or fleet.purchase"
    )
