"""policy.yaml: how much worse a new plan may be, and what becomes of what cannot be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from planner.errors import SpecError
from planner.gate.outcome import CANNOT_TELL, FAILED, Outcome, Weight
from planner.units import parse_share


def _share(value: object) -> float:
    try:
        share = parse_share(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 <= share < float("inf"):
        raise ValueError(f"expected a share of 0 or more, such as 5% or 0.05, got {value!r}")
    return share


Share = Annotated[float, BeforeValidator(_share, json_schema_input_type=float | str)]


class Policy(BaseModel):
    """Without a file: these defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_cost_increase: Share = Field(0.05, description="As a share of the baseline's cost.")
    max_slowdown: Share = Field(
        0.05,
        description="By how much an engine may be slower than the baseline's, measured by turns with it. "
        "Where memory comes to lie decides a few per cent alone.",
    )
    min_latency_margin: Share = Field(
        0.0, description="What must be left of the SLO's budget, as a share of it, by the plan's prediction."
    )
    max_accuracy_drop: Share = Field(
        0.0, description="By how much a variant's metric may be worse than the baseline's, absolute."
    )
    changed_choice: Literal["warn", "fail"] = Field(
        "fail", description="A variant, engine or offer that changed although nothing else did."
    )
    price_changes: Literal["pass", "warn", "fail"] = Field(
        "warn", description="Offers of the plan whose price changed, whatever that does to the cost."
    )
    cannot_tell: Literal["pass", "warn", "fail"] = Field(
        "warn",
        description="What cannot be judged, such as latencies where the baseline's engines are missing.",
    )
    verification: bool = Field(True, description="Simulate the new plan's fleet.")

    def weight(self, outcome: Outcome) -> Weight:
        """What an outcome means for the gate."""
        if outcome.verdict == CANNOT_TELL:
            return self.cannot_tell
        if outcome.verdict != FAILED:
            return "pass"
        by_rule: dict[str, Weight] = {"choice": self.changed_choice, "prices": self.price_changes}
        return by_rule.get(outcome.rule, "fail")


def read_policy(path: Path | None) -> Policy:
    """The file's, or the defaults (None). Raises SpecError with file, key and what was expected."""
    if path is None:
        return Policy.model_validate({})
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; leave --policy out for the defaults") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if content is not None and not isinstance(content, dict):
        raise SpecError(f"{path}: expected keys such as max_cost_increase:, found none")
    try:
        return Policy.model_validate(content or {})
    except ValidationError as error:
        raise SpecError(f"{path}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; known here: {', '.join(Policy.model_fields)}"
    return f"{key}: {first['msg'].removeprefix('Value error, ').removeprefix('Input should be ')}"


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of policy.yaml."""
    schema = Policy.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "policy.yaml"}
