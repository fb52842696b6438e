"""What ``planner verify --json`` prints: every field listed by hand, versioned.

Units stand in the names, shares are from 0 to 1.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from planner.domain.workload import Arrivals
from planner.report.part import Part, schema_of, written
from planner.units import NS_PER_MS
from planner.verifying.seen import CONFIDENCE, Seen
from planner.verifying.verify import Broke, Case, Replicas, Verdict, Verification
from planner.verifying.words import case_words

# 1: first format
VERIFICATION_SCHEMA: Literal[1] = 1


class SeenPart(Part):
    """What requests saw; the ends of intervals are ``low`` and ``high``."""

    requests: int
    percentile_ms: float | None = Field(description="The SLO's, of queueing and inference; null: no end.")
    percentile_low_ms: float
    percentile_high_ms: float | None = Field(description="Null: no end, or too few requests to tell.")
    late_share: float = Field(description="Of the requests: above the budget.")
    late_share_low: float
    late_share_high: float
    time_over_slo: float = Field(description="Part of the time in which some request was over the budget.")
    utilisation: float
    queue_mean: float = Field(description="Requests at the replica as one comes, in service included.")
    queue_p99: float
    mean_batch_size: float


class ReplicasPart(Part):
    """Replicas that are alike."""

    candidate_id: str
    offer_id: str
    zone: str
    count: int
    replica_rps: float
    extrapolated: bool = Field(description="Service times stretched by the plan's packing_derating.")
    predicted_ms: float | None = Field(description="By the plan; null where it has nothing to say.")
    verdict: Verdict
    together: SeenPart
    each: list[SeenPart] = Field(description="One for each replica.")


class CasePart(Part):
    """A workload in a period."""

    workload: str
    period: str = Field(description="Empty where the plan has no periods.")
    lost: str = Field(description="Empty: all is there.")
    rate_rps: float
    percentile: float
    budget_ms: float
    verdict: Verdict = Field(description="By the interval of the share of late requests.")
    broke: Broke = Field(
        description="The assumption without which it would not fail; empty: it does not, or that is unknown."
    )
    words: str
    settled: bool = Field(description="Runs were long enough for queues to forget that they started empty.")
    seen: SeenPart | None = Field(description="Null where nothing is left to serve some of the requests.")
    replicas: list[ReplicasPart]


class ArrivalsPart(Part):
    kind: Literal["poisson", "gamma", "trace"]
    cv: float | None = Field(description="Null of a trace.")


class VerificationPart(Part):
    """Whether a plan holds, by simulation."""

    schema_version: Literal[1] = VERIFICATION_SCHEMA
    verdict: Verdict
    plan_yaml_sha256: str
    arrivals: ArrivalsPart | None = Field(description="In place of those that the plan assumes; null: these.")
    requests: int = Field(description="Judged of each workload, in each case.")
    simulated: int = Field(description="In all, those included that are left out at the beginning of runs.")
    seed: int
    confidence: float = Field(description="Of every interval, both sides together.")
    cases: list[CasePart]


def verification_part(found: Verification) -> VerificationPart:
    return VerificationPart(
        verdict=found.verdict,
        plan_yaml_sha256=found.made.report.inputs.plan_yaml_sha256,
        arrivals=None if found.arrivals is None else _arrivals(found.arrivals),
        requests=found.requests,
        simulated=found.simulated,
        seed=found.seed,
        confidence=CONFIDENCE,
        cases=[_case(case, found.arrivals) for case in found.cases],
    )


def dump_verification(found: Verification) -> str:
    return written(verification_part(found))


def verification_schema() -> dict[str, Any]:
    """The JSON Schema of a verification."""
    return schema_of(VerificationPart, "verification")


def _arrivals(arrivals: Arrivals) -> ArrivalsPart:
    if arrivals.trace:
        return ArrivalsPart(kind="trace", cv=None)
    return ArrivalsPart(kind="poisson" if arrivals.poisson else "gamma", cv=arrivals.cv)


def _case(case: Case, arrivals: Arrivals | None) -> CasePart:
    slo = case.workload.slo
    return CasePart(
        workload=case.workload.name,
        period=case.period,
        lost=case.lost,
        rate_rps=case.rate_rps,
        percentile=slo.percentile,
        budget_ms=slo.budget_ns / NS_PER_MS,
        verdict=case.verdict,
        broke=case.broke,
        words=case_words(case, arrivals),
        settled=case.settled,
        seen=None if case.whole is None else _seen(case.whole),
        replicas=[_replicas(replicas) for replicas in case.replicas],
    )


def _replicas(replicas: Replicas) -> ReplicasPart:
    kind = replicas.kind
    return ReplicasPart(
        candidate_id=kind.candidate.id,
        offer_id=kind.placement.pattern.offer_id,
        zone=kind.placement.zone,
        count=kind.count,
        replica_rps=kind.rate_rps / kind.count,
        extrapolated=kind.placement.pattern.extrapolated,
        predicted_ms=None if kind.predicted_ns is None else kind.predicted_ns / NS_PER_MS,
        verdict=replicas.verdict,
        together=_seen(replicas.together),
        each=[_seen(seen) for seen in replicas.each],
    )


def _seen(seen: Seen) -> SeenPart:
    return SeenPart(
        requests=seen.requests,
        percentile_ms=_ms(seen.percentile_ns),
        percentile_low_ms=seen.low_ns / NS_PER_MS,
        percentile_high_ms=_ms(seen.high_ns),
        late_share=seen.late,
        late_share_low=seen.late_low,
        late_share_high=seen.late_high,
        time_over_slo=seen.over,
        utilisation=seen.utilisation,
        queue_mean=seen.found_mean,
        queue_p99=seen.found_p99,
        mean_batch_size=seen.mean_batch_size,
    )


def _ms(ns: float) -> float | None:
    return None if math.isinf(ns) else ns / NS_PER_MS
