"""plan.yaml to values: ``sections`` mirrors the file, ``read`` turns it into ``values``."""

from planner.spec.read import json_schema, read_spec
from planner.spec.sections import RANDOM_DATA
from planner.spec.values import Entrant, Fleet, Imported, Spec

__all__ = ["RANDOM_DATA", "Entrant", "Fleet", "Imported", "Spec", "json_schema", "read_spec"]
