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

    @property
    def id(self) -> str:
        return f"{self.provider}/{self.instance_type}/{self.region}/{self.purchase}"
