"""An instance type at a price, in a region, on-demand, spot or reserved."""

from __future__ import annotations

from dataclasses import dataclass

ON_DEMAND, SPOT, RESERVED = "on-demand", "spot", "reserved"


@dataclass(frozen=True, slots=True)
class Offer:
    """One row of the price list.

    ``device_count`` is the number of accelerators, possibly a fraction of one (0.5 of an A10); for a CPU
    instance it is 0 and ``vcpus``, hardware threads, are what replicas share. ``memory_bytes`` is the
    host's memory, None where no source gives it. ``price_as_of`` is an ISO date.

    ``term`` is how long one commits where ``purchase`` is reserved: ``1yr``, ``3yr``, or empty where that
    is not said. ``zones`` are the region's availability zones known to sell it, empty where that is not
    known. ``family`` is the quota that the provider counts it under (AWS ``P``, Google
    ``NVIDIA_L4_GPUS``), empty where none is known, and ``family_units`` what one instance takes of it,
    in vCPUs or accelerators, whichever the provider counts. ``grams_co2_per_kwh`` is the carbon intensity
    of the region's electricity, None where no source gives it.
    """

    provider: str
    instance_type: str
    region: str
    device: str
    device_count: float
    vcpus: int
    memory_bytes: int | None
    purchase: str
    usd_per_hour: float
    price_source: str
    price_as_of: str
    note: str = ""
    term: str = ""
    zones: tuple[str, ...] = ()
    family: str = ""
    family_units: float = 0.0
    grams_co2_per_kwh: float | None = None

    @property
    def id(self) -> str:
        bought = f"{self.purchase}-{self.term}" if self.term else self.purchase
        return f"{self.provider}/{self.instance_type}/{self.region}/{bought}"
