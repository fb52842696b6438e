"""The limits of a problem as values: in words, left out, or wider by one unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from planner.domain.problem import ANY_INSTANCE, ANY_ZONE, NO_LOSS, Demand, Problem, Quota

BUDGET = "budget_usd_per_hour"
QUOTA = "quota"
PER_OFFER = "max_instances_per_offer"
KINDS = "max_kinds"
ZONES = "min_zones"
REDUNDANCY = "redundancy"
SPOT = "max_spot_share"
QUALITY = "min_mean_quality"
RATE = "rate"

QUALITY_STEP = 0.001
"""By which a mean quality is relaxed: a tenth of a point."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``subject``: the quota's or the workload's name, empty where there is only one of the kind.

    The rate of a workload counts as a limit as well (``RATE``): without it, the workload is not served.
    """

    kind: str
    subject: str = ""


def limits_of(problem: Problem) -> tuple[Limit, ...]:
    """All that the problem has, but the rates."""
    return tuple(_limits_of(problem))


def _limits_of(p: Problem) -> Iterator[Limit]:
    if p.budget_usd_per_hour is not None:
        yield Limit(BUDGET)
    yield from (Limit(QUOTA, quota.name) for quota in p.quotas)
    if p.max_instances_per_offer is not None:
        yield Limit(PER_OFFER)
    if p.max_kinds is not None:
        yield Limit(KINDS)
    if p.min_zones:
        yield Limit(ZONES)
    for demand in p.demands:
        if demand.redundancy != NO_LOSS:
            yield Limit(REDUNDANCY, demand.workload)
        if demand.max_spot_share < 1:
            yield Limit(SPOT, demand.workload)
        if demand.min_mean_quality is not None:
            yield Limit(QUALITY, demand.workload)


def rates_of(problem: Problem) -> tuple[Limit, ...]:
    return tuple(Limit(RATE, demand.workload) for demand in problem.demands)


def in_words(problem: Problem, limit: Limit) -> str:
    """As it stands in the problem: ``quota gpus: at most 2 devices``."""
    p = problem
    if limit.kind == BUDGET:
        return f"{BUDGET} {p.budget_usd_per_hour:g}"
    if limit.kind == QUOTA:
        quota = quota_of(p, limit)
        return f"quota {quota.name}: at most {quota.at_most:g} {quota.unit}"
    if limit.kind in (PER_OFFER, KINDS, ZONES):
        return f"{limit.kind} {getattr(p, limit.kind)}"
    demand = demand_of(p, limit)
    value = {
        REDUNDANCY: f"redundancy {demand.redundancy}",
        SPOT: f"{SPOT} {demand.max_spot_share:.4g}",
        QUALITY: f"{QUALITY} {demand.min_mean_quality}",
        RATE: f"{demand.rate_rps:.4g} rps",
    }[limit.kind]
    return f"workload {limit.subject}: {value}"


def without(problem: Problem, limit: Limit) -> Problem:
    """The problem without it; as it is where that has gone already. Raises ValueError without any demand."""
    p = problem
    if limit.kind == QUOTA:
        return replace(p, quotas=tuple(quota for quota in p.quotas if quota.name != limit.subject))
    if limit.kind in (BUDGET, PER_OFFER, KINDS):
        free: dict[str, Any] = {limit.kind: None}
        return replace(p, **free)
    if limit.kind == ZONES:
        return replace(p, min_zones=0)
    if limit.kind == RATE:
        return replace(p, demands=tuple(d for d in p.demands if d.workload != limit.subject))
    none = {REDUNDANCY: NO_LOSS, SPOT: 1.0, QUALITY: None}[limit.kind]
    return with_demand(p, limit.subject, **{limit.kind: none})


def one_wider(problem: Problem, limit: Limit) -> tuple[str, Problem] | None:
    """By the least that can matter, and what that is; None where there is nothing before no limit at all."""
    p = problem
    if limit.kind == BUDGET:
        assert p.budget_usd_per_hour is not None
        return "1 % more", replace(p, budget_usd_per_hour=p.budget_usd_per_hour * 1.01)
    if limit.kind == QUOTA:
        quota = quota_of(p, limit)
        sizes = [quota.counts(offer) for offer in p.offers if quota.selects(offer)]
        size = min((s for s in sizes if s > 0), default=1.0)
        return f"{size:g} more {quota.unit}", with_quota(p, quota.name, quota.at_most + size)
    if limit.kind in (PER_OFFER, KINDS):
        return "1 more", replace(p, **{limit.kind: getattr(p, limit.kind) + 1})
    if limit.kind == ZONES:
        return ("1 less", replace(p, min_zones=p.min_zones - 1)) if p.min_zones > 1 else None
    demand = demand_of(p, limit)
    if limit.kind == REDUNDANCY:
        if demand.redundancy != ANY_ZONE:
            return None
        return "an instance instead", with_demand(p, limit.subject, redundancy=ANY_INSTANCE)
    if limit.kind == SPOT:
        share = min(demand.max_spot_share + 0.01, 1.0)
        return "1 point more", with_demand(p, limit.subject, max_spot_share=share)
    assert limit.kind == QUALITY and demand.min_mean_quality is not None
    lower = demand.min_mean_quality - QUALITY_STEP
    return f"{QUALITY_STEP:g} less", with_demand(p, limit.subject, min_mean_quality=lower)


def quota_of(problem: Problem, limit: Limit) -> Quota:
    return next(quota for quota in problem.quotas if quota.name == limit.subject)


def demand_of(problem: Problem, limit: Limit) -> Demand:
    return next(demand for demand in problem.demands if demand.workload == limit.subject)


def with_quota(problem: Problem, name: str, at_most: float) -> Problem:
    quotas = (replace(q, at_most=at_most) if q.name == name else q for q in problem.quotas)
    return replace(problem, quotas=tuple(quotas))


def with_demand(problem: Problem, workload: str, **changes: Any) -> Problem:
    demands = (replace(d, **changes) if d.workload == workload else d for d in problem.demands)
    return replace(problem, demands=tuple(demands))


def scaled(problem: Problem, workload: str, factor: float) -> Problem:
    """With the workload's rates times ``factor``, above 0; those of every workload where it is empty."""

    def more(d: Demand) -> Demand:
        rates = tuple(rate * factor for rate in d.rates_rps)
        return replace(d, rate_rps=max(rates, default=d.rate_rps * factor), rates_rps=rates)

    demands = (more(d) if workload in ("", d.workload) else d for d in problem.demands)
    return replace(problem, demands=tuple(demands))
