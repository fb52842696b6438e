"""What was measured: profiles and accuracies, one file each, written at once or not at all."""

from planner.store.calibrations import (
    CALIBRATION_JSON,
    Calibration,
    read_calibrations,
    write_calibrations,
)
from planner.store.compare import CONFIDENCE, Change, Compared, Comparison, compare
from planner.store.files import replace_text, writable_folder
from planner.store.names import locate, reference_folder, reference_names
from planner.store.profiles import (
    PROFILE_SCHEMA,
    ProfileStore,
    profile_from_json,
    profile_to_json,
    read_profile,
)
from planner.store.qualities import QualityStore
from planner.store.sheet import Problem, Sheet, profiles_of, read_sheet
from planner.store.tend import Merged, Pruned, merge, prune

__all__ = [
    "CALIBRATION_JSON",
    "CONFIDENCE",
    "PROFILE_SCHEMA",
    "Calibration",
    "Change",
    "Compared",
    "Comparison",
    "Merged",
    "Problem",
    "ProfileStore",
    "Pruned",
    "QualityStore",
    "Sheet",
    "compare",
    "locate",
    "merge",
    "profile_from_json",
    "profile_to_json",
    "profiles_of",
    "prune",
    "read_calibrations",
    "read_profile",
    "read_sheet",
    "reference_folder",
    "reference_names",
    "replace_text",
    "writable_folder",
    "write_calibrations",
]
