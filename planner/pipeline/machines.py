"""Profiling on the machines of a Ray cluster: what holds the floor, on every kind of device found there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from planner.backends import backend
from planner.backends.tensorrt import TENSORRT, Order
from planner.domain.problem import Rejection
from planner.domain.profile import Configuration
from planner.domain.progress import Progress, Step, silent
from planner.domain.variant import Variant
from planner.errors import InputError
from planner.pipeline.engines import order_of
from planner.pipeline.inputs import Prepared
from planner.pipeline.places import Place
from planner.pipeline.steps import Cell, Judged, configurations, entry_of, feeds_for, run_elsewhere, runnable
from planner.profiling.bench import Job
from planner.profiling.campaign import Campaign
from planner.profiling.cluster import Kind, Said, Slot, check_libraries, slots_of
from planner.profiling.dispatch import profile_on
from planner.profiling.ray import RayCluster, connected
from planner.store import ProfileStore


@dataclass(frozen=True, slots=True)
class Found:
    """The devices of a cluster, and a line for each node that takes no part."""

    slots: tuple[Slot, ...]
    notes: tuple[str, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(dict.fromkeys(slot.kind for slot in self.slots))


def profile_cluster(
    prepared: Prepared, judged: Judged, address: str, progress: Progress = silent
) -> Campaign:
    """Measure what holds the floor on every kind of device of the Ray cluster at ``address``.

    Raises MissingDependencyError or InputError where the cluster, Ray or a node's packages are not as needed.
    """
    spec = prepared.spec
    with connected(address) as cluster:
        progress(Step("cluster", address, 0, 1))
        found = find_devices(prepared, cluster)
        progress(Step("cluster", "", 1, 1))
        with _jobs(prepared, judged, found.kinds) as (jobs, rejections):
            campaign = profile_on(
                cluster,
                found.slots,
                jobs,
                ProfileStore(spec.profiles),
                spec.workload.slo.percentile,
                spec.workload.slo.budget_ns,
                progress,
            )
    return replace(
        campaign,
        rejections=(*run_elsewhere(prepared, judged), *rejections, *campaign.rejections),
        notes=(*found.notes, *campaign.notes),
    )


def find_devices(prepared: Prepared, cluster: RayCluster) -> Found:
    """Every device of the cluster; InputError where there is none."""
    slots: list[Slot] = []
    notes = []
    for node, said in cluster.ask(cluster.nodes(), prepared.spec.backends).items():
        if not isinstance(said, Said):
            notes.append(f"Node {node.address} takes no part: {said}.")
            continue
        here = slots_of(node, said, prepared.catalog)
        check_libraries(node.address, said, _runnable(prepared, {slot.kind.runs_on for slot in here}))
        slots += here
    if not slots:
        raise InputError(
            "the Ray cluster has no device to measure on: no node has CPUs, GPUs or `device:` to give"
        )
    return Found(tuple(slots), tuple(notes))


def _runnable(prepared: Prepared, devices: set[str]) -> list[str]:
    return [name for name in prepared.spec.backends if backend(name).runs_on in devices]


@contextmanager
def _jobs(
    prepared: Prepared, judged: Judged, kinds: Sequence[Kind]
) -> Iterator[tuple[dict[Kind, list[Job]], list[Rejection]]]:
    """The grid of each kind of device; its inputs exist until the context ends."""
    grids = {kind: _grid(prepared, judged, kind) for kind in kinds}
    rejections = [
        Rejection("profile", kind.device, f"no backend of plan.yaml runs on it ({kind.runs_on}); name one")
        for kind in kinds
        if not _runnable(prepared, {kind.runs_on})
    ]
    rejections += [
        Rejection(
            "profile", f"{cell.describe()} on {cell.configuration.device}", f"its node has {kind.cores} cores"
        )
        for kind, grid in grids.items()
        for cell in grid
        if cell.configuration.threads > kind.cores
    ]
    with feeds_for(prepared, {cell.feed for grid in grids.values() for cell in grid}) as feeds:
        jobs = {
            kind: [
                Job(
                    cell.configuration,
                    cell.variant.path,
                    feeds[cell.feed],
                    build=_build(prepared, cell.configuration, cell.variant),
                    request_class=cell.request_class,
                )
                for cell in grid
                if cell.configuration.threads <= kind.cores
            ]
            for kind, grid in grids.items()
        }
        yield jobs, rejections


def _build(prepared: Prepared, configuration: Configuration, variant: Variant) -> Order | None:
    if configuration.backend not in TENSORRT:
        return None
    return order_of(entry_of(prepared, variant), variant, prepared.spec)


def _grid(prepared: Prepared, judged: Judged, kind: Kind) -> list[Cell]:
    # What it is priced as is a plan's question.
    there = Place(kind.device, prepared.cpu.device, "", kind.runs_on, kind.cores)
    return [
        found
        for name in _runnable(prepared, {kind.runs_on})
        for found in configurations(prepared, runnable(prepared, judged, name), name, there)
    ]
