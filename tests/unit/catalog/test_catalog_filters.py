"""Offers within the limits of a fleet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import catalog
from planner.catalog import Catalog
from planner.domain.offer import Offer
from planner.domain.problem import Quota
from planner.domain.workload import FleetLimits
from planner.errors import CatalogError

OFFER = Offer("aws", "c7i.large", "us-east-1", "cpu", 0, 2, None, "on-demand", 0.09, "list", "2026-07-20")
REGIONS = {"aws": ("us-east-1", "eu-west-1"), "gcp": ("us-central1", "us-east4")}
OFFERS = tuple(
    replace(OFFER, provider=provider, region=region, purchase=purchase, usd_per_hour=price)
    for provider, regions in REGIONS.items()
    for region in regions
    for purchase, price in (("on-demand", 0.09), ("spot", 0.03))
)
CATALOG = Catalog(devices=(), offers=OFFERS, cpu_signatures=(), digest="")


def subsets(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), unique=True).map(tuple)


@given(
    providers=subsets(("aws", "gcp")),
    regions=subsets((*REGIONS["aws"], *REGIONS["gcp"])),
    purchases=subsets(("on-demand", "spot", "reserved")),
)
def test_matches_is_the_conjunction_of_its_limits(
    providers: tuple[str, ...], regions: tuple[str, ...], purchases: tuple[str, ...]
) -> None:
    limits = FleetLimits(providers=providers, regions=regions, purchases=purchases)
    for offer in OFFERS:
        alone = (
            catalog.matches(offer, FleetLimits(providers=providers, purchases=())),
            catalog.matches(offer, FleetLimits(regions=regions, purchases=())),
            catalog.matches(offer, FleetLimits(purchases=purchases)),
        )
        assert catalog.matches(offer, limits) == all(alone)
        assert alone[0] == (offer.provider in (providers or REGIONS))


def test_select_gives_the_cheapest_first_and_on_demand_alone_by_default() -> None:
    assert {o.purchase for o in catalog.select(CATALOG, FleetLimits())} == {"on-demand"}
    chosen = catalog.select(CATALOG, FleetLimits(providers=("gcp",), purchases=("spot", "on-demand")))
    assert [o.usd_per_hour for o in chosen] == [0.03, 0.03, 0.09, 0.09]
    assert [o.region for o in chosen] == ["us-central1", "us-east4"] * 2


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (FleetLimits(providers=("awz",)), "unknown provider: 'awz'; did you mean aws"),
        (
            FleetLimits(regions=("us-east1",)),
            "unknown region of aws, gcp: 'us-east1'; did you mean us-east-1",
        ),
        (
            FleetLimits(providers=("gcp",), regions=("us-east-1",)),
            "unknown region of gcp: 'us-east-1'; did you mean us-east4",
        ),
        (FleetLimits(purchases=("lease",)), "unknown purchase: 'lease'; known: on-demand, reserved, spot"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(limits: FleetLimits, expected: str) -> None:
    with pytest.raises(CatalogError) as raised:
        catalog.check_limits(CATALOG, limits)
    assert str(raised.value).startswith(expected)


def test_known_names_pass() -> None:
    catalog.check_limits(CATALOG, FleetLimits(providers=("aws",), regions=("eu-west-1",)))
    catalog.check_limits(CATALOG, FleetLimits(regions=("eu-west-1", "us-east4"), purchases=("reserved",)))


def test_offers_with_a_device_come_cheapest_first() -> None:
    found = catalog.offers_with(catalog.load(), "L4")
    assert {offer.device for offer in found} == {"L4"}
    assert [o.usd_per_hour for o in found] == sorted(o.usd_per_hour for o in found)


def test_a_quota_of_an_unknown_family_names_the_nearest() -> None:
    sold = replace(CATALOG, offers=tuple(replace(offer, family="G and VT") for offer in OFFERS))
    catalog.check_limits(sold, FleetLimits(quotas=(Quota("q", 1, provider="aws", family="G and VT"),)))
    with pytest.raises(CatalogError, match="unknown quota family of aws: 'G'; known: G and VT"):
        catalog.check_limits(sold, FleetLimits(quotas=(Quota("q", 1, provider="aws", family="G"),)))
