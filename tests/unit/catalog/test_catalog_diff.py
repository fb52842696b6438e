"""What changed between two catalogs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.catalog import Catalog, diff
from planner.domain.offer import Offer

OFFER = Offer("aws", "g5.xlarge", "us-east-1", "A10G", 1, 4, 16 << 30, "on-demand", 1.0, "old", "2026-07-20")


def catalog(*offers: Offer) -> Catalog:
    return Catalog((), offers, (), "")


def test_nothing() -> None:
    found = diff(catalog(OFFER), catalog(OFFER))
    assert (found.added, found.removed, found.changed, found.redated, found.resized) == ((), (), (), (), ())
    assert found.unchanged == 1


def test_added_and_removed() -> None:
    other = replace(OFFER, region="us-west-2")
    assert diff(catalog(OFFER), catalog(OFFER, other)).added == (other,)
    assert diff(catalog(OFFER, other), catalog(OFFER)).removed == (other,)


def test_terms_are_offers_of_their_own() -> None:
    short = replace(OFFER, purchase="reserved", term="1yr", usd_per_hour=0.7)
    long = replace(short, term="3yr", usd_per_hour=0.5)
    assert diff(catalog(short), catalog(short, long)).added == (long,)


def test_prices_largest_change_first() -> None:
    names = ("a", "b", "c")
    before = [replace(OFFER, instance_type=name) for name in names]
    after = [replace(o, usd_per_hour=p) for o, p in zip(before, (1.1, 0.5, 1.2), strict=True)]
    found = diff(catalog(*before), catalog(*after))
    assert [pair.after.instance_type for pair in found.changed] == ["b", "c", "a"]
    assert [pair.share for pair in found.changed] == pytest.approx([-0.5, 0.2, 0.1])


def test_rounding_is_no_change_but_another_date_is_told() -> None:
    rounded = replace(OFFER, usd_per_hour=1.00001, price_as_of="2026-11-01")
    found = diff(catalog(OFFER), catalog(rounded))
    assert found.changed == ()
    assert [pair.after for pair in found.redated] == [rounded]
    assert found.unchanged == 0


def test_another_size_is_told_once_a_type() -> None:
    regions = [replace(OFFER, region=region) for region in ("a", "b", "c")]
    after = [replace(offer, memory_bytes=None) for offer in regions]
    found = diff(catalog(*regions), catalog(*after))
    assert [(pair.before, pair.after) for pair in found.resized] == [(regions[0], after[0])]
    assert found.unchanged == 3
