"""Small candidates and offers, of which a test states only what matters to it."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from planner.domain.offer import ON_DEMAND, Offer
from planner.domain.problem import Candidate

GIB = 1024**3


class CandidateOf(Protocol):
    def __call__(self, id: str, **changes: Any) -> Candidate: ...


class OfferOf(Protocol):
    def __call__(self, instance_type: str, usd_per_hour: float, **changes: Any) -> Offer: ...


@pytest.fixture(scope="session")
def candidate() -> CandidateOf:
    def make(id: str, **changes: Any) -> Candidate:
        values: dict[str, Any] = {
            "workload": "w",
            "variant": "int8",
            "backend": "onnxruntime-cpu",
            "device": "cpu-a",
            "threads": 1,
            "max_batch_size": 1,
            "memory_bytes": GIB,
            "capacity_rps": 10.0,
            "side_by_side": 1,
        }
        values |= changes
        values.setdefault("packed_capacity_rps", values["capacity_rps"])
        return Candidate(id=id, **values)

    return make


@pytest.fixture(scope="session")
def offer() -> OfferOf:
    def make(instance_type: str, usd_per_hour: float, **changes: Any) -> Offer:
        values: dict[str, Any] = {
            "provider": "cloud",
            "region": "r1",
            "device": "cpu-a",
            "device_count": 0,
            "vcpus": 1,
            "memory_bytes": 64 * GIB,
            "purchase": ON_DEMAND,
            "price_source": "test",
            "price_as_of": "2025-01-01",
        }
        return Offer(instance_type=instance_type, usd_per_hour=usd_per_hour, **(values | changes))

    return make
