"""What ``planner explain --json`` prints: every field listed by hand, versioned."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from planner.domain.reasons import Explanation
from planner.report.part import Part, schema_of, written

# 1: first format
EXPLANATION_SCHEMA: Literal[1] = 1


class CostPart(Part):
    usd_per_hour: float
    amount: float | None = Field(description="Of the objective, where that is not USD per hour.")
    proven: bool


class AlternativePart(Part):
    """What the best plan costs that serves a workload by one kind of device, or one variant."""

    workload: str = Field(description="Empty where it fell out before that was known.")
    by: Literal["device", "variant"]
    name: str
    used: bool = Field(description="The plan serves some of the workload's requests by it.")
    some: CostPart | None = Field(description="At least one instance does; null: there is no such plan.")
    alone: CostPart | None = Field(description="All of the workload's requests are served by it.")
    at_least: bool = Field(description="Not measured in full: the least that these plans could cost.")
    reason: str = Field(description="What ruled it out; empty where the plan uses it.")


class LimitPart(Part):
    """What a limit costs, in the objective's unit; 0 where it does not bind."""

    limit: str
    saves: float = Field(description="Without the limit.")
    step: str = Field(description="By how much it is wider below; empty: nothing before none at all.")
    step_saves: float | None
    proven: bool


class PointPart(Part):
    value: float
    usd_per_hour: float | None = Field(description="Null: no plan, for the reason.")
    amount: float | None
    proven: bool
    fleet: str
    reason: str


class CurvePart(Part):
    over: Literal["slo", "rate", "floor"]
    unit: str
    workload: str = Field(description="Empty: the rates of all change together.")
    asked: float = Field(description="The plan's own value.")
    points: list[PointPart]
    note: str = Field(description="What the points rest on.")


class ExplanationPart(Part):
    """Why a plan is what it is."""

    schema_version: Literal[1] = EXPLANATION_SCHEMA
    objective: Literal["usd", "energy", "carbon", "accuracy", "latency"]
    usd_per_hour: float
    amount: float | None = Field(description="Of the objective, where that is not USD per hour.")
    bound_usd_per_hour: float
    proven: bool
    kept: bool
    runner_up: str
    alternatives: list[AlternativePart]
    limits: list[LimitPart]
    curves: list[CurvePart]
    notes: list[str]


def dump_explanation(explanation: Explanation) -> str:
    return written(ExplanationPart.model_validate(asdict(explanation)))


def explanation_schema() -> dict[str, Any]:
    """The JSON Schema of an explanation."""
    return schema_of(ExplanationPart, "explanation")
