"""What a fleet is asked for, and the problem that it makes with what may serve it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from planner.catalog import Catalog, allowed_devices, matches
from planner.domain.offer import SPOT, Offer
from planner.domain.problem import USD, Candidate, Demand, OfferFigures, Period, Problem
from planner.domain.quality import Quality
from planner.domain.workload import FleetLimits, Workload
from planner.spec import Fleet
from planner.units import WATTS_PER_KILOWATT


@dataclass(frozen=True, slots=True)
class Asked:
    """The workloads and the limits of a fleet. ``power_w``: by device, what one of it draws at most."""

    workloads: tuple[Workload, ...]
    limits: FleetLimits
    periods: tuple[Period, ...] = ()
    objective: str = USD
    power_w: Mapping[str, float] = field(default_factory=dict)

    def problem(self, candidates: Iterable[Candidate], offers: Iterable[Offer]) -> Problem:
        """What the solver sees: of the offers those with a device that a candidate is for."""
        kept = tuple(candidates)
        devices = {candidate.device for candidate in kept}
        sold = tuple(offer for offer in offers if offer.device in devices)
        limits = self.limits
        return Problem(
            demands=tuple(self._demand(workload) for workload in self.workloads),
            candidates=kept,
            offers=sold,
            max_instances_per_offer=limits.max_instances_per_offer,
            periods=self.periods,
            figures=tuple(self._figures(offer) for offer in sold),
            quotas=limits.quotas,
            budget_usd_per_hour=limits.budget_usd_per_hour,
            max_kinds=limits.max_kinds,
            min_zones=limits.min_zones,
            objective=self.objective,
        )

    def _demand(self, workload: Workload) -> Demand:
        return Demand(
            workload.name,
            workload.rate_rps,
            rates_rps=workload.rates_rps,
            classes=workload.classes,
            min_mean_quality=0.0 if workload.floor_on_average else None,
            max_spot_share=workload.max_spot_share,
            redundancy=workload.redundancy,
        )

    def _figures(self, offer: Offer) -> OfferFigures:
        """Power is that of the accelerators alone, at their limit; of CPUs no source gives it."""
        each = self.power_w.get(offer.device)
        power = each * offer.device_count if each is not None and offer.device_count else None
        grams = offer.grams_co2_per_kwh
        return OfferFigures(
            offer.id,
            availability=self.limits.spot_availability if offer.purchase == SPOT else 1.0,
            power_w=power,
            carbon_g_per_hour=None if power is None or grams is None else power / WATTS_PER_KILOWATT * grams,
        )


def asked_of(fleet: Fleet, catalog: Catalog) -> Asked:
    return Asked(
        workloads=tuple(spec.workload for spec in fleet.services),
        limits=fleet.limits,
        periods=fleet.periods,
        objective=fleet.objective,
        power_w={device.name: device.tdp_w for device in catalog.devices if device.tdp_w is not None},
    )


def counts_as(workload: Workload, quality: Quality) -> float:
    """What a variant contributes to the mean over all requests: by how much it is better than the floor.

    The mean of it is 0 or more exactly where the mean over all requests holds the floor.
    """
    return -workload.floor.shortfall(quality)


def offers_within(catalog: Catalog, limits: FleetLimits) -> tuple[Offer, ...]:
    """Those that the limits allow, in the catalog's order."""
    devices = allowed_devices(catalog, limits)
    return tuple(o for o in catalog.offers if o.device in devices and matches(o, limits))
