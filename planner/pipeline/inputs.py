"""plan.yaml and everything it names, read and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from planner.backends import backend
from planner.catalog import Catalog, CpuMatch, check_limits, load, local_cpu, match_cpu, sold_as
from planner.domain.model import BoundInput, Model
from planner.domain.profile import Environment
from planner.errors import DataError
from planner.profiling.environment import local_environment
from planner.quality import Dataset, load_data, metric, overlap, random_data
from planner.spec import RANDOM_DATA, Spec, read_spec
from planner.store import writable_folder
from planner.variants import bind, index_ranges, read_model, recipe

BACKEND = "onnxruntime"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The inputs of a run, read and checked; nothing made or measured yet."""

    spec: Spec
    model: Model
    inputs: tuple[BoundInput, ...]
    calibration: Dataset
    evaluation: Dataset
    catalog: Catalog
    cpu: CpuMatch
    sold_as: CpuMatch
    """What the catalog prices this CPU as: the same device, or the nearest with offers."""
    environment: Environment


def load_spec(path: Path, output: Path | None = None) -> Spec:
    """Read plan.yaml; ``output`` overrides its output folder."""
    spec = read_spec(path)
    if output is None:
        return spec
    folder = output.resolve()
    inside = spec.profiles.is_relative_to(spec.output)
    profiles = folder / spec.profiles.relative_to(spec.output) if inside else spec.profiles
    return replace(spec, output=folder, profiles=profiles)


def prepare(spec: Spec) -> Prepared:
    """Read and check every input, cheapest check first, so that a mistake costs seconds, not minutes."""
    for name in spec.recipes:
        recipe(name)
    labelled = metric(spec.workload.floor.metric).needs_labels
    catalog = load(spec.catalog)
    check_limits(catalog, spec.limits)
    model = read_model(spec.model)
    inputs = bind(model, dict(spec.dimensions))
    writable_folder(spec.output)
    evaluation = _data(spec, spec.evaluation, model, inputs, seed=1, labels=labelled)
    calibration = _data(spec, spec.calibration, model, inputs, seed=2)
    shared = overlap(calibration, evaluation)
    if shared and not (calibration.synthetic or evaluation.synthetic):
        raise DataError(
            f"{spec.path}: data: {shared} of {evaluation.samples} evaluation samples are calibration samples "
            "too; accuracy must be measured on data that calibration never saw"
        )
    identity = local_cpu()
    cpu = match_cpu(identity, catalog)
    environment = local_environment(
        identity.name, cpu.device.architecture, identity.flags, backend(BACKEND).libraries()
    )
    return Prepared(
        spec,
        model,
        inputs,
        calibration,
        evaluation,
        catalog,
        cpu,
        sold_as(cpu, identity, catalog),
        environment,
    )


def _data(
    spec: Spec, source: str, model: Model, inputs: tuple[BoundInput, ...], seed: int, labels: bool = False
) -> Dataset:
    if source != RANDOM_DATA:
        return load_data(source, spec.base, inputs, labels)
    if labels:
        raise DataError(
            f"{spec.path}: accuracy.metric: {spec.workload.floor.metric} needs labels, which random data "
            "have not; give data.evaluation, or use agreement"
        )
    return random_data(inputs, spec.random_samples, seed, index_ranges(model))
