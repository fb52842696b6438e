"""Which offers a plan may use, as plain functions."""

from __future__ import annotations

from planner.catalog.catalog import Catalog, nearest
from planner.catalog.tables import PURCHASES
from planner.domain.device import Device
from planner.domain.offer import RESERVED, Offer
from planner.domain.workload import FleetLimits
from planner.errors import CatalogError


def matches(offer: Offer, limits: FleetLimits) -> bool:
    """Whether the limits allow the offer's provider, region and purchase; empty limits allow all."""
    return (
        (not limits.providers or offer.provider in limits.providers)
        and (not limits.regions or offer.region in limits.regions)
        and (not limits.purchases or offer.purchase in limits.purchases)
        and (not limits.terms or offer.purchase != RESERVED or offer.term in limits.terms)
    )


def allowed_devices(catalog: Catalog, limits: FleetLimits) -> frozenset[str]:
    """The names of the devices on sale that ``only`` and ``without`` leave."""
    called = {device.name: _called(device) for device in catalog.devices}
    sold = {offer.device: called.get(offer.device, {offer.device}) for offer in catalog.offers}
    return frozenset(
        name
        for name, words in sold.items()
        if (not limits.only or words & set(limits.only)) and not words & set(limits.without)
    )


def _called(device: Device) -> set[str]:
    return {device.name, device.architecture, device.kind, device.vendor}


def select(catalog: Catalog, limits: FleetLimits) -> tuple[Offer, ...]:
    """The offers that the limits allow, cheapest first; CatalogError where they name what is unknown."""
    check_limits(catalog, limits)
    devices = allowed_devices(catalog, limits)
    allowed = (offer for offer in catalog.offers if offer.device in devices and matches(offer, limits))
    return tuple(sorted(allowed, key=lambda offer: (offer.usd_per_hour, offer.id)))


def offers_with(catalog: Catalog, device: str) -> tuple[Offer, ...]:
    """The offers of one device, cheapest first."""
    allowed = (offer for offer in catalog.offers if offer.device == device)
    return tuple(sorted(allowed, key=lambda offer: (offer.usd_per_hour, offer.id)))


def check_limits(catalog: Catalog, limits: FleetLimits) -> None:
    """Raises CatalogError for a provider, region or purchase that no offer has, naming the nearest.

    A region has to be one of the providers named, for they share no names.
    """
    providers = {offer.provider for offer in catalog.offers}
    _require("provider", limits.providers, providers)
    allowed = limits.providers or tuple(sorted(providers))
    regions = {offer.region for offer in catalog.offers if offer.provider in allowed}
    _require(f"region of {', '.join(allowed)}", limits.regions, regions)
    _require("purchase", limits.purchases, set(PURCHASES))
    called = {name for device in catalog.devices for name in _called(device)}
    _require("device, architecture or kind", (*limits.only, *limits.without), called)
    for quota in limits.quotas:
        if quota.family is not None:
            sold_by = {o.family for o in catalog.offers if o.family and quota.provider in (None, o.provider)}
            _require(
                f"quota family{f' of {quota.provider}' if quota.provider else ''}", (quota.family,), sold_by
            )
        if not any(quota.selects(offer) for offer in catalog.offers):
            raise CatalogError(
                f"quota {quota.name}: no offer is of what it names; check provider, region, instance types, "
                "family and device (planner catalog list shows them)"
            )


def _require(what: str, names: tuple[str, ...], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise CatalogError(f"unknown {what}: {name!r}{nearest(name, known)}")
