"""plan.json: every field listed by hand, versioned.

Units stand in the names. Percentages are shares (0.1 is 10 %). Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from planner.errors import StoreError
from planner.report.part import Part, schema_of, written

# 4: the files that a plan is explained by; kept; the objective's amount; arrivals, classes, engine instances
#    and queue delays; of profiles device, environment and calibration
# 3: several workloads and periods, commitments; profiles of several devices (taken_in); engines with device,
#    status and how to build; of profiles drift, throttled and joules per request
# 2: accuracies and engines of each backend; imported profiles and declared accuracies, with their sources
# 1: first format
REPORT_SCHEMA: Literal[4] = 4
PLAN_JSON = "plan.json"


class DataPart(Part):
    source: str
    sha256: str
    samples: int
    synthetic: bool = Field(description="Random inputs: valid for latency, silent about real accuracy.")


class ImportedPart(Part):
    """Profiles that were measured elsewhere, or published, in place of a model."""

    profiles: str = Field(description="As plan.yaml names them.")
    sha256: str
    model: str = Field(description="What their source calls it.")
    count: int


class InputsPart(Part):
    plan_yaml_sha256: str
    catalog_sha256: str


class FilesPart(Part):
    """What the plan can be explained and solved again by; paths are relative to plan.json."""

    plan_yaml: str
    problem: str = Field(description="What the solver saw, with every candidate that was measured.")
    problem_sha256: str


class ModelPart(Part):
    path: str
    sha256: str = Field(description="Of the ONNX file and its external data.")
    size_bytes: int


class EnvironmentPart(Part):
    id: str
    cpu_model: str
    cpu_architecture: str
    cpu_flags: list[str]
    cores: int
    memory_bytes: int
    system: str
    libraries: dict[str, str]
    device: str = Field(description="The catalog's device that this machine's profiles stand for.")
    device_note: str


class TakenInPart(Part):
    """Where the profiles of a device come from that is not the planning machine's CPU."""

    device: str
    priced_as: str
    backend: str
    here: bool = Field(description="A device of the planning machine; false: profiles from elsewhere.")
    environment: EnvironmentPart


class SloPart(Part):
    percentile: float
    latency_ms: float
    overhead_ms: float
    headroom: float
    budget_ms: float = Field(description="Latency less overhead: what queueing and inference may take.")


class FloorPart(Part):
    metric: str
    minimum: float | None
    max_drop: float | None
    judge: Literal["interval", "point"]
    per: Literal["request", "average"]


class PeriodPart(Part):
    """A part of the time with rates of its own."""

    name: str
    hours: float


class ArrivalsPart(Part):
    """Arrivals other than Poisson."""

    kind: Literal["gamma", "trace"]
    cv: float = Field(description="Of the times between requests: standard deviation over mean.")
    requests: int | None = Field(description="Of the trace; null where there is none.")


class RequestClassPart(Part):
    """Requests of one size."""

    name: str
    share: float


class WorkloadPart(Part):
    """Of imported profiles there are no model and no data."""

    name: str
    rate_rps: float = Field(description="In the period with the highest one.")
    rates_rps: dict[str, float] = Field(description="By period; empty where it is the same always.")
    slo: SloPart
    floor: FloorPart
    redundancy: Literal["none", "instance", "zone"]
    max_spot_share: float
    arrivals: ArrivalsPart | None = Field(
        None, exclude_if=lambda given: given is None, description="Left out where they are Poisson."
    )
    capacity: Literal["queueing", "saturated"] = Field(
        "queueing",
        exclude_if=lambda kind: kind == "queueing",
        description="saturated: queues are ignored; queueing is left out.",
    )
    classes: list[RequestClassPart] = Field(
        [],
        exclude_if=lambda classes: not classes,
        description="From the smallest requests to the largest; left out where all are alike.",
    )
    model: ModelPart | None
    calibration: DataPart | None
    evaluation: DataPart | None
    imported: ImportedPart | None


class QualityPart(Part):
    metric: str
    value: float
    low: float
    high: float
    drop: float | None = Field(description="Null where the baseline's value is not declared.")
    drop_low: float | None
    drop_high: float | None
    confidence: float | None = Field(
        description="Null where declared: the interval is unknown, and empty here."
    )
    samples: int | None
    source: str = Field(description="Of a declared accuracy; empty: measured.")


class VariantPart(Part):
    workload: str
    variant: str
    backend: str = Field(description="What computed the outputs that this accuracy is of.")
    sha256: str | None = Field(description="Null where there are imported profiles only.")
    size_bytes: int | None
    notes: list[str]
    quality: QualityPart
    holds_floor: bool


class ProfilePart(Part):
    batch_size: int
    request_class: str = Field(
        "",
        exclude_if=lambda name: not name,
        description="Whose requests were timed; left out where all are alike.",
    )
    device: str = Field(description="As the profile calls it.")
    environment: str = Field(description="The id of what it was taken in.")
    source: str = Field(description="Of an imported profile; empty: measured by the planner.")
    samples: int | None = Field(description="Null where only percentiles were published.")
    mean_ms: float | None = Field(description="Null, as p50_ms, where it was not published.")
    p50_ms: float | None
    slo_percentile_ms: float
    memory_bytes: int | None
    foreign_load: float | None = Field(description="Share of the machine that other processes kept busy.")
    drift: float | None = Field(
        description="How far the last turn's median is from the first's; 0: just noise; null: not judged."
    )
    throttled: list[str] | None = Field(
        description="What held clocks down while it was measured; null where it cannot be read."
    )
    cpu_joules_per_request: float | None = Field(
        description="All CPU packages of the machine; null where not readable."
    )
    gpu_joules_per_request: float | None
    taken_at: str
    calibration: float = Field(
        1.0,
        exclude_if=lambda factor: factor == 1.0,
        description="The plan takes its times so many times as long, as they were in service; 1 is left out.",
    )


class CandidatePart(Part):
    id: str
    workload: str
    variant: str
    backend: str
    device: str
    threads: int
    max_batch_size: int
    side_by_side: int
    memory_bytes: int | None = Field(description="Null where imported profiles do not say.")
    instances: int = Field(
        1,
        exclude_if=lambda n: n == 1,
        description="Of the engine, that share the replica's queue and threads; 1 is left out.",
    )
    queue_delay_ms: float = Field(
        0.0,
        exclude_if=lambda ms: ms == 0,
        description="How long a request may wait for a fuller batch; 0 is left out.",
    )
    classes: dict[str, float] = Field(
        {},
        exclude_if=lambda classes: not classes,
        description="Of each class that it serves, what it may get of the rate that is planned with; left "
        "out where all requests are alike.",
    )
    mixing: Literal["each", "time"] = Field(
        "each",
        exclude_if=lambda how: how == "each",
        description="time: classes are served by turns, their loads add up; each is left out.",
    )
    capacity_rps: float = Field(description="One replica, before headroom.")
    capacity_low_rps: float = Field(description="Lower end of its interval (one-sided 95 %): planned with.")
    capacity_high_rps: float = Field(description="Upper end (one-sided 95 %).")
    packed_capacity_rps: float = Field(
        description="Extrapolated: where more replicas share an instance than were measured together."
    )
    sojourn_ms: float = Field(description="The SLO's percentile of queueing and inference at capacity.")
    utilisation: float
    mean_batch_size: float
    truncated_mass: float
    lattice_step_ms: float
    profiles: list[ProfilePart]


class RejectionPart(Part):
    stage: Literal["variant", "quality", "profile", "capacity", "fleet"]
    subject: str
    reason: str


class OfferPart(Part):
    id: str
    provider: str
    instance_type: str
    region: str
    purchase: str
    term: str = Field(description="How long one commits where the purchase is reserved; else empty.")
    zones: list[str] = Field(description="Availability zones known to sell it.")
    device: str
    device_count: float
    vcpus: int
    memory_bytes: int | None
    usd_per_hour: float
    price_source: str
    price_as_of: str
    note: str


class TrafficPart(Part):
    candidate_id: str
    replicas_per_instance: int
    rate_rps: float = Field(description="Over all instances of the placement.")
    share: float = Field(description="Of its workload's rate in the period.")
    replica_rps: float
    predicted_sojourn_ms: float
    slo_margin_ms: float = Field(description="Budget less the predicted percentile, queueing included.")
    classes: dict[str, float] = Field(
        {},
        exclude_if=lambda classes: not classes,
        description="The rate of each class that goes here; left out where all requests are alike.",
    )


class PlacementPart(Part):
    period: str = Field(description="Empty where the plan has no periods.")
    zone: str = Field(description="Empty where any of the region will do.")
    offer_id: str
    instances: int
    usd_per_hour: float
    extrapolated: bool = Field(description="More replicas share an instance than were measured together.")
    traffic: list[TrafficPart]


class CommitmentPart(Part):
    """Paid for all the time, used or not."""

    offer_id: str
    instances: int
    usd_per_hour: float


class CostPart(Part):
    usd_per_hour: float = Field(description="The mean over the periods, weighted by their hours.")
    usd_per_month: float = Field(description="730 hours.")
    usd_per_million_requests: float


class FleetPart(Part):
    placements: list[PlacementPart]
    commitments: list[CommitmentPart]
    cost: CostPart


class ProofPart(Part):
    solver: str
    bound_usd_per_hour: float
    gap: float
    amount: float | None = Field(description="Of the objective, where that is not USD per hour.")
    amount_bound: float | None
    proven: bool
    solve_seconds: float


class BaselinePart(Part):
    fleet: FleetPart | None
    note: str
    saving: float | None = Field(description="Share of the baseline's cost that the plan saves.")


class RunnerUpPart(Part):
    fleet: FleetPart | None = Field(description="None where no plan does without the winner.")
    without: str
    reason: str


class EnginePart(Part):
    workload: str
    variant: str
    backend: str
    device: str
    path: str = Field(description="Relative to plan.json.")
    sha256: str
    status: Literal["measured", "built-ahead", "to-build"] = Field(
        description="built-ahead: of time and unmeasured, its device was not here; to-build: the ONNX."
    )
    build: str = Field(description="The command that builds what is to be built; else empty.")


class PlanReport(Part):
    """A plan, and all that it rests on."""

    schema_version: Literal[4] = REPORT_SCHEMA
    planner_version: str
    created_at: str
    inputs: InputsPart
    files: FilesPart
    environment: EnvironmentPart | None = Field(description="Null where nothing was measured, but imported.")
    taken_in: list[TakenInPart] = Field(description="Of profiles of other devices than this machine's CPU.")
    workloads: list[WorkloadPart]
    periods: list[PeriodPart] = Field(description="Empty: one, that never ends.")
    objective: Literal["usd", "energy", "carbon", "accuracy", "latency"]
    fleet: FleetPart
    kept: bool = Field(description="The present plan: a better one saves no more than was asked for.")
    proof: ProofPart
    baseline: BaselinePart
    runner_up: RunnerUpPart
    variants: list[VariantPart]
    candidates: list[CandidatePart]
    rejections: list[RejectionPart]
    offers: list[OfferPart] = Field(description="Price snapshot of every offer named in this file.")
    offers_considered: int
    packing_derating: float
    measured_profiles: int = Field(description="Measured in this run; the others came from the store.")
    reused_profiles: int
    engines: list[EnginePart]
    notes: list[str]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of plan.json."""
    return schema_of(PlanReport, PLAN_JSON)


def dump(report: PlanReport) -> str:
    return written(report)


def plan_file(path: Path) -> Path:
    """``path`` itself, or the plan.json of the folder that it is."""
    return path / PLAN_JSON if path.is_dir() else path


def read_report(path: Path) -> PlanReport:
    """Raises StoreError where the file is not a plan of this schema version."""
    try:
        return PlanReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); make one with planner plan") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{path}: not a plan of schema {REPORT_SCHEMA}: {where}: {first['msg']}; make it again"
        ) from None
