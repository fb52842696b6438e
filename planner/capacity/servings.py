"""Profiles and a workload to candidates: what one replica of each serving configuration can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from planner.capacity.intervals import CapacityInterval, capacity_interval
from planner.capacity.search import Capacity, capacity
from planner.domain.plan import Serving
from planner.domain.problem import Candidate, Rejection
from planner.domain.profile import Configuration, Profile
from planner.domain.workload import Slo, Workload
from planner.units import format_ms

Service = dict[int, tuple[int, ...]]
Slices = tuple[int, int]


def servings(
    workload: Workload,
    profiles: Iterable[Profile],
    packing_derating: float,
    device: str,
    among: str = "",
    quality: Callable[[str], float | None] = lambda variant: None,
) -> tuple[list[Serving], list[Rejection]]:
    """A candidate for each variant, thread count and largest batch size that was measured in full.

    ``packing_derating`` stretches the service times where more replicas share an instance than were
    measured side by side. ``device`` is what the candidates are priced as. What holds the SLO at no rate is
    a rejection. ``among`` and ``quality`` as for ``serving``, the latter by variant.
    """
    accepted, rejected = [], []
    for group in _groups(profiles):
        for count in range(1, len(group) + 1):
            made = serving(
                workload,
                tuple(group[:count]),
                packing_derating,
                device,
                among=among,
                quality=quality(group[0].configuration.variant),
            )
            if made.capacity_rps > 0:
                accepted.append(made)
            else:
                rejected.append(cannot_serve(made, workload))
    return accepted, rejected


def candidate_id(largest: Configuration, device: str, slices: Slices | None = None, among: str = "") -> str:
    """What a candidate is called, by its largest batch size and what it is priced as, or its slice."""
    where = device if slices is None else largest.device
    name = f"{largest.variant}/{largest.backend}/{where}/t{largest.threads}/b{largest.batch_size}"
    return f"{among}/{name}" if among else name


def service_times(profiles: Iterable[Profile], stretch: float = 1.0) -> Service:
    """Service times by batch size, measured or imported, each multiplied by ``stretch``."""
    return {
        p.configuration.batch_size: p.service_ns
        if stretch == 1.0
        else tuple(round(ns * stretch) for ns in p.service_ns)
        for p in profiles
    }


def _groups(profiles: Iterable[Profile]) -> list[list[Profile]]:
    """Profiles that differ in batch size only, each group ascending."""
    groups: dict[tuple[str | int, ...], list[Profile]] = {}
    for profile in profiles:
        c = profile.configuration
        key = (
            c.variant_sha256,
            c.variant,
            c.device,
            c.backend,
            c.threads,
            c.replicas,
            profile.environment.id,
        )
        groups.setdefault(key, []).append(profile)
    return [sorted(group, key=lambda p: p.configuration.batch_size) for group in groups.values()]


def serving(
    workload: Workload,
    profiles: tuple[Profile, ...],
    packing_derating: float,
    device: str,
    slices: Slices | None = None,
    among: str = "",
    quality: float | None = None,
) -> Serving:
    """One replica of the largest batch size among ``profiles`` (one for each size up to it, ascending).

    ``slices``: compute and memory slices of ``device`` that it takes, where that is divided by MIG.
    ``among``: the workload's name, where there are others. ``quality``: what it counts in a mean over all
    requests.

    The candidate takes the lower end of the capacity's interval, less the headroom; its capacity where
    replicas are packed is lowered in the same proportion.
    """
    largest = profiles[-1].configuration
    slo = workload.slo
    measured = _capacity(profiles, workload, 1.0)
    packed = _capacity(profiles, workload, 1.0 + packing_derating)
    ends = _interval(profiles, measured.rate_rps, slo)
    certain = ends.low_rps / measured.rate_rps if measured.rate_rps > 0 else 0.0
    usable = certain * (1.0 - slo.headroom)
    candidate = Candidate(
        id=candidate_id(largest, device, slices, among),
        workload=workload.name,
        variant=largest.variant,
        backend=largest.backend,
        device=device,
        threads=largest.threads,
        max_batch_size=largest.batch_size,
        memory_bytes=max(p.memory_bytes for p in profiles),
        capacity_rps=measured.rate_rps * usable,
        side_by_side=largest.replicas,
        packed_capacity_rps=packed.rate_rps * usable,
        slices=slices,
        quality=quality,
        latency_ns=measured.sojourn_percentile_ns if measured.rate_rps > 0 else None,
    )
    return Serving(
        candidate=candidate,
        capacity_rps=measured.rate_rps,
        capacity_low_rps=ends.low_rps,
        capacity_high_rps=ends.high_rps,
        packed_capacity_rps=packed.rate_rps,
        sojourn_ns=measured.sojourn_percentile_ns,
        utilisation=measured.utilisation,
        mean_batch_size=measured.mean_batch_size,
        truncated_mass=measured.truncated_mass,
        lattice_step_ns=measured.lattice_step_ns,
        profiles=profiles,
    )


def _interval(profiles: tuple[Profile, ...], rate_rps: float, slo: Slo) -> CapacityInterval:
    """Of published percentiles the capacity is a lower bound already: there are no samples to doubt."""
    if all(profile.published for profile in profiles):
        return CapacityInterval(rate_rps, rate_rps, rate_rps)
    largest = profiles[-1].configuration.batch_size
    return capacity_interval(service_times(profiles), largest, slo.percentile, slo.budget_ns)


def _capacity(profiles: tuple[Profile, ...], workload: Workload, stretch: float) -> Capacity:
    slo = workload.slo
    largest = profiles[-1].configuration.batch_size
    return capacity(service_times(profiles, stretch), largest, slo.percentile, slo.budget_ns)


def cannot_serve(serving: Serving, workload: Workload) -> Rejection:
    """Why a serving with a capacity of 0 is none."""
    slo = workload.slo
    # The first batch is the smallest there is: an idle replica serves every request with it.
    alone = serving.profiles[0].percentile_ns(slo.percentile)
    return Rejection(
        "capacity",
        serving.candidate.id,
        f"holds the SLO at no rate: p{slo.percentile:g} of an unloaded replica is {format_ms(alone)}, "
        f"the budget {format_ms(slo.budget_ns)}",
    )
