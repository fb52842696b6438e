"""Profiles and a workload to candidates: what one replica of each serving configuration can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from planner.capacity.classes import (
    Taken,
    best_of_classes,
    classes_certainty,
    classes_replica,
    packed_classes,
    subsets,
)
from planner.capacity.service import ServiceLaws, service_laws
from planner.capacity.simulated import unloaded_percentile_ns
from planner.capacity.simulation import Replica
from planner.domain.plan import Serving
from planner.domain.problem import Candidate, Rejection
from planner.domain.profile import Configuration, Profile
from planner.domain.workload import Workload
from planner.units import NS_PER_MS, format_ms

Service = dict[int, tuple[int, ...]]
Slices = tuple[int, int]
ByClass = Mapping[str, tuple[Profile, ...]]
"""Profiles of each class, from the smallest class to the largest; "" where all requests are alike."""


def servings(
    workload: Workload,
    profiles: Iterable[Profile],
    packing_derating: float,
    device: str,
    among: str = "",
    quality: Callable[[str], float | None] = lambda variant: None,
    side_by_side: bool = True,
    class_of: Callable[[Profile], str] = lambda profile: "",
) -> tuple[list[Serving], list[Rejection]]:
    """A candidate for each variant, thread count, number of instances, largest batch size that was measured
    in full, and set of the workload's classes.

    ``packing_derating`` stretches the service times where more replicas share an instance than were
    measured side by side. ``device`` is what the candidates are priced as. What holds the SLO at no rate is
    a rejection. ``among`` and ``quality`` as for ``serving``, the latter by variant. ``side_by_side`` as for
    ``instances_of``; ``class_of``: the class whose requests a profile is of, "" where all are alike.
    """
    accepted, rejected = [], []
    for group in _groups(profiles):
        first = group[0].configuration
        by_class = {name: tuple(p for p in group if class_of(p) == name) for name in _class_names(workload)}
        asked = [
            (instances, served)
            for instances in instances_of(first, workload, side_by_side)
            for classes in subsets([name for name, found in by_class.items() if found])
            for served in _prefixes({name: by_class[name] for name in classes})
        ]
        for instances, served in asked:
            made = serving(
                workload,
                served,
                packing_derating,
                device,
                among=among,
                quality=quality(first.variant),
                instances=instances,
            )
            if made.capacity_rps > 0:
                accepted.append(made)
            elif len(served) == 1:
                rejected.append(cannot_serve(made, workload))
    return accepted, rejected


def _class_names(workload: Workload) -> tuple[str, ...]:
    return tuple(c.name for c in workload.classes) or ("",)


def _prefixes(by_class: ByClass) -> Iterator[ByClass]:
    """The profiles up to each batch size that all classes have, ascending."""
    sizes = [{p.configuration.batch_size for p in profiles} for profiles in by_class.values()]
    for size in sorted(set.intersection(*sizes)):
        yield {
            name: tuple(p for p in profiles if p.configuration.batch_size <= size)
            for name, profiles in by_class.items()
        }


def instances_of(configuration: Configuration, workload: Workload, side_by_side: bool) -> tuple[int, ...]:
    """How many instances of an engine may share a queue, of those that the workload lets be considered.

    ``side_by_side``: what ran at once while it was measured are replicas on a machine's cores, any part of
    which may be one replica's instances; otherwise they shared one device, as they do when they serve.
    """
    ran = configuration.replicas
    asked = sorted(set(workload.batching.instances))
    return tuple(k for k in asked if (k <= ran if side_by_side else k == ran))


def no_instances(configuration: Configuration, workload: Workload) -> str:
    """Why ``instances_of`` a configuration are none."""
    asked = ", ".join(str(k) for k in sorted(set(workload.batching.instances)))
    ran = configuration.replicas
    return f"{ran} ran side by side while it was measured, batching.instances asks for {asked}"


def candidate_id(
    largest: Configuration,
    device: str,
    slices: Slices | None = None,
    among: str = "",
    instances: int = 1,
    queue_delay_ns: int = 0,
    classes: Iterable[str] = (),
) -> str:
    """What a candidate is called, by its largest batch size and what it is priced as, or its slice; by the
    classes it serves; and by its instances and queue delay, where it has several, or any."""
    where = device if slices is None else largest.device
    name = f"{largest.variant}/{largest.backend}/{where}/t{largest.threads}/b{largest.batch_size}"
    if served := "+".join(classes):
        name += f"/{served}"
    if instances > 1:
        name += f"/i{instances}"
    if queue_delay_ns:
        name += f"/d{queue_delay_ns / NS_PER_MS:g}ms"
    return f"{among}/{name}" if among else name


def replica_of(
    serving: Serving, workload: Workload, stretch: float = 1.0, rates: Mapping[str, float] | None = None
) -> Replica:
    """What serves, with service times ``stretch`` times as long; its classes at these ``rates``, or (None) in
    their shares."""
    return replica_by_class(serving.candidate, _by_class(serving), workload, stretch, rates)


def replica_by_class(
    candidate: Candidate,
    by_class: ByClass,
    workload: Workload,
    stretch: float = 1.0,
    rates: Mapping[str, float] | None = None,
) -> Replica:
    """``replica_of`` a candidate with these profiles."""
    laws = [of_class.stretched(stretch) for of_class in _laws(by_class)]
    parts = workload.shares(by_class) if rates is None else [rates.get(name, 0.0) for name in by_class]
    if sum(parts) <= 0 or len(laws) == 1:
        parts = workload.shares(by_class)
    return classes_replica(laws, parts, candidate.instances, candidate.queue_delay_ns, workload)


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
    profiles: tuple[Profile, ...] | ByClass,
    packing_derating: float,
    device: str,
    slices: Slices | None = None,
    among: str = "",
    quality: float | None = None,
    instances: int = 1,
) -> Serving:
    """One replica of the largest batch size among ``profiles`` (one for each size up to it, ascending).

    Where the workload has classes, ``profiles`` are those of each class that it serves, from the smallest
    class to the largest, all up to the same batch size.
    ``slices``: compute and memory slices of ``device`` that it takes, where that is divided by MIG.
    ``among``: the workload's name, where there are others. ``quality``: what it counts in a mean over all
    requests. ``instances`` share its queue; of the workload's queue delays it has the best.

    The candidate takes the lower end of the capacity's interval, less the headroom; its capacity where
    replicas are packed is lowered in the same proportion.
    """
    by_class = profiles if isinstance(profiles, Mapping) else {"": profiles}
    every = tuple(profile for of_class in by_class.values() for profile in of_class)
    largest = every[-1].configuration
    classes = tuple(name for name in by_class if name)
    laws, shares = _laws(by_class), workload.shares(by_class)
    taken = best_of_classes(laws, shares, instances, workload)
    crowded = packed_classes(taken, laws, shares, workload, 1.0 + packing_derating).analysis
    replica, measured = taken.replica, taken.analysis
    low, high = _sampled(by_class, taken, workload)
    capacity_rps = measured.low_rps * low * (1.0 - workload.slo.headroom)
    candidate = Candidate(
        id=candidate_id(largest, device, slices, among, instances, replica.queue_delay_ns, classes),
        workload=workload.name,
        variant=largest.variant,
        backend=largest.backend,
        device=device,
        threads=largest.threads * instances,
        max_batch_size=largest.batch_size,
        memory_bytes=_memory_bytes(every) * instances,
        capacity_rps=capacity_rps,
        side_by_side=max(largest.replicas // instances, 1),
        packed_capacity_rps=crowded.low_rps * low * (1.0 - workload.slo.headroom),
        classes=tuple((name, part * capacity_rps) for name, part in zip(classes, taken.parts, strict=False)),
        mixing=taken.mixing,
        slices=slices,
        quality=quality,
        latency_ns=measured.sojourn_ns if measured.rate_rps > 0 else None,
        queue_delay_ns=replica.queue_delay_ns,
        instances=instances,
    )
    return Serving(
        candidate=candidate,
        capacity_rps=measured.rate_rps,
        capacity_low_rps=measured.low_rps * low,
        capacity_high_rps=measured.high_rps * high,
        packed_capacity_rps=crowded.rate_rps,
        sojourn_ns=measured.sojourn_ns,
        utilisation=measured.utilisation,
        mean_batch_size=measured.mean_batch_size,
        truncated_mass=measured.truncated_mass,
        lattice_step_ns=measured.lattice_step_ns,
        profiles=every,
        profile_classes=tuple(name for name, of_class in by_class.items() for _ in of_class if name),
    )


def _by_class(serving: Serving) -> ByClass:
    """The profiles of each class that it serves, from the smallest class to the largest."""
    if not serving.profile_classes:
        return {"": serving.profiles}
    pairs = tuple(zip(serving.profile_classes, serving.profiles, strict=True))
    names = dict.fromkeys(serving.profile_classes)
    return {name: tuple(p for of_class, p in pairs if of_class == name) for name in names}


def _laws(by_class: ByClass) -> list[ServiceLaws]:
    return [
        service_laws(service_times(profiles), profiles[-1].configuration.batch_size)
        for profiles in by_class.values()
    ]


def _memory_bytes(profiles: Iterable[Profile]) -> int:
    """Of one engine the most that any profile tells; engines of their own for each class add up."""
    most: dict[str, int] = {}
    for p in profiles:
        most[p.engine_sha256] = max(most.get(p.engine_sha256, 0), p.memory_bytes)
    return sum(most.values())


def _sampled(by_class: ByClass, taken: Taken, workload: Workload) -> tuple[float, float]:
    """What the capacity may be by chance of the samples, both ends as shares of it.

    Of published percentiles it is a lower bound already: there are no samples to doubt.
    """
    if all(profile.published for profiles in by_class.values() for profile in profiles):
        return 1.0, 1.0
    times = [service_times(profiles) for profiles in by_class.values()]
    largest = taken.replica.laws.max_batch_size
    return classes_certainty(times, workload.shares(by_class), largest, workload, taken)


def cannot_serve(serving: Serving, workload: Workload) -> Rejection:
    """Why a serving with a capacity of 0 is none."""
    slo = workload.slo
    # The first batch is the smallest there is: an idle replica serves every request with it.
    alone = unloaded_percentile_ns(replica_of(serving, workload), slo.percentile)
    return Rejection(
        "capacity",
        serving.candidate.id,
        f"holds the SLO at no rate: p{slo.percentile:g} of an unloaded replica is {format_ms(alone)}, "
        f"the budget {format_ms(slo.budget_ns)}",
    )
