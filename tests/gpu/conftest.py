"""The acceptance suite for machines with an NVIDIA GPU: ``pytest -m gpu``. Skipped otherwise."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "gpu" in (config.getoption("markexpr") or ""):
        return
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU; run with: pytest -m gpu")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)
