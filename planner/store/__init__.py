"""What was measured: profiles and accuracies, one file each, written at once or not at all."""

from planner.store.files import replace_text, writable_folder
from planner.store.profiles import PROFILE_SCHEMA, ProfileStore, read_profile
from planner.store.qualities import QualityStore

__all__ = [
    "PROFILE_SCHEMA",
    "ProfileStore",
    "QualityStore",
    "read_profile",
    "replace_text",
    "writable_folder",
]
