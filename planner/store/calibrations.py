"""What services really took, over what was profiled: a factor for each variant, backend and device.

``calibration.json`` lies in the profile store, beside the folders of the models. Samples stay as they were
taken; reading a profile puts its factor beside them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from planner.domain.profile import Profile
from planner.errors import StoreError
from planner.store.files import replace_text, writable_folder

# 1: first format
CALIBRATION_SCHEMA = 1
CALIBRATION_JSON = "calibration.json"

Key = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of all profiles of a variant with a backend on a device, taken in one environment (its id).

    ``factor``: mean service time in service over the profiled one. ``requests`` it was seen over.
    ``taken_at``: ISO 8601, UTC. Raises ValueError unless the factor is finite and above 0.
    """

    variant: str
    variant_sha256: str
    backend: str
    device: str
    environment: str
    factor: float
    requests: int
    taken_at: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"{self.variant} on {self.device}: a factor is above 0, got {self.factor}")

    @property
    def key(self) -> Key:
        return self.variant, self.variant_sha256, self.backend, self.device, self.environment


def key_of(profile: Profile) -> Key:
    """What finds its calibration."""
    c = profile.configuration
    return c.variant, c.variant_sha256, c.backend, c.device, profile.environment.id


def read_calibrations(folder: Path) -> dict[Key, Calibration]:
    """Of the store in ``folder``; none where there is no file. Raises StoreError where it cannot be read."""
    path = folder / CALIBRATION_JSON
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != CALIBRATION_SCHEMA:
            raise ValueError(f"schema {content['schema']}, this planner reads {CALIBRATION_SCHEMA}")
        found = [Calibration(**each) for each in content["calibrations"]]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); delete it to plan by profiles alone"
        ) from None
    return {each.key: each for each in found}


def write_calibrations(folder: Path, found: Iterable[Calibration]) -> Path:
    """Put them into the store, in place of earlier ones of the same profiles."""
    known = read_calibrations(folder) | {each.key: each for each in found}
    content = {"schema": CALIBRATION_SCHEMA, "calibrations": [asdict(known[key]) for key in sorted(known)]}
    writable_folder(folder)
    path = folder / CALIBRATION_JSON
    replace_text(path, json.dumps(content, indent=2) + "\n")
    return path
