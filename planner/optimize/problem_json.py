"""A problem as a JSON file: every field listed by hand, versioned, with units in its name.

Any other tool's capacities can be planned with: write this file, run ``planner solve FILE``. The classes
mirror ``planner.domain.problem``, which says what each field means; what may be left out has the same default
here as there. A number keeps its value through a file and back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.domain import problem as domain
from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Problem, Solution
from planner.errors import InputError

# 1: first format
PROBLEM_SCHEMA: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class PeriodPart(_Part):
    name: str
    hours: float = Field(description="How much of a day, a week, whatever repeats.")


class ClassPart(_Part):
    name: str
    share: float = Field(description="Of the workload's rate; those of one workload add up to 1.")


class DemandPart(_Part):
    workload: str
    rate_rps: float | None = Field(None, description="May be left out where rates_rps is given.")
    rates_rps: tuple[float, ...] = Field((), description="By period, in their order.")
    classes: tuple[ClassPart, ...] = ()
    min_mean_quality: float | None = None
    max_spot_share: float = 1.0
    redundancy: Literal["none", "instance", "zone"] = "none"

    def value(self) -> domain.Demand:
        rate = self.rate_rps if self.rate_rps is not None else max(self.rates_rps, default=0.0)
        return domain.Demand(
            workload=self.workload,
            rate_rps=rate,
            rates_rps=self.rates_rps,
            classes=tuple(domain.RequestClass(c.name, c.share) for c in self.classes),
            min_mean_quality=self.min_mean_quality,
            max_spot_share=self.max_spot_share,
            redundancy=self.redundancy,
        )


class CandidatePart(_Part):
    id: str
    workload: str
    device: str
    capacity_rps: float | None = Field(
        None, description="Of one replica, with the SLO met. May be left out where classes are given."
    )
    packed_capacity_rps: float | None = Field(
        None, description="With more on the instance than side_by_side; as capacity_rps where it is left out."
    )
    side_by_side: int = Field(1, description="Replicas that share an instance at capacity_rps.")
    threads: int = 1
    memory_bytes: int = 0
    classes: dict[str, float] = Field({}, description="Requests per second of each class at full load.")
    mixing: Literal["each", "time"] = Field(
        "each", description="each: up to all these rates at once; time: loads add up."
    )
    slices: tuple[int, int] | None = Field(None, description="MIG: compute and memory slices.")
    quality: float | None = Field(None, description="Higher is better.")
    latency_ns: float | None = None
    variant: str = ""
    backend: str = ""
    max_batch_size: int = 1
    queue_delay_ns: int = Field(0, description="How long a request may wait for a fuller batch.")
    instances: int = Field(1, description="Of the engine, that share a replica's queue and its threads.")

    def value(self) -> domain.Candidate:
        known: dict[str, Any] = dict(self)
        if self.capacity_rps is None:
            rates = self.classes.values()
            known["capacity_rps"] = (
                (sum(rates) if self.mixing == domain.EACH else max(rates)) if self.classes else 0.0
            )
        if self.packed_capacity_rps is None:
            known["packed_capacity_rps"] = known["capacity_rps"]
        return domain.Candidate(**known | {"classes": tuple(self.classes.items())})


class OfferPart(_Part):
    provider: str = ""
    instance_type: str
    region: str = ""
    device: str
    device_count: float = Field(0, description="Accelerators; 0: a CPU instance.")
    vcpus: int
    memory_bytes: int | None = Field(None, description="Of the host; a CPU instance needs it.")
    purchase: Literal["on-demand", "spot", "reserved"] = "on-demand"
    usd_per_hour: float
    term: str = ""
    zones: tuple[str, ...] = ()
    family: str = ""
    family_units: float = 0.0
    price_source: str = ""
    price_as_of: str = ""
    note: str = ""
    grams_co2_per_kwh: float | None = None

    def value(self) -> Offer:
        return Offer(**dict(self))


class FiguresPart(_Part):
    offer_id: str = Field(
        description="provider/instance_type/region/purchase, with -term where there is one."
    )
    availability: float = 1.0
    power_w: float | None = None
    carbon_g_per_hour: float | None = None


class QuotaPart(_Part):
    name: str
    at_most: float
    unit: Literal["instances", "vcpus", "devices", "family_units"] = "instances"
    provider: str | None = None
    region: str | None = None
    instance_types: tuple[str, ...] = ()
    family: str | None = None
    device: str | None = None
    purchase: Literal["on-demand", "spot", "reserved"] | None = None


class PatternPart(_Part):
    offer_id: str
    replicas: dict[str, int] = Field(description="By candidate id.")
    extrapolated: bool = False


class PlacementPart(_Part):
    pattern: PatternPart
    instances: int
    flow_rps: dict[str, float] = Field({}, description="By candidate id, over all instances.")
    usd_per_hour: float = 0.0
    period: str = ""
    zone: str = ""
    class_flow_rps: tuple[tuple[str, str, float], ...] = ()

    @classmethod
    def of(cls, placement: domain.Placement) -> PlacementPart:
        pattern = placement.pattern
        return cls(
            pattern=PatternPart(
                offer_id=pattern.offer_id,
                replicas=dict(pattern.replicas),
                extrapolated=pattern.extrapolated,
            ),
            instances=placement.instances,
            flow_rps=dict(placement.flow_rps),
            usd_per_hour=placement.usd_per_hour,
            period=placement.period,
            zone=placement.zone,
            class_flow_rps=placement.class_flow_rps,
        )

    def value(self) -> domain.Placement:
        replicas = tuple(sorted(self.pattern.replicas.items()))
        return domain.Placement(
            pattern=domain.Pattern(self.pattern.offer_id, replicas, self.pattern.extrapolated),
            instances=self.instances,
            flow_rps=tuple(self.flow_rps.items()),
            usd_per_hour=self.usd_per_hour,
            period=self.period,
            zone=self.zone,
            class_flow_rps=self.class_flow_rps,
        )


class CommitmentPart(_Part):
    offer_id: str
    instances: int
    usd_per_hour: float = 0.0


class KeepPart(_Part):
    """The present plan: the placements of an earlier solution."""

    placements: tuple[PlacementPart, ...]
    least_saving: float = Field(description="A share: 0.05 leaves it for a plan more than 5 % better.")

    def value(self) -> domain.Keep:
        return domain.Keep(
            placements=tuple(part.value() for part in self.placements),
            least_saving=self.least_saving,
        )


class ProblemPart(_Part):
    """A problem: what is asked for, what may serve it, on what, within which limits."""

    schema_version: Literal[1] = Field(PROBLEM_SCHEMA, description="Of this format.")
    demands: tuple[DemandPart, ...]
    candidates: tuple[CandidatePart, ...]
    offers: tuple[OfferPart, ...]
    max_instances_per_offer: int | None = None
    periods: tuple[PeriodPart, ...] = ()
    figures: tuple[FiguresPart, ...] = ()
    quotas: tuple[QuotaPart, ...] = ()
    budget_usd_per_hour: float | None = None
    max_kinds: int | None = None
    min_zones: int = 0
    objective: Literal["usd", "energy", "carbon", "accuracy", "latency"] = "usd"
    keep: KeepPart | None = None
    unmeasured: tuple[CandidatePart, ...] = Field(
        (), description="With the most that each could take: for planner explain, not to be planned with."
    )

    def value(self) -> Problem:
        return Problem(
            demands=tuple(part.value() for part in self.demands),
            candidates=tuple(part.value() for part in self.candidates),
            offers=tuple(part.value() for part in self.offers),
            max_instances_per_offer=self.max_instances_per_offer,
            periods=tuple(domain.Period(**dict(part)) for part in self.periods),
            figures=tuple(domain.OfferFigures(**dict(part)) for part in self.figures),
            quotas=tuple(domain.Quota(**dict(part)) for part in self.quotas),
            budget_usd_per_hour=self.budget_usd_per_hour,
            max_kinds=self.max_kinds,
            min_zones=self.min_zones,
            objective=self.objective,
            keep=self.keep.value() if self.keep else None,
        )


class SolutionPart(_Part):
    """What ``planner solve --json`` prints."""

    schema_version: Literal[1] = PROBLEM_SCHEMA
    objective: str
    amount: float | None = Field(description="Of the objective, where that is not USD per hour.")
    amount_bound: float | None
    usd_per_hour: float
    bound_usd_per_hour: float
    gap: float
    proven: bool
    kept: bool
    placements: list[PlacementPart]
    commitments: list[CommitmentPart]
    solve_seconds: float
    solver: str
    notes: list[str]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a problem."""
    return ProblemPart.model_json_schema()


def dump_problem(problem: Problem, unmeasured: Iterable[Candidate] = (), *, compact: bool = False) -> str:
    """The problem as JSON text, ending in a newline; ``compact``: one line, without what may be left out."""
    known = asdict(problem) | {"unmeasured": [asdict(candidate) for candidate in unmeasured]}
    for key in ("candidates", "unmeasured"):
        known[key] = [c | {"classes": dict(c["classes"])} for c in known[key]]
    if problem.keep is not None:
        known["keep"]["placements"] = [PlacementPart.of(p).model_dump() for p in problem.keep.placements]
    part = ProblemPart.model_validate(known)
    if not compact:
        return part.model_dump_json(indent=2) + "\n"
    fields = part.model_dump(exclude_defaults=True)
    return json.dumps({"schema_version": PROBLEM_SCHEMA} | fields, ensure_ascii=False) + "\n"


def dump_solution(solution: Solution) -> str:
    """The solution as JSON text, ending in a newline; its placements can be a problem's ``keep``."""
    part = SolutionPart(
        objective=solution.objective,
        amount=solution.amount,
        amount_bound=solution.amount_bound,
        usd_per_hour=solution.usd_per_hour,
        bound_usd_per_hour=solution.bound_usd_per_hour,
        gap=solution.gap,
        proven=solution.proven,
        kept=solution.kept,
        placements=[PlacementPart.of(placement) for placement in solution.placements],
        commitments=[CommitmentPart(**asdict(commitment)) for commitment in solution.commitments],
        solve_seconds=solution.solve_seconds,
        solver=solution.solver,
        notes=list(solution.notes),
    )
    return part.model_dump_json(indent=2) + "\n"


def load_problem(text: str, where: str) -> Problem:
    """The problem of a JSON text. Raises InputError that names ``where``, the field, and what is wrong."""
    return _load(text, where)[0]


def _load(text: str, where: str) -> tuple[Problem, tuple[Candidate, ...]]:
    try:
        part = ProblemPart.model_validate(json.loads(text))
        return part.value(), tuple(candidate.value() for candidate in part.unmeasured)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"]) or "the file"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"{where}: {field}: {first['msg'].lower()}{more}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{where}, line {error.lineno}: no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {error}") from None


def read_problem(path: Path) -> Problem:
    """The problem in a file. Raises InputError where that cannot be read or makes no sense."""
    return load_problem(_text(path), str(path))


def read_measured(path: Path) -> tuple[Problem, tuple[Candidate, ...]]:
    """The problem in a file, and the candidates beside it that were not measured. Errors as read_problem."""
    return _load(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"{path}: cannot be read: {reason}") from None
