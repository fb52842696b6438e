"""Which prices are too old to trust, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from planner.catalog import age_days, stale
from planner.domain.offer import Offer

TODAY = date(2026, 11, 22)
OFFER = Offer("aws", "g5.xlarge", "us-east-1", "A10G", 1, 4, None, "on-demand", 1.0, "a list", "2026-11-22")


def aged(days: int, instance_type: str = "g5.xlarge", source: str = "a list") -> Offer:
    as_of = (TODAY - timedelta(days=days)).isoformat()
    return replace(OFFER, instance_type=instance_type, price_as_of=as_of, price_source=source)


@pytest.mark.parametrize(("days", "old"), [(0, False), (90, False), (91, True), (935, True), (-5, False)])
def test_older_than_90_days(days: int, old: bool) -> None:
    assert age_days(aged(days), TODAY) == days
    assert bool(stale([aged(days)], TODAY)) is old


def test_the_note_says_which_offer_when_where_from_and_what_to_do() -> None:
    (note,) = stale([aged(125)], TODAY)
    assert note.startswith(
        "Old price: aws/g5.xlarge/us-east-1/on-demand is of 2026-07-20, 125 days ago (a list)"
    )
    assert "planner catalog import" in note
    assert "fleet.catalog" in note


def test_one_note_for_each_source_and_date_oldest_first() -> None:
    offers = [aged(100, f"g5.{n}xlarge") for n in range(5)] + [
        aged(400),
        aged(100, source="another"),
        aged(10),
    ]
    notes = stale([*offers, offers[0]], TODAY)
    assert len(notes) == 3
    assert "400 days" in notes[0]
    assert "another" in notes[1] or "another" in notes[2]
    assert sum("g5.0xlarge" in note and "and 2 more" in note for note in notes) == 1


def test_another_limit() -> None:
    assert stale([aged(91)], TODAY, max_age_days=91) == ()
