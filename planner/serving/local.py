"""Which part of a plan this machine can hold.

That is replicas of one planned instance, as many as there are cores for, each with its share of what the
instance costs: by threads, where several share it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.backends import Feed, backend
from planner.errors import InputError
from planner.export.servers import model_names
from planner.export.signature import Shaped, Signature, signature_of
from planner.export.source import Source, read_source
from planner.report import Engine, engine_of
from planner.report.plan_json import CandidatePart, OfferPart, PlacementPart, PlanReport, TrafficPart
from planner.serving.protocol import ModelSpec, TensorSpec
from planner.serving.tensors import BYTES, DTYPES
from planner.units import NS_PER_MS

_CPU = "cpu"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """``replicas`` of a candidate that run here, of the ``planned`` ones in the whole fleet.

    ``share``: the part of the workload's requests here that these take; ``usd_per_hour`` is one replica's,
    ``replica_rps`` what one is planned to get.
    """

    spec: ModelSpec
    candidate: CandidatePart
    engine: Engine
    inputs: tuple[Shaped, ...]
    replicas: int
    planned: int
    share: float
    usd_per_hour: float
    replica_rps: float

    @property
    def workload(self) -> str:
        return self.candidate.workload

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return tuple(sorted({profile.batch_size for profile in self.candidate.profiles}))

    @property
    def threads(self) -> int:
        """Of one instance of the engine."""
        return max(self.candidate.threads // self.candidate.instances, 1)

    @property
    def queue_delay_ns(self) -> int:
        return round(self.candidate.queue_delay_ms * NS_PER_MS)

    def zeros(self) -> list[Feed]:
        """Inputs of each batch size, to warm up with; none where a size is not known."""
        if any(shaped.sizes is None for shaped in self.inputs):
            return []
        first: list[tuple[int, ...]] = [(size,) for size in self.batch_sizes] if self.spec.batch else [()]
        return [
            {spec.name: _zeros(spec, (*of, *(shaped.sizes or ()))) for spec, shaped in self._pairs()}
            for of in first
        ]

    def _pairs(self) -> Iterator[tuple[TensorSpec, Shaped]]:
        return zip(self.spec.inputs, self.inputs, strict=True)


@dataclass(frozen=True, slots=True)
class LocalPart:
    """``notes``: what of the plan does not run here."""

    models: tuple[LocalModel, ...]
    offer: OfferPart
    notes: tuple[str, ...]


def deployed_part(plan: Path, workload: str | None = None) -> LocalPart:
    """What of the plan one of its instances runs, wherever that is. Raises as ``local_part``."""
    return _part_of(plan, sys.maxsize, workload, lambda candidate: True)


def local_part(plan: Path, cores: int, workload: str | None = None) -> LocalPart:
    """What of plan.json, or of the folder that holds it, ``cores`` hardware threads can hold.

    Of the placements the one with most replicas that fit, the first of equals; of one with several
    workloads, or candidates, one replica each before any gets a second. ``workload``: of this one only.

    Raises InputError where nothing fits, and the errors of reading a plan and its engines.
    """
    return _part_of(plan, cores, workload, _runs_here)


def _part_of(
    plan: Path, cores: int, workload: str | None, runs: Callable[[CandidatePart], bool]
) -> LocalPart:
    source = read_source(plan)
    known = [w.name for w in source.report.workloads]
    if workload is not None and workload not in known:
        raise InputError(f"{plan}: no workload {workload}; it has {', '.join(known)}")
    if not source.report.engines:
        raise InputError(f"{plan}: its latencies were imported, so it has no engines to serve")
    candidates = {c.id: c for c in source.report.candidates}
    best: tuple[PlacementPart, dict[str, int]] | None = None
    for placement in source.report.fleet.placements:
        fitting = _fitting(placement, candidates, cores, workload, runs)
        if fitting and (best is None or sum(fitting.values()) > sum(best[1].values())):
            best = (placement, fitting)
    if best is None:
        raise InputError(f"{plan}: {_why_nothing(source.report, candidates, cores, workload)}")
    return _part(source, candidates, *best, workload)


def _fitting(
    placement: PlacementPart,
    candidates: dict[str, CandidatePart],
    cores: int,
    workload: str | None,
    runs: Callable[[CandidatePart], bool],
) -> dict[str, int]:
    """How many replicas of each candidate fit, by candidate id; empty where none does."""
    asked = [(t, candidates[t.candidate_id]) for t in placement.traffic]
    wanted = [t for t, c in asked if workload in (None, c.workload) and runs(c)]
    count = {t.candidate_id: 0 for t in wanted}
    left, grew = cores, True
    while grew:
        grew = False
        for traffic in wanted:
            threads = candidates[traffic.candidate_id].threads
            if threads <= left and count[traffic.candidate_id] < traffic.replicas_per_instance:
                count[traffic.candidate_id] += 1
                left, grew = left - threads, True
    return {candidate_id: replicas for candidate_id, replicas in count.items() if replicas}


def _runs_here(candidate: CandidatePart) -> bool:
    runner = backend(candidate.backend)
    return runner.runs_on == _CPU and runner.missing() is None


def _why_nothing(
    report: PlanReport, candidates: dict[str, CandidatePart], cores: int, workload: str | None
) -> str:
    used = {t.candidate_id: None for p in report.fleet.placements for t in p.traffic}
    asked = [candidates[name] for name in used if workload in (None, candidates[name].workload)]
    if not asked:
        return "no replica of it is planned"
    here = [c for c in asked if _runs_here(c)]
    if here:
        least = min(c.threads for c in here)
        return f"a replica needs {least} cores, there are {cores}; serve on a larger machine"
    first = asked[0]
    runner = backend(first.backend)
    why = runner.missing() or f"{first.backend} runs on a {runner.runs_on}, only CPUs are served"
    return f"{first.variant} cannot run here: {why}; planner export writes what runs it elsewhere"


def _part(
    source: Source,
    candidates: dict[str, CandidatePart],
    placement: PlacementPart,
    fitting: dict[str, int],
    workload: str | None,
) -> LocalPart:
    report = source.report
    offer = next(o for o in report.offers if o.id == placement.offer_id)
    here = {t.candidate_id: t for t in placement.traffic if t.candidate_id in fitting}
    threads = sum(candidates[t.candidate_id].threads * t.replicas_per_instance for t in placement.traffic)
    engines = source.engines()
    models = [
        _model(
            source,
            candidates[name],
            traffic,
            engines,
            fitting[name],
            _planned(report, name, placement.period),
            share=_weight(traffic, fitting)
            / sum(
                _weight(other, fitting)
                for other in here.values()
                if candidates[other.candidate_id].workload == candidates[name].workload
            ),
            usd_per_hour=offer.usd_per_hour * candidates[name].threads / threads,
        )
        for name, traffic in here.items()
    ]
    served = {m.workload for m in models}
    asked = [w.name for w in report.workloads if workload in (None, w.name)]
    notes = [f"{name}: nothing of it runs here." for name in asked if name not in served]
    return LocalPart(tuple(models), offer, tuple(notes))


def _weight(traffic: TrafficPart, fitting: dict[str, int]) -> float:
    return max(traffic.replica_rps, 1e-9) * fitting[traffic.candidate_id]


def _planned(report: PlanReport, candidate_id: str, period: str) -> int:
    return sum(
        t.replicas_per_instance * placement.instances
        for placement in report.fleet.placements
        if placement.period == period
        for t in placement.traffic
        if t.candidate_id == candidate_id
    )


def _model(
    source: Source,
    candidate: CandidatePart,
    traffic: TrafficPart,
    engines: Sequence[Engine],
    replicas: int,
    planned: int,
    share: float,
    usd_per_hour: float,
) -> LocalModel:
    engine = _engine_of(candidate, engines)
    dimensions = source.dimensions(candidate.workload, candidate.variant)
    signature = signature_of(engine, dimensions)
    if not signature.batched and candidate.max_batch_size > 1:
        raise InputError(
            f"{candidate.variant}: the batch is not the first axis of all its inputs and outputs, so "
            "requests cannot be joined; export the model with the batch first, or plan with batch_sizes: [1]"
        )
    return LocalModel(
        spec=_spec(model_names(source.report)[candidate.workload], candidate, signature),
        candidate=candidate,
        engine=engine,
        inputs=signature.inputs,
        replicas=replicas,
        planned=planned,
        share=share,
        usd_per_hour=usd_per_hour,
        replica_rps=traffic.replica_rps,
    )


def _engine_of(candidate: CandidatePart, engines: Sequence[Engine]) -> Engine:
    engine = engine_of(engines, candidate)
    if engine is None:
        raise InputError(
            f"the plan has no engine of {candidate.variant} for {candidate.device}; make it again"
        )
    return engine


def _spec(name: str, candidate: CandidatePart, signature: Signature) -> ModelSpec:
    return ModelSpec(
        name=name,
        platform=candidate.backend,
        batch=candidate.max_batch_size if signature.batched else 0,
        inputs=tuple(_tensor(shaped, signature.batched) for shaped in signature.inputs),
        outputs=tuple(_tensor(shaped, signature.batched) for shaped in signature.outputs),
    )


def _tensor(shaped: Shaped, batched: bool) -> TensorSpec:
    datatype = shaped.triton_type.removeprefix("TYPE_")
    dims = ((-1,) if batched else ()) + shaped.dims
    return TensorSpec(shaped.name, BYTES if datatype == "STRING" else datatype, dims)


def _zeros(spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, "", object) if spec.datatype == BYTES else np.zeros(shape, DTYPES[spec.datatype])
