"""A plan's replicas, or a deployed service, under LoadGen's Poisson arrivals: what is seen beside what the
plan predicts.

The prediction is of the very arrangement that is driven: the profile's service times, each with what the
batcher and the way to the engine's process add to it, and of the latency what a request spends outside of
both. These overheads are measured first, without load.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from planner.capacity import Replica, ServiceLaws, service_laws, sojourn_percentile_at
from planner.capacity.analysis import analyse, analysed_at
from planner.domain.progress import Progress, Step, silent
from planner.domain.workload import Slo, Workload
from planner.errors import InputError
from planner.pipeline.inputs import Prepared, prepare
from planner.pipeline.made import read_plan
from planner.pipeline.recomputed import fleet_of
from planner.profiling.apart import apart
from planner.profiling.environment import usable_cores, watched
from planner.serving.batcher import Batched
from planner.serving.local import LocalModel, deployed_part, local_part
from planner.units import NS_PER_MS, NS_PER_S
from planner.verifying.driving import Endpoint, Engines, Load, Overhead, Run, Target, drive, overhead
from planner.verifying.observed import Observed
from planner.verifying.searching import median_of_searches
from planner.verifying.seen import half_width, ranked
from planner.verifying.service import laws_of

SECONDS = 60.0
"""Of one run."""
ROWS = 256
"""Different requests that are sent."""
SEGMENTS = 20
"""Parts of a run, one after the other, that the percentile's interval takes for independent."""
ALONE_S = 600.0
"""A run that takes so much longer than it should hangs."""
DISTURBED = 0.02
"""Where others take a larger share of the machine, the latencies at high percentiles are theirs."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What was seen of one candidate; ``notes``: what the reader must know."""

    observed: Observed
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """How to look: ``seconds`` of a run, how many ``searches`` for the highest rate (0: none)."""

    seconds: float = SECONDS
    searches: int = 0
    seed: int = 0


def live(
    plan: Path,
    asked: Asked,
    workload: str | None = None,
    endpoint: str | None = None,
    profiles: Path | None = None,
    progress: Progress = silent,
) -> list[Lived]:
    """Drive one replica of each candidate that runs here, at its planned rate, or the service at the URL
    ``endpoint``, at the rate that the plan gives to one replica.

    Raises InputError where nothing of the plan runs here or the endpoint cannot be reached, SpecError where
    plan.yaml is not what the plan was made of, StoreError where its profiles are gone.
    """
    made = read_plan(plan)
    fleet = fleet_of(made)
    part = deployed_part(plan, workload) if endpoint else local_part(plan, usable_cores(), workload)
    specs = {spec.workload.name: spec for spec in fleet.services}
    used = {model.candidate.id for model in part.models}
    laws = laws_of(made, fleet.services, used, profiles)

    @cache
    def prepared(workload: str) -> Prepared:
        return prepare(specs[workload])

    for model in part.models:
        if len(laws[model.candidate.id]) > 1:
            raise InputError(f"{model.workload}: requests of several classes cannot be driven yet")
    found = []
    for number, model in enumerate(part.models):
        progress(Step("live", model.workload, number, len(part.models)))
        (law,) = laws[model.candidate.id]
        with sent(prepared(model.workload), model) as rows:
            target = endpoint_of(endpoint, model, rows) if endpoint else engines_of(model, rows)
            found.append(_lived(target, model, specs[model.workload].workload, law, asked))
    progress(Step("live", "", len(part.models), len(part.models)))
    return found


def engines_of(model: LocalModel, rows: Path) -> Engines:
    return Engines(
        engine=model.engine.path,
        backend=model.candidate.backend,
        threads=model.threads,
        instances=model.candidate.instances,
        batch_sizes=model.batch_sizes,
        queue_delay_ns=model.queue_delay_ns,
        batched=bool(model.spec.batch),
        rows=rows,
    )


def endpoint_of(url: str, model: LocalModel, rows: Path) -> Endpoint:
    return Endpoint(
        url=url,
        model=model.spec.name,
        batched=bool(model.spec.batch),
        rows=rows,
        datatypes=tuple((spec.name, spec.datatype) for spec in model.spec.inputs),
    )


def _lived(target: Target, model: LocalModel, workload: Workload, laws: ServiceLaws, asked: Asked) -> Lived:
    """A service has replicas of its own and a network before it; the plan's figures are a replica's."""
    slo = workload.slo
    # What a service adds cannot be measured from outside.
    added = apart(overhead, target, timeout_s=ALONE_S) if isinstance(target, Engines) else None
    predicted = predict(laws, added, model, workload, model.replica_rps)
    run = driven(target, slo, model.replica_rps, asked.seconds, asked.seed)
    highest = None
    if asked.searches:
        highest = search(target, slo, predicted.capacity_rps, asked)
    low, high = interval_ns(run.sojourn_ns, slo.percentile)
    sizes = [batch.inferences for batch in run.batches]
    observed = Observed(
        candidate_id=model.candidate.id,
        workload=workload.name,
        rate_rps=run.rate_rps,
        asked_rps=model.replica_rps,
        percentile=slo.percentile,
        budget_ms=slo.budget_ns / NS_PER_MS,
        measured_ms=run.percentile_ns / NS_PER_MS,
        measured_low_ms=min(low, run.percentile_ns) / NS_PER_MS,
        measured_high_ms=max(high, run.percentile_ns) / NS_PER_MS,
        predicted_ms=predicted.percentile_ns / NS_PER_MS,
        overhead_ms=predicted.overhead_ns / NS_PER_MS,
        requests=len(run.sojourn_ns),
        valid=run.valid,
        predicted_batch_size=predicted.mean_batch_size,
        mean_batch_size=float(np.mean(sizes)) if sizes else None,
        service_ratio=service_ratio(run.batches, laws),
        arrival_cv=run.arrival_cv,
        planned_cv=workload.arrivals.cv,
        highest_rps=highest,
        planned_capacity_rps=predicted.capacity_rps,
    )
    return Lived(observed, tuple(notes(run, workload)))


def notes(run: Run, workload: Workload) -> Iterator[str]:
    """What the reader of a run must know."""
    if run.reasons:
        yield f"LoadGen: {run.reasons}"
    if run.batches and not run.pinned:
        yield (
            "The load generator and the engines shared hardware threads: this machine has too few for both, "
            "so latencies are too high."
        )
    if (run.foreign_load or 0.0) > DISTURBED:
        yield (
            f"Others took {run.foreign_load:.0%} of this machine meanwhile: latencies may be too high; try "
            "again when it is quiet."
        )
    if not workload.arrivals.poisson:
        yield "LoadGen's arrivals are Poisson, the plan's are not."


@dataclass(frozen=True, slots=True)
class Predicted:
    """Of a replica with its overheads: the percentile at a rate, and the highest rate within the budget."""

    percentile_ns: float
    overhead_ns: float
    mean_batch_size: float | None
    capacity_rps: float


def predict(
    laws: ServiceLaws, added: Overhead | None, model: LocalModel, workload: Workload, rate_rps: float
) -> Predicted:
    """What serves with overheads ``added`` (None: with none), by the analysis that capacities come from."""
    wake = float(np.mean(added.wake_ns)) if added else 0.0
    longer = with_hops(laws, added.hop_ns) if added else laws
    replica = Replica(longer, model.candidate.instances, model.queue_delay_ns)
    served = replace(workload, slo=inside(workload.slo, wake))
    capacity = analyse(replica, served)
    percentile = sojourn_percentile_at(replica, served, rate_rps)
    stable = np.isfinite(percentile) and rate_rps < replica.limit_per_ns * NS_PER_S
    return Predicted(
        percentile_ns=percentile + wake,
        overhead_ns=wake + (float(np.mean(added.hop_ns[min(added.hop_ns)])) if added else 0.0),
        mean_batch_size=analysed_at(replica, served, rate_rps).mean_batch_size if stable else None,
        capacity_rps=capacity.low_rps,
    )


def inside(slo: Slo, outside_ns: float) -> Slo:
    """What is left of the SLO where each request spends so long outside of queue and engine."""
    return replace(slo, overhead_ns=min(round(slo.overhead_ns + outside_ns), slo.latency_ns - 1))


def with_hops(laws: ServiceLaws, hop_ns: dict[int, tuple[int, ...]]) -> ServiceLaws:
    """The laws, every service time with a measured hop of its batch size, drawn at random."""
    rng = np.random.default_rng(0)
    longer = {
        size: np.round(samples + rng.choice(np.asarray(hop_ns[size]), len(samples))).astype(int).tolist()
        for size, samples in zip(laws.largest, laws.samples_ns, strict=True)
    }
    return service_laws(longer, laws.max_batch_size)


def service_ratio(batches: Sequence[Batched], laws: ServiceLaws) -> float | None:
    """Time in the engine, over what the laws have for the same batches; None where there were none."""
    mean_ns = dict(zip(laws.largest, laws.mean_ns.tolist(), strict=True))
    expected = sum(mean_ns[batch.padded_to] for batch in batches)
    return sum(batch.engine_ns for batch in batches) / expected if expected else None


def interval_ns(sojourn_ns: np.ndarray, percentile: float, segments: int = SEGMENTS) -> tuple[float, float]:
    """Of the percentile, at 99 %: segments of the run are taken for independent, requests are not.

    As ``seen.seen_in`` has it of independent runs. Too few requests for an end: the largest of them.
    """
    ordered = np.sort(sojourn_ns)
    level = percentile / 100
    at = ranked(ordered, level)
    parts = np.array_split(sojourn_ns, segments)
    hits = np.array([(p <= at).sum() for p in parts])
    wide = half_width(hits, np.array([len(p) for p in parts]))
    return ranked(ordered, level - wide), min(ranked(ordered, level + wide), float(ordered[-1]))


def search(target: Target, slo: Slo, start_rps: float, asked: Asked) -> float:
    """The highest rate that LoadGen finds valid: the median of ``searches``."""
    seeds = iter(range(asked.seed + 1, 1 << 30))

    def holds(rate_rps: float) -> bool:
        return driven(target, slo, rate_rps, asked.seconds, next(seeds)).valid

    return median_of_searches(holds, start_rps, asked.searches)[0]


def driven(target: Target, slo: Slo, rate_rps: float, seconds: float, seed: int) -> Run:
    """Under load for so long, in a process of its own, with a look at what others did meanwhile."""
    load = Load(rate_rps, slo.percentile, slo.budget_ns, seconds, seed)
    run, foreign = watched(lambda: apart(drive, target, load, timeout_s=seconds + ALONE_S))
    # A service on this very machine is not somebody else.
    return run if isinstance(target, Endpoint) else replace(run, foreign_load=foreign)


@contextmanager
def sent(prepared: Prepared, model: LocalModel) -> Iterator[Path]:
    """Requests to send: the plan's evaluation data, as an ``.npz`` that ends with the context."""
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        path = Path(folder) / "rows.npz"
        write_rows(path, _rows(prepared, model))
        yield path


def write_rows(path: Path, rows: dict[str, np.ndarray]) -> None:
    # Not numpy.savez: an input may be called `file`, like its first parameter.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in rows.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _rows(prepared: Prepared, model: LocalModel) -> dict[str, np.ndarray]:
    entrant = model.candidate.variant.rpartition(".")[0]
    entry = next(e for e in prepared.entries if e.name == entrant)
    count = min(entry.evaluation.samples, ROWS)
    if model.spec.batch:
        return entry.evaluation.batch(range(count), entry.inputs)
    each = [entry.evaluation.batch([k], entry.inputs) for k in range(count)]
    return {name: np.stack([feed[name] for feed in each]) for name in each[0]}
