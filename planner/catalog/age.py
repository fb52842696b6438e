"""Prices grow old: which of the offers used are too old to trust without a look at today's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from planner.domain.offer import Offer

MAX_AGE_DAYS = 90
_NAMED = 3


def stale(offers: Iterable[Offer], today: date, max_age_days: int = MAX_AGE_DAYS) -> tuple[str, ...]:
    """One note for each source and date of prices older than ``max_age_days``, oldest first.

    A price dated in the future is not old. Each note names the offers (the first few), the date, the age
    and the source, and what to do.
    """
    old: dict[tuple[str, str], dict[str, None]] = {}
    for offer in offers:
        if age_days(offer, today) > max_age_days:
            old.setdefault((offer.price_as_of, offer.price_source), {})[offer.id] = None
    return tuple(_note(as_of, source, list(ids), today) for (as_of, source), ids in sorted(old.items()))


def age_days(offer: Offer, today: date) -> int:
    return (today - date.fromisoformat(offer.price_as_of)).days


def _note(as_of: str, source: str, ids: list[str], today: date) -> str:
    named = ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
    days = (today - date.fromisoformat(as_of)).days
    return (
        f"Old price: {named} is of {as_of}, {days} days ago ({source}); check it, and lay newer prices over "
        "it with `planner catalog import` or your own folder (fleet.catalog)."
    )
