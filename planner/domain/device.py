"""A kind of chip, or a slice of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure was read. ``as_of`` is an ISO date; ``quality`` is ``read``, ``derived``
    (computed from figures read) or ``from-memory``."""

    citation: str
    as_of: str
    quality: str


@dataclass(frozen=True, slots=True)
class MigSlice:
    """One MIG profile of a GPU: ``name`` as NVIDIA spells it, such as ``1g.10gb``."""

    name: str
    memory_bytes: int
    max_per_device: int


@dataclass(frozen=True, slots=True)
class Device:
    """Rates are dense peaks, in operations per second; what no source gives is None or absent.

    ``sources`` maps the name of each figure given to its source.
    """

    name: str
    kind: str
    """``gpu`` or ``cpu``."""
    vendor: str
    architecture: str
    memory_bytes: int | None
    bandwidth_bytes_per_s: float | None
    tdp_w: float | None
    peak_ops_per_s: tuple[tuple[str, float], ...]
    compute_capability: str | None
    mig: tuple[MigSlice, ...]
    cores: int | None
    """Physical cores of one socket (CPU only)."""
    sources: tuple[tuple[str, Source], ...]
    note: str = ""
