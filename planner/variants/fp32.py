"""The baseline: the model itself, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

from planner.domain.variant import BASELINE_RECIPE
from planner.errors import VariantError
from planner.variants.context import ALL_BACKENDS, Context
from planner.variants.model import external_locations


class Fp32:
    name = BASELINE_RECIPE
    needs_calibration = False
    backends = ALL_BACKENDS
    min_compute_capability = None
    evaluate_unoptimized = False

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        for location in external_locations(source):
            copy = target.parent / location
            if copy == target:
                raise VariantError(
                    f"{self.name}: external data file {location} has the name of the copied model"
                )
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.parent / location, copy)
        shutil.copyfile(source, target)
        return ()
