"""What changed from one catalog to another: offers added and removed, and prices."""

from __future__ import annotations

from dataclasses import dataclass

from planner.catalog.catalog import Catalog
from planner.domain.offer import Offer

SAME_PRICE = 1e-4
"""Lists round differently, SkyPilot's each part of a sum: a hundredth of a per cent is no change."""


@dataclass(frozen=True, slots=True)
class PriceChange:
    """An offer that both have, at another price or date. ``share`` is -0.1 where it is 10 % cheaper."""

    before: Offer
    after: Offer

    @property
    def share(self) -> float:
        return self.after.usd_per_hour / self.before.usd_per_hour - 1.0


@dataclass(frozen=True, slots=True)
class CatalogDiff:
    """Offers in the order of their ids, price changes largest first.

    ``redated`` cost the same with another date or source. ``resized`` has one offer of each instance type
    whose device, vCPUs or memory differ, whatever became of its prices.
    """

    added: tuple[Offer, ...]
    removed: tuple[Offer, ...]
    changed: tuple[PriceChange, ...]
    redated: tuple[PriceChange, ...]
    resized: tuple[PriceChange, ...]
    unchanged: int


def diff(before: Catalog, after: Catalog) -> CatalogDiff:
    """What one has to do to ``before`` to get ``after``; an offer is the same where its id is."""
    old = {offer.id: offer for offer in before.offers}
    new = {offer.id: offer for offer in after.offers}
    both = [PriceChange(old[name], new[name]) for name in sorted(old.keys() & new.keys())]
    changed = [pair for pair in both if abs(pair.share) > SAME_PRICE]
    alike = [pair for pair in both if abs(pair.share) <= SAME_PRICE]
    redated = [pair for pair in alike if _dated(pair.before) != _dated(pair.after)]
    resized = {_type(pair.after): pair for pair in reversed(both) if _size(pair.before) != _size(pair.after)}
    return CatalogDiff(
        added=tuple(new[name] for name in sorted(new.keys() - old.keys())),
        removed=tuple(old[name] for name in sorted(old.keys() - new.keys())),
        changed=tuple(sorted(changed, key=lambda pair: (-abs(pair.share), pair.after.id))),
        redated=tuple(redated),
        resized=tuple(reversed(resized.values())),
        unchanged=len(alike) - len(redated),
    )


def _type(offer: Offer) -> tuple[str, str]:
    return offer.provider, offer.instance_type


def _dated(offer: Offer) -> tuple[str, str]:
    return offer.price_as_of, offer.price_source


def _size(offer: Offer) -> tuple[str, float, int, int | None]:
    return offer.device, offer.device_count, offer.vcpus, offer.memory_bytes
