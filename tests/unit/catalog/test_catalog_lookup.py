"""Finding one entry by name, and a device's figures."""

from __future__ import annotations

import pytest

from planner import catalog
from planner.domain.device import Device
from planner.errors import CatalogError

CATALOG = catalog.load()


def test_a_device_by_name() -> None:
    device = catalog.find(CATALOG, "T4")
    assert isinstance(device, Device)
    figures = {figure.name: figure for figure in catalog.figures(device)}
    assert figures["memory"].value == "16 GB"
    assert figures["bandwidth"].value == "320 GB/s"
    assert figures["tdp"].value == "70 W"
    assert figures["compute_capability"].value == "7.5"
    assert figures["fp16"].value == "65 T op/s"
    assert figures["int4"].source.quality == "from-memory"
    assert "mig" not in figures


def test_figures_that_no_source_gives_are_left_out() -> None:
    names = [figure.name for figure in catalog.figures(CATALOG.device("GH200-96GB"))]
    assert names == ["memory", "compute_capability", "mig"]


@pytest.mark.parametrize("name", ["c7i.large", "aws/c7i.large", "aws/c7i.large/us-east-1/on-demand"])
def test_offers_by_type_or_id(name: str) -> None:
    offers = catalog.find(CATALOG, name)
    assert isinstance(offers, tuple)
    assert {offer.instance_type for offer in offers} == {"c7i.large"}
    assert [o.usd_per_hour for o in offers] == sorted(o.usd_per_hour for o in offers)


def test_what_is_neither_names_the_nearest() -> None:
    with pytest.raises(
        CatalogError, match=r"neither a device nor an instance type: 'c7i\.larg'; did you mean"
    ):
        catalog.find(CATALOG, "c7i.larg")
