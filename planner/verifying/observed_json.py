"""Observations as JSON: what a live run prints, and what ``planner verify --observed`` reads.

Every field is listed by hand, versioned. Units stand in the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from planner.errors import InputError
from planner.report.part import Part, written
from planner.verifying.observed import Observed
from planner.verifying.verdict import Judged
from planner.verifying.verify import Verdict

# 1: first format
OBSERVED_SCHEMA: Literal[1] = 1


class _Part(Part):
    model_config = ConfigDict(allow_inf_nan=False)


class ObservedPart(_Part):
    """A candidate's replica under load; null: could not be seen from where it was driven."""

    candidate_id: str
    workload: str
    rate_rps: float = Field(gt=0, description="At which requests really came.")
    asked_rps: float = Field(gt=0, description="At which they should have come.")
    percentile: float = Field(gt=0, lt=100)
    budget_ms: float = Field(gt=0)
    measured_ms: float = Field(gt=0, description="The percentile, of queueing and inference.")
    measured_low_ms: float
    measured_high_ms: float
    predicted_ms: float = Field(gt=0, description="With the batcher's own overhead.")
    overhead_ms: float
    requests: int = Field(gt=0)
    valid: bool = Field(True, description="By the load generator's own rules.")
    predicted_batch_size: float | None = None
    mean_batch_size: float | None = None
    service_ratio: float | None = Field(None, gt=0, description="Mean service time over the profile's.")
    arrival_cv: float | None = Field(None, gt=0, description="Of the times between requests.")
    planned_cv: float = Field(1.0, gt=0)
    highest_rps: float | None = Field(None, description="The highest rate that held, where searched for.")
    planned_capacity_rps: float | None = None
    verdict: Verdict | None = None
    broke: list[str] = Field([], description="Assumptions that do not hold.")
    words: str = ""


class ObservationsPart(_Part):
    """What was seen of a plan's replicas that really served."""

    schema_version: Literal[1] = OBSERVED_SCHEMA
    observed: list[ObservedPart] = Field(min_length=1)


def dump_observed(found: Sequence[Judged]) -> str:
    parts = [
        ObservedPart(
            **asdict(judged.observed),
            verdict=judged.verdict,
            broke=[name for name, _ in judged.broke],
            words=judged.words,
        )
        for judged in found
    ]
    return written(ObservationsPart(observed=parts))


def read_observed(path: Path) -> tuple[Observed, ...]:
    """Raises InputError where the file is not one; verdicts in it are not read."""
    try:
        content = ObservationsPart.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: not observations of schema {OBSERVED_SCHEMA}: {where}: {first['msg']}"
        ) from None
    names = [field.name for field in fields(Observed)]
    return tuple(Observed(**{name: getattr(part, name) for name in names}) for part in content.observed)


def observed_schema() -> dict[str, Any]:
    """The JSON Schema of observations."""
    schema = ObservationsPart.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "observations"}
