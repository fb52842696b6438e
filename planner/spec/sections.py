"""plan.yaml, key for key."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from planner.domain.problem import MIX_TOLERANCE
from planner.units import parse_duration_ns, parse_share

RANDOM_DATA = "random"
MAX_CLASSES = 4
"""Each set of them is a candidate of its own: 15 for each engine and batch size."""


def _duration(value: object) -> int:
    if isinstance(value, str):
        return parse_duration_ns(value)
    raise ValueError(f"expected a duration with its unit, such as 20ms, got {value!r}")


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a share, such as 10% or 0.1, got {value!r}")
    try:
        return parse_share(value)
    except ValueError:
        raise ValueError(f"expected a share, such as 10% or 0.1, got {value!r}") from None


Duration = Annotated[int, BeforeValidator(_duration, json_schema_input_type=str)]
Share = Annotated[float, BeforeValidator(_share, json_schema_input_type=float | str)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class DataSection(_Section):
    """Each is an `.npz` file, a Python callable `module:function`, or `random`."""

    calibration: str = Field(RANDOM_DATA, description="Inputs that quantization is calibrated on.")
    evaluation: str = Field(
        RANDOM_DATA,
        description="Inputs and `labels` that accuracy is measured on; calibration never sees them. "
        "`random` has no labels: the metric is then agreement with the fp32 baseline.",
    )
    samples: int = Field(256, ge=8, description="How many samples `random` draws for each of the two.")


class CandidateSection(_Section):
    """Another model for the same task; it gets the same recipes and competes on equal terms."""

    model: str = Field(description="Path of the ONNX model.")
    name: str | None = Field(None, description="Defaults to the model's file name.")
    dimensions: dict[str, int | Literal["batch"]] = {}
    data: DataSection | None = Field(
        None, description="Where its inputs differ: the same samples and labels, prepared for this model."
    )


class DeclaredSection(_Section):
    """The accuracy of a variant, from somewhere else."""

    value: Share
    source: str = Field(min_length=1, description="Where the value comes from; shown beside it.")


class AccuracySection(_Section):
    metric: str = Field("agreement", description="See docs/metrics.md; or `module:function`.")
    minimum: Share | None = Field(
        None, description="The metric must be at least this; where less is better, at most."
    )
    max_drop: Share | None = Field(None, description="How much worse than fp32 the metric may be, absolute.")
    judge: Literal["interval", "point"] = Field(
        "interval", description="What must hold the floor: the interval's lower end, or the estimate."
    )
    per: Literal["request", "average"] = Field(
        "request",
        description="Whether each variant that serves must hold the floor, or the mean over all requests.",
    )
    declared: dict[str, DeclaredSection] = Field(
        {}, description="With imported profiles, of which no accuracy can be measured: that of each variant."
    )

    @model_validator(mode="after")
    def _one_floor(self) -> AccuracySection:
        if (self.minimum is None) == (self.max_drop is None):
            raise ValueError("give one of minimum (absolute) and max_drop (from the fp32 baseline)")
        for key, value in (("minimum", self.minimum), ("max_drop", self.max_drop)):
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{key}: expected a number of 0 or more, got {value:g}")
        return self


class ImportedSection(_Section):
    """Profiles that were measured elsewhere, or published, in place of a model."""

    profiles: str = Field(description="A CSV file or profile store, or the name of reference profiles.")
    model: str | None = Field(None, description="Which model's, where there are several.")
    sold_as: dict[str, str] = Field(
        {},
        description="The catalog's device for a device of the profiles, where they are called differently.",
    )


class SloSection(_Section):
    percentile: float = Field(99.0, gt=0, lt=100, description="Of the time in queue and in the engine.")
    latency: Duration = Field(description="What the percentile may be, end to end, such as 50ms.")
    overhead: Duration = Field(
        0, description="Network, pre- and post-processing; subtracted from the latency."
    )
    headroom: Share = Field(0.1, ge=0, lt=1, description="Share of each replica's capacity kept free.")

    @model_validator(mode="after")
    def _something_left(self) -> SloSection:
        if self.latency <= self.overhead:
            raise ValueError("overhead must be below latency: nothing is left for queueing and inference")
        return self


class ArrivalsSection(_Section):
    """Gamma distributed times between requests."""

    cv: float = Field(
        gt=0,
        le=10,
        description="Their standard deviation over their mean: 1 is Poisson, more is burstier. Of all "
        "requests of the workload; each replica gets a random part of them.",
    )


class ClassSection(_Section):
    """Requests of one size."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    share: Share = Field(gt=0, le=1, description="Its part of the requests; all parts add up to 1.")
    dimensions: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="Sizes of dynamic dimensions, in place of those that hold for all requests."
    )
    imported_model: str | None = Field(
        None, description="With imported profiles, in place of dimensions: the model whose profiles it has."
    )


class WorkloadSection(_Section):
    """What arrives, and what is asked of the answers."""

    name: str | None = Field(None, description="Defaults to the model's file name.")
    rate_rps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Requests per second to be served, always."
    )
    rates_rps: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        {}, description="In place of rate_rps: the rate in each of the fleet's periods, by name."
    )
    trace: str | None = Field(
        None,
        description="In place of rate_rps: a CSV with a `timestamp` column, a row for each request, from "
        "which the mean rate of each hour of the day is derived; the hours become the fleet's periods.",
    )
    scale: float = Field(1.0, gt=0, allow_inf_nan=False, description="Multiplies the rates of the trace.")
    arrivals: Literal["poisson", "trace"] | ArrivalsSection = Field(
        "poisson", description="How irregularly requests come: trace: as those of workload.trace do."
    )
    capacity: Literal["queueing", "saturated"] = Field(
        "queueing",
        description="Of a replica; saturated: its throughput in batches within the latency, as tools have it "
        "that ignore queues.",
    )
    classes: list[ClassSection] = Field(
        [],
        max_length=MAX_CLASSES,
        description="Where requests differ in size: from the smallest to the largest. A plan may send them "
        "to different offers; a replica that serves several pads a batch to its largest request.",
    )
    slo: SloSection
    redundancy: Literal["none", "n+1", "zone"] = Field(
        "none",
        description="n+1: with any one instance lost, the rest still takes the full rate; zone: any zone.",
    )
    max_spot_share: Share = Field(
        1.0, ge=0, le=1, description="The part of the rate that spot instances may get."
    )

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        given = [name for name in ("rate_rps", "rates_rps", "trace") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"give one of rate_rps, rates_rps and trace, got {' and '.join(given) or 'none'}"
            )
        if self.rates_rps and not max(self.rates_rps.values()) > 0:
            raise ValueError("rates_rps: expected a rate above 0 in one of the periods")
        if len({c.name for c in self.classes}) < len(self.classes):
            raise ValueError("classes: two have the same name")
        if self.classes and abs(sum(c.share for c in self.classes) - 1) > MIX_TOLERANCE:
            total = sum(c.share for c in self.classes)
            raise ValueError(f"classes: the shares must add up to 100%, got {total:.6%}")
        if self.scale != 1.0 and self.trace is None:
            raise ValueError("scale: belongs to a trace")
        if self.arrivals == "trace" and self.trace is None:
            raise ValueError("arrivals: trace: there is none; give workload.trace, or arrivals: {cv: 2}")
        return self


class QuotaSection(_Section):
    """A limit over all offers that match what is given of it."""

    at_most: float = Field(ge=0, allow_inf_nan=False)
    unit: Literal["instances", "vcpus", "devices", "family_units"] = Field(
        "instances", description="What is counted; family_units: as the provider counts the family's quota."
    )
    provider: str | None = None
    region: str | None = None
    instance_types: list[str] = []
    family: str | None = Field(None, description="The provider's quota family, see planner catalog show.")
    device: str | None = None
    purchase: Literal["on-demand", "spot", "reserved"] | None = None


class PeriodSection(_Section):
    """A part of the time with rates of its own."""

    name: str = Field(min_length=1)
    hours: float = Field(gt=0, allow_inf_nan=False, description="Of a day, a week, whatever repeats.")


class FleetSection(_Section):
    """An empty list means any."""

    providers: list[str] = []
    regions: list[str] = []
    purchase: list[Literal["on-demand", "spot", "reserved"]] = Field(["on-demand"], min_length=1)
    terms: list[str] = Field([], description="Of commitments: 1yr, 3yr.")
    spot_availability: Share = Field(
        1.0,
        gt=0,
        le=1,
        description="The part of the time that a spot instance is there, not interrupted; yours to state.",
    )
    without: list[str] = Field([], description="Devices, architectures or kinds (gpu, cpu) not to be used.")
    only: list[str] = Field([], description="The only devices, architectures or kinds to be used.")
    max_instances_per_offer: int | None = Field(None, ge=1)
    quotas: list[QuotaSection] = []
    budget_usd_per_hour: float | None = Field(None, gt=0, allow_inf_nan=False)
    max_kinds: int | None = Field(None, ge=1, description="Of instance types.")
    min_zones: int = Field(0, ge=0, description="Zones with instances in them, at least.")
    periods: list[PeriodSection] = Field(
        [], description="Parts of a day or week, each with rates of its own."
    )
    max_periods: int | None = Field(
        None,
        ge=1,
        description="Neighbouring hours of traces go together in at most so many periods, each planned for "
        "at its highest rates.",
    )
    objective: Literal["usd", "energy", "carbon", "accuracy", "latency"] = Field(
        "usd", description="What is least, or best; accuracy and latency within the budget."
    )
    packing_derating: Share = Field(
        0.1,
        ge=0,
        lt=1,
        description="How much slower a replica is assumed to be where more of them share an instance than "
        "were measured side by side.",
    )
    catalog: str | None = Field(None, description="A folder that extends or replaces the shipped catalog.")

    @model_validator(mode="after")
    def _budget_for_the_best(self) -> Self:
        if self.objective in ("accuracy", "latency") and self.budget_usd_per_hour is None:
            raise ValueError(f"budget_usd_per_hour: missing; the best {self.objective} has no limit without")
        names = [period.name for period in self.periods]
        if len(set(names)) < len(names):
            raise ValueError("periods: two have the same name")
        if self.max_periods is not None and self.periods:
            raise ValueError("max_periods: is for the hours of traces; leave it out beside periods")
        return self


class BatchingSection(_Section):
    """What is considered of a replica besides its largest batch size; the plan chooses."""

    queue_delays: list[Duration] = Field(
        [0], min_length=1, description="How long a request may wait for a fuller batch, such as 2ms."
    )
    instances: list[Annotated[int, Field(ge=1, le=64)]] = Field(
        [1], min_length=1, description="How many instances of the engine share a replica's queue."
    )


class ServedSection(_Section):
    """What serves a workload: a model with its data, or imported profiles, and how it may be run."""

    model: str | None = Field(None, description="Path of the ONNX model.")
    imported: ImportedSection | None = Field(None, description="In place of a model: profiles of one.")
    dimensions: dict[str, int | Literal["batch"]] = Field(
        {}, description="Binds each dynamic dimension of the inputs to a size, or to `batch`."
    )
    data: DataSection = Field(default_factory=lambda: DataSection.model_validate({}))
    accuracy: AccuracySection
    candidates: list[CandidateSection] = Field(
        [], description="Further models for the same task: a distilled student, a smaller architecture."
    )
    recipes: Literal["auto"] | Annotated[list[str], Field(min_length=1)] = Field(
        "auto", description="Variants to make; auto: those that make sense for the model and the backends."
    )
    backends: list[str] = Field(
        ["onnxruntime"],
        min_length=1,
        description="What runs the engines on this machine; see docs/devices.md for those there are.",
    )
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field([1, 2, 4, 8], min_length=1)
    threads: Literal["auto"] | list[Annotated[int, Field(ge=1)]] = Field(
        "auto", description="Threads of one instance; auto: powers of two up to this machine's cores."
    )
    batching: BatchingSection = Field(default_factory=lambda: BatchingSection.model_validate({}))

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.model is None and self.imported is None:
            raise ValueError("model: missing; see planner schema plan")
        if self.imported is None:
            if self.accuracy.declared:
                raise ValueError("accuracy.declared is for imported profiles; a model's accuracy is measured")
            return self
        for key in (
            "model",
            "candidates",
            "dimensions",
            "data",
            "recipes",
            "backends",
            "batch_sizes",
            "threads",
        ):
            if key in self.model_fields_set:
                raise ValueError(f"{key}: not together with imported, which has no model to make variants of")
        if not self.accuracy.declared:
            raise ValueError("accuracy.declared: missing; imported profiles need it for each variant")
        return self


class ServiceSection(ServedSection):
    """One of several workloads, with what serves it."""

    workload: WorkloadSection

    @model_validator(mode="after")
    def _sizes_of_classes(self) -> Self:
        asked, not_asked = ("dimensions", "imported_model")[:: 1 if self.imported is None else -1]
        for of in self.workload.classes:
            if not getattr(of, asked):
                raise ValueError(f"workload.classes: {of.name}: {asked}: missing; it tells the class's size")
            if getattr(of, not_asked):
                why = (
                    "is for imported profiles" if self.imported is None else "are those of its imported_model"
                )
                raise ValueError(f"workload.classes: {of.name}: {not_asked} {why}; leave it out")
        models = [of.imported_model for of in self.workload.classes if of.imported_model]
        if len(set(models)) < len(models):
            raise ValueError("workload.classes: two have the same imported_model; each is of its own size")
        if self.workload.classes and self.imported is not None and self.imported.model is not None:
            raise ValueError("imported.model: not together with workload.classes, which name one each")
        return self


class PlanFile(ServiceSection):
    """plan.yaml for one workload."""

    fleet: FleetSection = Field(default_factory=lambda: FleetSection.model_validate({}))
    output: str = Field("plan", description="Output folder.")
    profiles: str | None = Field(None, description="Profile store; defaults to `profiles` in the output.")


class FleetFile(_Section):
    """plan.yaml for several workloads that share a fleet."""

    services: list[ServiceSection] = Field(min_length=1, description="Each as a plan.yaml for one workload.")
    fleet: FleetSection = Field(default_factory=lambda: FleetSection.model_validate({}))
    output: str = Field("plan", description="Output folder.")
    profiles: str | None = Field(None, description="Profile store; defaults to `profiles` in the output.")
