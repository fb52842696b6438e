"""What a run would do, told before any of it is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from planner.backends import backend
from planner.catalog import load, matches
from planner.domain.profile import Configuration, samples_for
from planner.domain.variant import Variant
from planner.pipeline.imported import read_profiles
from planner.pipeline.inputs import BACKEND, Prepared, environment_of, prepare, runs_on
from planner.pipeline.steps import configurations, stored_profiles
from planner.profiling.bench import START_SECONDS
from planner.spec import Fleet, Imported, Spec
from planner.variants import recipe


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would do. ``seconds`` is an upper estimate from a few inferences of the fp32 model."""

    recipes: tuple[str, ...]
    configurations: tuple[str, ...]
    stored: int
    samples_each: int
    evaluation_samples: int
    calibration_samples: int
    offers: int
    seconds: float
    output: Path


def dry_run(fleet: Fleet) -> DryRun:
    """Count what would be made and measured, and time three inferences to say how long that takes."""
    told = [_of_one(spec) for spec in fleet.services]
    if len(told) == 1:
        return told[0]
    names = [spec.workload.name for spec in fleet.services]
    return DryRun(
        recipes=tuple(f"{n}/{r}" for n, one in zip(names, told, strict=True) for r in one.recipes),
        configurations=tuple(
            f"{n}: {c}" for n, one in zip(names, told, strict=True) for c in one.configurations
        ),
        stored=sum(one.stored for one in told),
        samples_each=max(one.samples_each for one in told),
        evaluation_samples=sum(one.evaluation_samples for one in told),
        calibration_samples=sum(one.calibration_samples for one in told),
        offers=max(one.offers for one in told),
        seconds=sum(one.seconds for one in told),
        output=fleet.output,
    )


def _of_one(spec: Spec) -> DryRun:
    if spec.imported is not None:
        return _of_imported(spec, spec.imported)
    prepared = prepare(spec)
    unmade = [
        Variant(name, entry.model.sha256, entry.model.path, "", 0, entrant=entry.name)
        for entry in prepared.entries
        for name in entry.recipes
    ]
    grid = [
        cell
        for place in prepared.places
        for name in prepared.backends
        if backend(name).runs_on == place.runs_on
        for cell in configurations(
            prepared, [v for v in unmade if runs_on(recipe(v.recipe), (name,))], name, place
        )
    ]
    environments = {name: environment_of(prepared, name) for name in prepared.backends}
    stored = {
        _kind(p.configuration)
        for p in stored_profiles(prepared)
        if p.environment == environments.get(p.configuration.backend)
    }
    missing = [cell for cell in grid if _kind(cell.configuration) not in stored]
    seconds_each = _time_baseline(prepared)
    samples = samples_for(spec.workload.slo.percentile)
    judging = len({BACKEND, *prepared.backends})
    inferences = sum(
        len(e.recipes) * (judging * e.evaluation.samples + e.calibration.samples) for e in prepared.entries
    )
    seconds = inferences * seconds_each + sum(
        2 * START_SECONDS + samples * c.batch_size * seconds_each / c.replicas
        for c in (cell.configuration for cell in missing)
    )
    return DryRun(
        recipes=tuple(variant.name for variant in unmade),
        configurations=tuple(cell.describe() for cell in missing),
        stored=len(grid) - len(missing),
        samples_each=samples,
        evaluation_samples=prepared.main.evaluation.samples,
        calibration_samples=prepared.main.calibration.samples,
        offers=sum(matches(offer, spec.limits) for offer in prepared.catalog.offers),
        seconds=seconds,
        output=spec.output,
    )


def _of_imported(spec: Spec, imported: Imported) -> DryRun:
    """Nothing is made or measured."""
    _, profiles = read_profiles(spec, imported)
    return DryRun(
        recipes=(),
        configurations=(),
        stored=len(profiles),
        samples_each=0,
        evaluation_samples=0,
        calibration_samples=0,
        offers=sum(matches(offer, spec.limits) for offer in load(spec.catalog).offers),
        seconds=0.0,
        output=spec.output,
    )


def _kind(configuration: Configuration) -> tuple[object, ...]:
    """What tells configurations apart before their variants are made."""
    c = configuration
    return (c.variant, c.device, c.backend, c.batch_size, c.threads, c.replicas, c.shapes)


def _time_baseline(prepared: Prepared) -> float:
    feed = prepared.main.evaluation.batch(range(1), prepared.main.inputs)
    with backend(BACKEND).load(prepared.main.model.path, 1) as session:
        session.infer(feed)
        start = perf_counter()
        for _ in range(3):
            session.infer(feed)
    return (perf_counter() - start) / 3
