"""A plan's values to the fields of plan.json."""

from __future__ import annotations

import math
from collections.abc import Callable

from planner.domain.offer import Offer
from planner.domain.plan import DataDigest, Judgement, Margin, Plan, Serving, replica_rates
from planner.domain.problem import Placement, Solution
from planner.domain.profile import Environment, Profile
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import Slo
from planner.errors import SupportError
from planner.report import plan_json as parts
from planner.units import HOURS_PER_MONTH, NS_PER_MS, usd_per_million_requests


def to_report(plan: Plan, engines: list[parts.EnginePart]) -> parts.PlanReport:
    slo, floor = plan.workload.slo, plan.workload.floor
    fleet = _fleet(plan.solution, plan, plan.margins)
    return parts.PlanReport(
        planner_version=plan.planner_version,
        created_at=plan.created_at,
        inputs=_inputs(plan),
        environment=_environment(plan.environment, plan.device.name, plan.device_note)
        if plan.environment and plan.device
        else None,
        workload=parts.WorkloadPart(name=plan.workload.name, rate_rps=plan.workload.rate_rps, slo=_slo(slo)),
        floor=parts.FloorPart(
            metric=floor.metric,
            minimum=floor.minimum,
            max_drop=floor.max_drop,
            judge="interval" if floor.by == "interval" else "point",
        ),
        fleet=fleet,
        proof=parts.ProofPart(
            solver=plan.solution.solver,
            bound_usd_per_hour=plan.solution.bound_usd_per_hour,
            gap=plan.solution.gap,
            proven=plan.solution.proven,
            solve_seconds=plan.solution.solve_seconds,
        ),
        baseline=_baseline(plan),
        runner_up=_runner_up(plan),
        variants=[variant_part(judgement, floor) for judgement in plan.judgements],
        candidates=[_candidate(serving, slo.percentile) for serving in plan.servings],
        rejections=[
            parts.RejectionPart(stage=r.stage, subject=r.subject, reason=r.reason)  # type: ignore[arg-type]
            for r in plan.rejections
        ],
        offers=[offer_part(offer) for offer in plan.offers],
        offers_considered=plan.offers_considered,
        packing_derating=plan.packing_derating,
        measured_profiles=plan.measured,
        reused_profiles=plan.reused,
        engines=engines,
        notes=list(plan.notes),
    )


def _inputs(plan: Plan) -> parts.InputsPart:
    model, imported = plan.model, plan.imported
    return parts.InputsPart(
        plan_yaml_sha256=plan.spec_sha256,
        model_path=model.path.name if model else None,
        model_sha256=model.sha256 if model else None,
        model_size_bytes=model.size_bytes if model else None,
        catalog_sha256=plan.catalog_sha256,
        calibration=_data(plan.calibration),
        evaluation=_data(plan.evaluation),
        imported=parts.ImportedPart(
            profiles=imported.name, sha256=imported.sha256, model=imported.model, count=imported.profiles
        )
        if imported
        else None,
    )


def _data(data: DataDigest | None) -> parts.DataPart | None:
    if data is None:
        return None
    return parts.DataPart(
        source=data.source, sha256=data.sha256, samples=data.samples, synthetic=data.synthetic
    )


def _environment(environment: Environment, device: str, note: str) -> parts.EnvironmentPart:
    return parts.EnvironmentPart(
        id=environment.id,
        cpu_model=environment.cpu_model,
        cpu_architecture=environment.cpu_architecture,
        cpu_flags=list(environment.cpu_flags),
        cores=environment.cores,
        memory_bytes=environment.memory_bytes,
        system=environment.system,
        libraries=dict(environment.libraries),
        device=device,
        device_note=note,
    )


def _slo(slo: Slo) -> parts.SloPart:
    return parts.SloPart(
        percentile=slo.percentile,
        latency_ms=slo.latency_ns / NS_PER_MS,
        overhead_ms=slo.overhead_ns / NS_PER_MS,
        headroom=slo.headroom,
        budget_ms=slo.budget_ns / NS_PER_MS,
    )


def variant_part(judgement: Judgement, floor: AccuracyFloor) -> parts.VariantPart:
    variant, quality = judgement.variant, judgement.quality
    return parts.VariantPart(
        variant=variant.name,
        backend=judgement.backend,
        sha256=variant.sha256 or None,
        size_bytes=variant.size_bytes or None,
        notes=list(variant.notes),
        quality=parts.QualityPart(
            metric=quality.metric,
            value=quality.value,
            low=quality.low,
            high=quality.high,
            drop=_known(quality.drop),
            drop_low=_known(quality.drop_low),
            drop_high=_known(quality.drop_high),
            confidence=None if quality.source else quality.confidence,
            samples=None if quality.source else quality.samples,
            source=quality.source,
        ),
        holds_floor=floor.shortfall(quality) <= 0,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _candidate(serving: Serving, percentile: float) -> parts.CandidatePart:
    candidate = serving.candidate
    return parts.CandidatePart(
        id=candidate.id,
        variant=candidate.variant,
        backend=candidate.backend,
        device=candidate.device,
        threads=candidate.threads,
        max_batch_size=candidate.max_batch_size,
        side_by_side=candidate.side_by_side,
        memory_bytes=candidate.memory_bytes or None,
        capacity_rps=serving.capacity_rps,
        capacity_low_rps=serving.capacity_low_rps,
        capacity_high_rps=serving.capacity_high_rps,
        packed_capacity_rps=serving.packed_capacity_rps,
        sojourn_ms=serving.sojourn_ns / NS_PER_MS,
        utilisation=serving.utilisation,
        mean_batch_size=serving.mean_batch_size,
        truncated_mass=serving.truncated_mass,
        lattice_step_ms=serving.lattice_step_ns / NS_PER_MS,
        profiles=[profile_part(profile, percentile) for profile in serving.profiles],
    )


def profile_part(profile: Profile, percentile: float) -> parts.ProfilePart:
    return parts.ProfilePart(
        batch_size=profile.configuration.batch_size,
        source=profile.source,
        samples=profile.samples,
        mean_ms=_if_published(profile.mean_ns),
        p50_ms=_if_published(lambda: profile.percentile_ns(50)),
        slo_percentile_ms=profile.percentile_ns(percentile) / NS_PER_MS,
        memory_bytes=profile.memory_bytes or None,
        foreign_load=profile.foreign_load,
        taken_at=profile.taken_at,
    )


def _if_published(figure_ns: Callable[[], float]) -> float | None:
    """In ms; None where a profile does not give it."""
    try:
        return figure_ns() / NS_PER_MS
    except SupportError:
        return None


def offer_part(offer: Offer) -> parts.OfferPart:
    return parts.OfferPart(
        id=offer.id,
        provider=offer.provider,
        instance_type=offer.instance_type,
        region=offer.region,
        purchase=offer.purchase,
        device=offer.device,
        device_count=offer.device_count,
        vcpus=offer.vcpus,
        memory_bytes=offer.memory_bytes,
        usd_per_hour=offer.usd_per_hour,
        price_source=offer.price_source,
        price_as_of=offer.price_as_of,
        note=offer.note,
    )


def _fleet(solution: Solution, plan: Plan, margins: tuple[Margin, ...]) -> parts.FleetPart:
    rate = plan.workload.rate_rps
    return parts.FleetPart(
        placements=[_placement(placement, rate, margins) for placement in solution.placements],
        cost=parts.CostPart(
            usd_per_hour=solution.usd_per_hour,
            usd_per_month=solution.usd_per_hour * HOURS_PER_MONTH,
            usd_per_million_requests=usd_per_million_requests(solution.usd_per_hour, rate),
        ),
    )


def _placement(placement: Placement, rate: float, margins: tuple[Margin, ...]) -> parts.PlacementPart:
    flows, rates = dict(placement.flow_rps), dict(replica_rates(placement))
    traffic = []
    for candidate_id, replicas in placement.pattern.replicas:
        flow, replica_rps = flows[candidate_id], rates[candidate_id]
        margin = next(
            m
            for m in margins
            if m.candidate_id == candidate_id
            and m.extrapolated == placement.pattern.extrapolated
            and m.replica_rps == replica_rps
        )
        traffic.append(
            parts.TrafficPart(
                candidate_id=candidate_id,
                replicas_per_instance=replicas,
                rate_rps=flow,
                share=flow / rate,
                replica_rps=replica_rps,
                predicted_sojourn_ms=margin.sojourn_ns / NS_PER_MS,
                slo_margin_ms=(margin.budget_ns - margin.sojourn_ns) / NS_PER_MS,
            )
        )
    return parts.PlacementPart(
        offer_id=placement.pattern.offer_id,
        instances=placement.instances,
        usd_per_hour=placement.usd_per_hour,
        extrapolated=placement.pattern.extrapolated,
        traffic=traffic,
    )


def _baseline(plan: Plan) -> parts.BaselinePart:
    if plan.baseline is None:
        return parts.BaselinePart(fleet=None, note=plan.baseline_note, saving=None)
    return parts.BaselinePart(
        fleet=_fleet(plan.baseline, plan, plan.margins),
        note=plan.baseline_note,
        saving=1 - plan.solution.usd_per_hour / plan.baseline.usd_per_hour,
    )


def _runner_up(plan: Plan) -> parts.RunnerUpPart:
    second = plan.runner_up
    return parts.RunnerUpPart(
        fleet=_fleet(second.solution, plan, plan.margins) if second.solution else None,
        without=second.without,
        reason=second.reason,
    )
