"""A plan's fleet as the Triton servers that run it.

One server is what one process of Triton holds. An instance runs one server, with these exceptions:

- a MIG slice is a server of its own, since a CUDA process sees one slice only;
- two configurations of one workload are two servers, since clients call a model by its workload's name.

Source: NVIDIA's MIG user guide, *CUDA Device Enumeration*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from planner.report.plan_json import CandidatePart, OfferPart, PlacementPart, PlanReport, TrafficPart

SPOT = "spot"
HTTP_PORT = 8000
"""Triton's own choice."""
MODELS = "/models"
"""Where a server finds its repository."""
READY = "/v2/health/ready"
STARTS_WITHIN_S = 1800
"""Nodes pull an image of 10 GB and load engines."""
_LONGEST_NAME = 50
"""Kubernetes takes 63 characters for a label's value, and appends its own to names."""


@dataclass(frozen=True, slots=True)
class Served:
    """A workload's model on one server: ``replicas`` of a candidate, on the GPUs of these indices."""

    model: str
    """What clients call it: the workload's name, as far as file names allow."""
    candidate: CandidatePart
    replicas: int
    gpus: tuple[int, ...]
    rates_rps: tuple[tuple[str, float], ...]
    """What one server is planned to get, by period."""

    @property
    def instances(self) -> int:
        """Engine instances of all replicas together."""
        return self.replicas * self.candidate.instances

    @property
    def takes_rps(self) -> float:
        """What the replicas of one server are planned to stand, before headroom."""
        return self.replicas * self.candidate.packed_capacity_rps


@dataclass(frozen=True, slots=True)
class Server:
    """``counts``: how many of it run, by period (one, called "", where the plan has none)."""

    name: str
    offer: OfferPart
    zone: str
    """Without the provider; empty where any of the region will do."""
    mig: str
    """The MIG profile that it runs on, such as ``1g.5gb``; empty: whole GPUs, or none."""
    served: tuple[Served, ...]
    per_instance: int
    on_instance: int
    """Servers on one instance, those of other kinds included."""
    counts: tuple[tuple[str, int], ...]
    redundant: bool
    """Whether the plan survives the loss of an instance or a zone."""

    @property
    def most(self) -> int:
        return max(count for _, count in self.counts)

    @property
    def least(self) -> int:
        return min(count for _, count in self.counts)

    @property
    def always(self) -> int:
        """How many run in every period; one where the plan has none in some: an autoscaler keeps one."""
        return max(self.least, 1)

    @property
    def scaled(self) -> bool:
        """Whether their number changes with the period, as far as traffic tells."""
        return self.most > self.always and any(self.rate_to_scale_at(served) > 0 for served in self.served)

    @property
    def gpus(self) -> int:
        """Whole GPUs, or slices."""
        return sum(len(served.gpus) for served in self.served)

    @property
    def cluster(self) -> str:
        """What one Kubernetes cluster can hold: the instances of a provider in a region."""
        return dns_name(f"{self.offer.provider}-{self.offer.region}")

    @property
    def spot(self) -> bool:
        return self.offer.purchase == SPOT

    def rate_to_scale_at(self, served: Served) -> float:
        """Requests per second of one server from which one more is started.

        The lowest that is planned in a period with more servers than the fewest: at it no period gets fewer
        than planned, what is spare for a loss included.
        """
        counts = dict(self.counts)
        rates = [rate for period, rate in served.rates_rps if counts[period] > self.least and rate > 0]
        return min(rates, default=max((rate for _, rate in served.rates_rps), default=0.0))


def servers(report: PlanReport) -> tuple[Server, ...]:
    """The servers of the plan's fleet, in its order; those of one pattern are one over all periods."""
    candidates = {candidate.id: candidate for candidate in report.candidates}
    offers = {offer.id: offer for offer in report.offers}
    periods = [period.name for period in report.periods] or [""]
    models = model_names(report)
    secured = {workload.name for workload in report.workloads if workload.redundancy != "none"}
    found: list[Server] = []
    for placements in _by_pattern(report.fleet.placements):
        offer, traffic = offers[placements[0].offer_id], placements[0].traffic
        instances = {placement.period: placement.instances for placement in placements}
        processes = _processes(traffic, candidates)
        copies = [_copies(part, candidates) for part in processes]
        for part, per_instance in zip(processes, copies, strict=True):
            mig = _mig(candidates[part[0].candidate_id])
            found.append(
                Server(
                    name=_base_name(offer, _zone(placements[0], offer), mig),
                    offer=offer,
                    zone=_zone(placements[0], offer),
                    mig=mig,
                    served=_served(part, placements, candidates, models, offer, bool(mig)),
                    per_instance=per_instance,
                    on_instance=sum(copies),
                    counts=tuple((name, instances.get(name, 0) * per_instance) for name in periods),
                    redundant=any(candidates[t.candidate_id].workload in secured for t in part),
                )
            )
    names = distinct(server.name for server in found)
    return tuple(replace(server, name=name) for server, name in zip(found, names, strict=True))


def about_server(server: Server) -> list[str]:
    """In two sentences: what a server runs, and how many of them when."""
    runs = (
        f"{s.replicas} × {s.candidate.variant} of {s.model}, batch ≤ {s.candidate.max_batch_size}"
        for s in server.served
    )
    counts = ", ".join(f"{count} in {period}" if period else str(count) for period, count in server.counts)
    offer = server.offer
    return [
        f"Each runs {'; '.join(runs)}.",
        f"Planned: {counts}; {server.per_instance} on each {offer.instance_type} ({offer.purchase}).",
    ]


def models(fleet: Iterable[Server]) -> list[str]:
    """What clients can call, in the fleet's order."""
    return list(dict.fromkeys(served.model for server in fleet for served in server.served))


def model_names(report: PlanReport) -> dict[str, str]:
    """By workload: a name that is a folder, a part of a URL and a label's value alike."""
    cleaned = (
        re.sub(r"[^A-Za-z0-9_.-]+", "-", w.name).strip("-_.")[:_LONGEST_NAME] for w in report.workloads
    )
    names = distinct(name or "model" for name in cleaned)
    return {workload.name: name for workload, name in zip(report.workloads, names, strict=True)}


def dns_name(text: str) -> str:
    """A label of a host name: lower case letters, digits and hyphens, the first one a letter."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return (name if name[:1].isalpha() else f"m-{name}")[:_LONGEST_NAME].rstrip("-")


def distinct(names: Iterable[str]) -> list[str]:
    """The names in their order, ``-2``, ``-3`` behind those that were there before."""
    taken: set[str] = set()
    made = []
    for name in names:
        numbered, count = name, 1
        while numbered in taken:
            count += 1
            numbered = f"{name}-{count}"
        taken.add(numbered)
        made.append(numbered)
    return made


def _by_pattern(placements: Iterable[PlacementPart]) -> list[list[PlacementPart]]:
    """Placements that differ in the period and its figures only belong together."""
    found: dict[tuple[object, ...], list[PlacementPart]] = {}
    for placement in placements:
        runs = tuple(sorted((t.candidate_id, t.replicas_per_instance) for t in placement.traffic))
        found.setdefault((placement.offer_id, placement.zone, runs), []).append(placement)
    return list(found.values())


def _processes(
    traffic: Sequence[TrafficPart], candidates: dict[str, CandidatePart]
) -> list[list[TrafficPart]]:
    """What one instance runs, split into processes."""
    split: list[list[TrafficPart]] = []
    for part in traffic:
        candidate = candidates[part.candidate_id]
        for process in split:
            others = [candidates[other.candidate_id] for other in process]
            if not _mig(candidate) and all(
                not _mig(other) and other.workload != candidate.workload for other in others
            ):
                process.append(part)
                break
        else:
            split.append([part])
    return split


def _copies(part: Sequence[TrafficPart], candidates: dict[str, CandidatePart]) -> int:
    return part[0].replicas_per_instance if _mig(candidates[part[0].candidate_id]) else 1


def _served(
    part: Sequence[TrafficPart],
    placements: Sequence[PlacementPart],
    candidates: dict[str, CandidatePart],
    models: dict[str, str],
    offer: OfferPart,
    sliced: bool,
) -> tuple[Served, ...]:
    made, next_gpu = [], 0
    for traffic in part:
        candidate = candidates[traffic.candidate_id]
        replicas = 1 if sliced else traffic.replicas_per_instance
        gpus = tuple(range(next_gpu, next_gpu + replicas)) if offer.device_count else ()
        next_gpu += len(gpus)
        rates = tuple(
            (placement.period, replicas * same.replica_rps)
            for placement in placements
            for same in placement.traffic
            if same.candidate_id == traffic.candidate_id
        )
        made.append(Served(models[candidate.workload], candidate, replicas, gpus, rates))
    return tuple(made)


def _mig(candidate: CandidatePart) -> str:
    return candidate.device.partition("/")[2]


def _zone(placement: PlacementPart, offer: OfferPart) -> str:
    """Where no zones are known the plan calls the whole region one."""
    zone = placement.zone.partition("/")[2] or placement.zone
    return "" if zone == offer.region else zone


def _base_name(offer: OfferPart, zone: str, mig: str) -> str:
    words = [offer.provider, offer.instance_type, zone or offer.region]
    words += [offer.purchase] if offer.purchase != "on-demand" else []
    return dns_name("-".join([*words, mig] if mig else words))
