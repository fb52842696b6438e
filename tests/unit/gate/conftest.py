from __future__ import annotations

import pytest
from gated_plans import SLOWER, plan_in

from planner.gate.known import Known


@pytest.fixture(scope="session")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Known]:
    """The baseline, and what becomes of it with one thing changed."""
    folder = tmp_path_factory.mktemp("gated")
    return {
        "baseline": plan_in(folder / "baseline"),
        "same": plan_in(folder / "same"),
        "slower": plan_in(folder / "slower", SLOWER),
        "busier": plan_in(folder / "busier", workload={"rate_rps": 30000}),
        "fewer": plan_in(folder / "fewer", fleet={"max_instances_per_offer": 8}),
    }
