"""A TensorRT engine is code. Which one may be run."""

from __future__ import annotations

from collections.abc import Collection

from planner.backends.tensorrt.record import EngineRecord


def refusal(
    found_sha256: str, record: EngineRecord | None, vouched: Collection[str], trusted: bool
) -> str | None:
    """Why an engine must not be deserialized, in one line; None where it may.

    It may if its bytes are those of its record and the store's own manifest vouches for them. ``trusted``
    stands for the manifest only: what a user trusts is the engine of that record, not any other file.
    """
    if record is None:
        return "it has no record beside it; build it with the planner, or bring its .json along"
    if found_sha256 != record.sha256:
        return (
            f"its sha256 is {found_sha256[:12]}…, its record's {record.sha256[:12]}…; "
            "it is damaged or another's, build it again"
        )
    if found_sha256 not in vouched and not trusted:
        return "it is not in this store's manifest; build it here, or give --trust if you know who made it"
    return None
