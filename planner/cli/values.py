"""Values of options that people write with a unit."""

from __future__ import annotations

from planner.errors import InputError
from planner.units import parse_share


def share(text: str, option: str) -> float:
    """``5%`` or ``0.05``. Raises InputError that names the option unless it is from 0 to 1."""
    try:
        value = parse_share(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"{option}: expected a share from 0% to 100%, got {text!r}")
    return value
