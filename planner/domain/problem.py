"""All that the solver sees, and what it answers. Plain numbers: no file, no engine, no graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from planner.domain.offer import RESERVED, Offer

EACH, TIME = "each", "time"
"""How the rates of a candidate's classes go together, see ``Candidate.mixing``."""

NO_LOSS, ANY_INSTANCE, ANY_ZONE = "none", "instance", "zone"
"""What a fleet has to survive, see ``Demand.redundancy``."""

USD, ENERGY, CARBON, ACCURACY, LATENCY = "usd", "energy", "carbon", "accuracy", "latency"
"""What is optimised, see ``Problem.objective``."""

INSTANCES, VCPUS, DEVICES, FAMILY_UNITS = "instances", "vcpus", "devices", "family_units"
"""What a ``Quota`` counts."""

GPU_SLICES = (7, 8)
"""Compute and memory slices of one GPU that MIG divides, see ``Candidate.slices``."""

MIX_TOLERANCE = 1e-9
"""Shares and sums of rates are compared with this relative tolerance."""


@dataclass(frozen=True, slots=True)
class Period:
    """A part of the time with rates of its own: the ``hours`` it takes of a day, a week, whatever repeats.

    Raises ValueError unless the hours are finite and above 0.
    """

    name: str
    hours: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.hours) and self.hours > 0):
            raise ValueError(f"period {self.name}: the hours must be finite and above 0, got {self.hours}")


@dataclass(frozen=True, slots=True)
class RequestClass:
    """Requests of one size: ``share`` is their part of the workload's rate, above 0."""

    name: str
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"class {self.name}: the share must be above 0 and at most 1, got {self.share}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a workload: a serving configuration on a device, with its capacity.

    ``capacity_rps`` is what one replica takes with headroom already set aside, as long as no more than
    ``side_by_side`` replicas of it, and nothing else, share an instance; beyond that it is
    ``packed_capacity_rps``, extrapolated with a stated derating and therefore never above
    ``capacity_rps`` (0: never run it unmeasured). ``threads`` and ``memory_bytes`` are what one replica
    occupies.

    ``classes``: the rate of each request class at full load; none: the workload's classes in their shares.
    With ``mixing`` "each" a replica takes up to every one of these rates at once, and they add up to
    ``capacity_rps``; with "time" loads add up (the rates over their classes' figures sum to at most 1) and
    ``capacity_rps`` is the largest of them. Packed, all of them shrink by the same factor.

    ``instances`` of the engine share the replica's queue, each of ``threads / instances`` threads;
    ``queue_delay_ns``: how long a request may wait for a fuller batch.

    ``slices``: compute and memory slices of a GPU divided by MIG; None: a replica takes a whole one. The
    slices on one GPU add up to at most ``GPU_SLICES``. ``quality``: the expected accuracy, higher is better;
    ``latency_ns``: what a request takes at full load. None: unknown.
    """

    id: str
    workload: str
    variant: str
    backend: str
    device: str
    threads: int
    max_batch_size: int
    memory_bytes: int
    capacity_rps: float
    side_by_side: int
    packed_capacity_rps: float
    classes: tuple[tuple[str, float], ...] = ()
    mixing: str = EACH
    slices: tuple[int, int] | None = None
    quality: float | None = None
    latency_ns: float | None = None
    queue_delay_ns: int = 0
    instances: int = 1


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something that cannot serve, at which ``stage`` it fell out, and why.

    Stages, in order: ``variant``, ``quality``, ``profile``, ``capacity``, ``fleet``.
    """

    stage: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Demand:
    """The rate at which requests of a workload arrive, and what is asked of the fleet for them.

    ``rates_rps``: one rate for each of the problem's periods, in their order, and ``rate_rps`` the largest of
    them; none: ``rate_rps`` throughout. ``classes``: their shares add up to 1; none: all requests are alike.
    ``min_mean_quality``: what the candidates' quality, weighted by the rates they get, must reach in every
    period. ``max_spot_share``: the part of the rate that spot instances may get. ``redundancy``: "instance"
    or "zone": with any one lost, the rest still takes the full rate (its mean quality and the share of spot
    are those of normal operation only).

    Raises ValueError unless the rates are finite and above 0 (0 in some of the periods is a rate).
    """

    workload: str
    rate_rps: float
    rates_rps: tuple[float, ...] = ()
    classes: tuple[RequestClass, ...] = ()
    min_mean_quality: float | None = None
    max_spot_share: float = 1.0
    redundancy: str = NO_LOSS

    def __post_init__(self) -> None:
        who = f"workload {self.workload}"
        if not (math.isfinite(self.rate_rps) and self.rate_rps > 0):
            raise ValueError(f"{who}: the rate must be finite and above 0 rps, got {self.rate_rps}")
        if any(not (math.isfinite(rate) and rate >= 0) for rate in self.rates_rps):
            raise ValueError(f"{who}: every period's rate must be finite and 0 rps or more")
        if self.rates_rps and max(self.rates_rps) != self.rate_rps:
            raise ValueError(
                f"{who}: rate_rps {self.rate_rps:g} is not the largest of its periods' rates, "
                f"{max(self.rates_rps):g}"
            )
        _all_different(f"class of workload {self.workload}", (c.name for c in self.classes))
        if self.classes and abs(sum(c.share for c in self.classes) - 1) > MIX_TOLERANCE:
            total = sum(c.share for c in self.classes)
            raise ValueError(f"{who}: the shares of its classes must add up to 1, got {total:g}")
        if self.min_mean_quality is not None and not math.isfinite(self.min_mean_quality):
            raise ValueError(f"{who}: min_mean_quality must be finite, got {self.min_mean_quality}")
        if not 0 <= self.max_spot_share <= 1:
            raise ValueError(f"{who}: max_spot_share must be from 0 to 1, got {self.max_spot_share}")
        _one_of(f"{who}: redundancy", self.redundancy, (NO_LOSS, ANY_INSTANCE, ANY_ZONE))

    def rate_in(self, period: int) -> float:
        """The rate in the problem's period of that index."""
        return self.rates_rps[period] if self.rates_rps else self.rate_rps


@dataclass(frozen=True, slots=True)
class OfferFigures:
    """What is known of an offer besides its price, for one running instance.

    ``availability``: the part of its capacity that is planned with (spot: the expected part of the time that
    it is not interrupted), above 0 and at most 1. ``power_w`` and ``carbon_g_per_hour``: None: unknown.
    """

    offer_id: str
    availability: float = 1.0
    power_w: float | None = None
    carbon_g_per_hour: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.availability <= 1:
            raise ValueError(
                f"{self.offer_id}: the availability must be above 0 and at most 1, got {self.availability}"
            )
        for name, value in (("power_w", self.power_w), ("carbon_g_per_hour", self.carbon_g_per_hour)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{self.offer_id}: {name} must be finite and 0 or more, got {value}")


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``at_most`` of a ``unit`` over all offers selected.

    ``unit``: "instances", "vcpus", "devices", or "family_units" (``Offer.family_units``, as the provider
    counts them). An offer is selected where it matches every field given; None and () mean any. A quota
    holds in every period; a commitment counts in all of them, used or not.
    """

    name: str
    at_most: float
    unit: str = INSTANCES
    provider: str | None = None
    region: str | None = None
    instance_types: tuple[str, ...] = ()
    family: str | None = None
    device: str | None = None
    purchase: str | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.at_most) and self.at_most >= 0):
            raise ValueError(f"quota {self.name}: at_most must be finite and 0 or more, got {self.at_most}")
        _one_of(f"quota {self.name}: unit", self.unit, (INSTANCES, VCPUS, DEVICES, FAMILY_UNITS))

    def selects(self, offer: Offer) -> bool:
        wanted = (self.provider, self.region, self.family, self.device, self.purchase)
        has = (offer.provider, offer.region, offer.family, offer.device, offer.purchase)
        return all(a is None or a == b for a, b in zip(wanted, has, strict=True)) and (
            not self.instance_types or offer.instance_type in self.instance_types
        )

    def counts(self, offer: Offer) -> float:
        """How much of the quota one instance of a selected offer takes."""
        return {
            INSTANCES: 1,
            VCPUS: offer.vcpus,
            DEVICES: offer.device_count,
            FAMILY_UNITS: offer.family_units,
        }[self.unit]


@dataclass(frozen=True, slots=True)
class Problem:
    """Demands, what may serve them, and the limits; None means no limit.

    ``periods``: none: one, that never ends. Instances of on-demand and spot offers are bought by period;
    those of a reserved offer once, and paid for in all periods. ``figures``: offers not
    named have an availability of 1 and unknown power and carbon.
    ``budget_usd_per_hour`` bounds the mean price over the periods; ``max_kinds`` the different instance types
    that are used at all (bought, where they are reserved); ``min_zones`` is the least number of zones with
    instances, in every period that has any demand (``zones_of`` tells where an offer's instances can be).

    ``objective``: "usd"; "energy" or "carbon": the least mean power or carbon per hour, unknown ones kept
    out; "accuracy" or "latency": the best mean quality or latency over all requests. Of equally good fleets
    always the cheapest. ``keep``: a present plan that is kept unless a better one saves more.

    Raises ValueError where two demands, candidates, offers, periods, quotas or figures share a name, where
    something named is missing, and where a limit makes no sense.
    """

    demands: tuple[Demand, ...]
    candidates: tuple[Candidate, ...]
    offers: tuple[Offer, ...]
    max_instances_per_offer: int | None = None
    periods: tuple[Period, ...] = ()
    figures: tuple[OfferFigures, ...] = ()
    quotas: tuple[Quota, ...] = ()
    budget_usd_per_hour: float | None = None
    max_kinds: int | None = None
    min_zones: int = 0
    objective: str = USD
    keep: Keep | None = None

    def __post_init__(self) -> None:
        if not self.demands:
            raise ValueError("a problem needs at least one demand")
        _all_different("demand", (demand.workload for demand in self.demands))
        _all_different("candidate", (candidate.id for candidate in self.candidates))
        _all_different("offer", (offer.id for offer in self.offers))
        _all_different("period", (period.name for period in self.periods))
        _all_different("quota", (quota.name for quota in self.quotas))
        _all_different("offer's figures", (figures.offer_id for figures in self.figures))
        if self.max_instances_per_offer is not None and self.max_instances_per_offer < 1:
            raise ValueError(
                f"the limit of instances per offer must be 1 or more, got {self.max_instances_per_offer}"
            )
        if self.max_kinds is not None and self.max_kinds < 1:
            raise ValueError(f"max_kinds must be 1 or more, got {self.max_kinds}")
        if self.min_zones < 0:
            raise ValueError(f"min_zones must be 0 or more, got {self.min_zones}")
        budget = self.budget_usd_per_hour
        if budget is not None and not (math.isfinite(budget) and budget > 0):
            raise ValueError(f"budget_usd_per_hour must be finite and above 0, got {budget}")
        _one_of("objective", self.objective, (USD, ENERGY, CARBON, ACCURACY, LATENCY))
        known = {offer.id for offer in self.offers}
        for figures in self.figures:
            if figures.offer_id not in known:
                raise ValueError(f"figures are given for {figures.offer_id}, which is not among the offers")
        for demand in self.demands:
            if demand.rates_rps and len(demand.rates_rps) != max(1, len(self.periods)):
                raise ValueError(
                    f"workload {demand.workload}: {len(demand.rates_rps)} rates for "
                    f"{max(1, len(self.periods))} periods"
                )
        _check_classes(self)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What one instance of an offer runs: how many replicas of which candidates.

    ``extrapolated``: more replicas share the instance than were measured side by side, or different ones;
    each then takes its candidate's ``packed_capacity_rps``.
    """

    offer_id: str
    replicas: tuple[tuple[str, int], ...]
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """``instances`` of one pattern in one period, and the rate that its candidates get over all of them.

    ``usd_per_hour`` is the price of all these instances together. ``period`` is "" where the problem names
    none, ``zone`` where nothing asks for a certain one. ``class_flow_rps``: (candidate id, class, rate) of
    workloads that have classes.
    """

    pattern: Pattern
    instances: int
    flow_rps: tuple[tuple[str, float], ...]
    usd_per_hour: float
    period: str = ""
    zone: str = ""
    class_flow_rps: tuple[tuple[str, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Commitment:
    """``instances`` of a reserved offer, paid for all the time, used or not."""

    offer_id: str
    instances: int
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Keep:
    """The present plan, left only for one that is better by more than ``least_saving`` (a share of it).

    Raises ValueError unless the share is from 0 to 1.
    """

    placements: tuple[Placement, ...]
    least_saving: float

    def __post_init__(self) -> None:
        if not 0 <= self.least_saving <= 1:
            raise ValueError(f"the least saving must be from 0 to 1, got {self.least_saving}")


@dataclass(frozen=True, slots=True)
class Solution:
    """``proven`` where the gap is closed; otherwise the best found within the time limit.

    ``bound_usd_per_hour`` is the solver's lower bound on the cost, ``gap`` the share of the cost between.
    Over several periods, costs are means weighted by their hours.

    Where the objective is another, ``amount`` and ``amount_bound`` are in its unit (mean W, g of CO2 per
    hour, mean quality, mean ns), the gap is theirs, and ``bound_usd_per_hour`` is that on the cost of a fleet
    with this amount. ``kept``: these are the present plan's placements: a better plan exists within the
    bound, and saves no more than asked for.
    """

    placements: tuple[Placement, ...]
    usd_per_hour: float
    bound_usd_per_hour: float
    gap: float
    proven: bool
    solve_seconds: float
    solver: str
    notes: tuple[str, ...] = field(default=())
    commitments: tuple[Commitment, ...] = ()
    objective: str = USD
    amount: float | None = None
    amount_bound: float | None = None
    kept: bool = False


def zones_of(offer: Offer) -> tuple[str, ...]:
    """Where instances of the offer can be, each a place that fails as one.

    Without known zones that is the whole region: that two of its instances fail apart is not known.
    """
    return tuple(f"{offer.provider}/{zone}" for zone in sorted(offer.zones) or (offer.region,))


def is_commitment(offer: Offer) -> bool:
    """Whether instances of the offer are bought once for all periods."""
    return offer.purchase == RESERVED


def _check_classes(problem: Problem) -> None:
    classes_of = {d.workload: {c.name for c in d.classes} for d in problem.demands}
    for candidate in problem.candidates:
        who = f"candidate {candidate.id}"
        _one_of(f"{who}: mixing", candidate.mixing, (EACH, TIME))
        if candidate.slices is not None and not all(
            1 <= part <= whole for part, whole in zip(candidate.slices, GPU_SLICES, strict=True)
        ):
            raise ValueError(
                f"{who}: slices must be from (1, 1) to {GPU_SLICES}, got {candidate.slices}; "
                "leave them out for a whole GPU"
            )
        for name, value in (("quality", candidate.quality), ("latency_ns", candidate.latency_ns)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{who}: {name} must be finite, got {value}")
        if not candidate.classes:
            continue
        _all_different(f"class of {who}", (name for name, _ in candidate.classes))
        for name, rate in candidate.classes:
            if name not in classes_of.get(candidate.workload, {name}):
                raise ValueError(f"{who}: workload {candidate.workload} has no class {name}")
            if not rate >= 0:
                raise ValueError(f"{who}: the rate of class {name} must be 0 or more, got {rate}")
        rates = [rate for _, rate in candidate.classes]
        total, how = (sum(rates), "sum") if candidate.mixing == EACH else (max(rates), "largest")
        if not math.isclose(total, candidate.capacity_rps, rel_tol=MIX_TOLERANCE):
            raise ValueError(
                f"{who}: capacity_rps {candidate.capacity_rps:g} is not the {how} of its classes' rates, "
                f"{total:g}"
            )


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {value}")


def _all_different(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two of the problem's {kind}s are called {name}")
        seen.add(name)
