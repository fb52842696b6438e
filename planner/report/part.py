"""What documents are made of: parts whose fields are listed by hand, written and described alike."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def written(document: Part) -> str:
    """The document as JSON, for files and stdout alike."""
    return json.dumps(document.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def schema_of(document: type[Part], title: str) -> dict[str, Any]:
    """The JSON Schema of what is ``written``."""
    schema = document.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
