"""The profile store: one file a profile, written at once or not at all."""

from planner.store.files import replace_file, replace_text, writable_folder
from planner.store.profiles import PROFILE_SCHEMA, ProfileStore

__all__ = ["PROFILE_SCHEMA", "ProfileStore", "replace_file", "replace_text", "writable_folder"]
