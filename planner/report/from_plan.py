"""A plan's values to the fields of plan.json."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean, pstdev

from planner.domain.offer import Offer
from planner.domain.plan import DataDigest, Judgement, Margin, Plan, Planned, Serving, replica_rates
from planner.domain.problem import Period, Placement, Solution
from planner.domain.profile import Environment, Profile
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import Arrivals, Slo
from planner.errors import SupportError
from planner.report import plan_json as parts
from planner.units import HOURS_PER_MONTH, NS_PER_MS, usd_per_million_requests


def to_report(plan: Plan, engines: list[parts.EnginePart], files: parts.FilesPart) -> parts.PlanReport:
    workloads = {planned.workload.name: planned.workload for planned in plan.services}
    fleet = _fleet(plan.solution, plan, plan.margins)
    return parts.PlanReport(
        planner_version=plan.planner_version,
        created_at=plan.created_at,
        inputs=parts.InputsPart(plan_yaml_sha256=plan.spec_sha256, catalog_sha256=plan.catalog_sha256),
        files=files,
        environment=_environment(plan.environment, plan.device.name, plan.device_note)
        if plan.environment and plan.device
        else None,
        taken_in=[
            parts.TakenInPart(
                device=taken.device,
                priced_as=taken.priced_as,
                backend=taken.backend,
                here=taken.here,
                environment=_environment(taken.environment, taken.device, ""),
            )
            for taken in plan.taken_in
        ],
        workloads=[_workload(planned, plan.periods) for planned in plan.services],
        periods=[parts.PeriodPart(name=period.name, hours=period.hours) for period in plan.periods],
        objective=plan.objective,  # type: ignore[arg-type]
        fleet=fleet,
        kept=plan.solution.kept,
        proof=parts.ProofPart(
            solver=plan.solution.solver,
            bound_usd_per_hour=plan.solution.bound_usd_per_hour,
            gap=plan.solution.gap,
            amount=plan.solution.amount,
            amount_bound=plan.solution.amount_bound,
            proven=plan.solution.proven,
            solve_seconds=plan.solution.solve_seconds,
        ),
        baseline=_baseline(plan),
        runner_up=_runner_up(plan),
        variants=[variant_part(j, workloads[j.workload].floor) for j in plan.judgements],
        candidates=[
            _candidate(serving, workloads[serving.candidate.workload].slo.percentile)
            for serving in plan.servings
        ],
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


def _workload(planned: Planned, periods: tuple[Period, ...]) -> parts.WorkloadPart:
    workload, model, imported = planned.workload, planned.model, planned.imported
    floor = workload.floor
    names = [period.name for period in periods]
    return parts.WorkloadPart(
        name=workload.name,
        rate_rps=workload.rate_rps,
        rates_rps=dict(zip(names, workload.rates_rps, strict=True)) if workload.rates_rps else {},
        slo=_slo(workload.slo),
        floor=parts.FloorPart(
            metric=floor.metric,
            minimum=floor.minimum,
            max_drop=floor.max_drop,
            judge="interval" if floor.by == "interval" else "point",
            per="average" if workload.floor_on_average else "request",
        ),
        redundancy=workload.redundancy,  # type: ignore[arg-type]
        max_spot_share=workload.max_spot_share,
        arrivals=_arrivals(workload.arrivals),
        capacity=workload.capacity,  # type: ignore[arg-type]
        classes=[parts.RequestClassPart(name=c.name, share=c.share) for c in workload.classes],
        model=parts.ModelPart(path=model.path.name, sha256=model.sha256, size_bytes=model.size_bytes)
        if model
        else None,
        calibration=_data(planned.calibration),
        evaluation=_data(planned.evaluation),
        imported=parts.ImportedPart(
            profiles=imported.name, sha256=imported.sha256, model=imported.model, count=imported.profiles
        )
        if imported
        else None,
    )


def _arrivals(arrivals: Arrivals) -> parts.ArrivalsPart | None:
    if arrivals.poisson:
        return None
    trace = arrivals.trace
    if not trace:
        return parts.ArrivalsPart(kind="gamma", cv=arrivals.cv, requests=None)
    gaps = [after - before for before, after in pairwise(trace)]
    return parts.ArrivalsPart(kind="trace", cv=pstdev(gaps) / fmean(gaps), requests=len(trace))


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
        workload=judgement.workload,
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
    classes = serving.profile_classes or ("",) * len(serving.profiles)
    return parts.CandidatePart(
        id=candidate.id,
        workload=candidate.workload,
        variant=candidate.variant,
        backend=candidate.backend,
        device=candidate.device,
        threads=candidate.threads,
        max_batch_size=candidate.max_batch_size,
        side_by_side=candidate.side_by_side,
        memory_bytes=candidate.memory_bytes or None,
        instances=candidate.instances,
        queue_delay_ms=candidate.queue_delay_ns / NS_PER_MS,
        classes=dict(candidate.classes),
        mixing=candidate.mixing,  # type: ignore[arg-type]
        capacity_rps=serving.capacity_rps,
        capacity_low_rps=serving.capacity_low_rps,
        capacity_high_rps=serving.capacity_high_rps,
        packed_capacity_rps=serving.packed_capacity_rps,
        sojourn_ms=serving.sojourn_ns / NS_PER_MS,
        utilisation=serving.utilisation,
        mean_batch_size=serving.mean_batch_size,
        truncated_mass=serving.truncated_mass,
        lattice_step_ms=serving.lattice_step_ns / NS_PER_MS,
        profiles=[
            profile_part(profile, percentile, name)
            for profile, name in zip(serving.profiles, classes, strict=True)
        ],
    )


def profile_part(profile: Profile, percentile: float, request_class: str = "") -> parts.ProfilePart:
    return parts.ProfilePart(
        batch_size=profile.configuration.batch_size,
        request_class=request_class,
        device=profile.configuration.device,
        environment=profile.environment.id,
        source=profile.source,
        samples=profile.samples,
        mean_ms=_if_published(profile.mean_ns),
        p50_ms=_if_published(lambda: profile.percentile_ns(50)),
        slo_percentile_ms=profile.percentile_ns(percentile) / NS_PER_MS,
        memory_bytes=profile.memory_bytes or None,
        foreign_load=profile.foreign_load,
        drift=profile.conditions.drift,
        throttled=None if profile.conditions.throttled is None else list(profile.conditions.throttled),
        cpu_joules_per_request=profile.cpu_joules_per_request,
        gpu_joules_per_request=profile.gpu_joules_per_request,
        taken_at=profile.taken_at,
        calibration=profile.calibration,
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
        term=offer.term,
        zones=list(offer.zones),
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
    return parts.FleetPart(
        placements=[_placement(placement, plan, margins) for placement in solution.placements],
        commitments=[
            parts.CommitmentPart(
                offer_id=bought.offer_id, instances=bought.instances, usd_per_hour=bought.usd_per_hour
            )
            for bought in solution.commitments
        ],
        cost=parts.CostPart(
            usd_per_hour=solution.usd_per_hour,
            usd_per_month=solution.usd_per_hour * HOURS_PER_MONTH,
            usd_per_million_requests=usd_per_million_requests(solution.usd_per_hour, _mean_rate(plan)),
        ),
    )


def _mean_rate(plan: Plan) -> float:
    """Requests per second of all workloads, over all periods."""
    total = sum(period.hours for period in plan.periods)
    return sum(
        sum(r * p.hours for r, p in zip(w.rates_rps, plan.periods, strict=True)) / total
        if w.rates_rps
        else w.rate_rps
        for w in (planned.workload for planned in plan.services)
    )


def _rate(plan: Plan, workload: str, period: str) -> float:
    asked = next(planned.workload for planned in plan.services if planned.workload.name == workload)
    if not asked.rates_rps:
        return asked.rate_rps
    return dict(zip((p.name for p in plan.periods), asked.rates_rps, strict=True))[period]


def _placement(placement: Placement, plan: Plan, margins: tuple[Margin, ...]) -> parts.PlacementPart:
    flows, rates = dict(placement.flow_rps), dict(replica_rates(placement))
    workload_of = {serving.candidate.id: serving.candidate.workload for serving in plan.servings}
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
                share=flow / _rate(plan, workload_of[candidate_id], placement.period),
                replica_rps=replica_rps,
                predicted_sojourn_ms=margin.sojourn_ns / NS_PER_MS,
                slo_margin_ms=(margin.budget_ns - margin.sojourn_ns) / NS_PER_MS,
                classes={name: rate for i, name, rate in placement.class_flow_rps if i == candidate_id},
            )
        )
    return parts.PlacementPart(
        period=placement.period,
        zone=placement.zone,
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
