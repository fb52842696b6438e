"""plan.yaml and everything it names, read and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import numpy as np

from planner.backends import backend
from planner.backends.tensorrt import TENSORRT
from planner.catalog import Catalog, CpuMatch, check_limits, load, local_cpu, match_cpu, sold_as
from planner.domain.model import BoundInput, Model
from planner.domain.profile import Environment
from planner.domain.variant import BASELINE_RECIPE
from planner.errors import DataError, SpecError
from planner.pipeline.places import Place, places
from planner.profiling.environment import local_environment, usable_cores
from planner.quality import Dataset, Metric, load_data, metric, overlap, random_data
from planner.spec import RANDOM_DATA, Entrant, Fleet, Spec
from planner.store import writable_folder
from planner.variants import Recipe, auto_recipes, bind, index_ranges, read_model, recipe

Sizes = dict[str, tuple[BoundInput, ...]]

BACKEND = "onnxruntime"
"""The reference: variants are made with it, and every drop is from fp32 on it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that competes, with its data, and the recipes that it gets; the baseline's first.

    ``inputs``: as the data have them. ``by_class``: as the requests of each class have them, from the
    smallest to the largest; of all requests, called "", where they are alike.
    """

    name: str
    model: Model
    inputs: tuple[BoundInput, ...]
    calibration: Dataset
    evaluation: Dataset
    recipes: tuple[str, ...]
    by_class: tuple[tuple[str, tuple[BoundInput, ...]], ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The inputs of a run, read and checked; nothing made or measured yet."""

    spec: Spec
    metric: Metric
    entries: tuple[Entry, ...]
    catalog: Catalog
    cpu: CpuMatch
    sold_as: CpuMatch
    """What the catalog prices this CPU as: the same device, or the nearest with offers."""
    environment: Environment
    """With every library of the run; a profile's has those of its own backend, see ``environment_of``."""
    places: tuple[Place, ...]
    """Where it is measured here."""

    @property
    def main(self) -> Entry:
        """The model that plan.yaml is about; its fp32 variant is the baseline of all."""
        return self.entries[0]

    @property
    def backends(self) -> tuple[str, ...]:
        """Those of plan.yaml that run here. Of the others there are profiles from elsewhere."""
        here = {place.runs_on for place in self.places}
        return tuple(name for name in self.spec.backends if backend(name).runs_on in here)


def service_of(fleet: Fleet, workload: str | None) -> Spec:
    """The workload of that name, or the only one. Raises SpecError that tells the names there are."""
    names = [spec.workload.name for spec in fleet.services]
    if workload is None and len(names) == 1:
        return fleet.only
    if workload not in names:
        got = "" if workload is None else f", got {workload}"
        raise SpecError(f"{fleet.path}: --workload: expected one of {', '.join(names)}{got}")
    return fleet.services[names.index(workload)]


def prepare(spec: Spec, elsewhere: bool = False, catalog: Catalog | None = None) -> Prepared:
    """Read and check every input, cheapest check first, so that a mistake costs seconds, not minutes.

    ``elsewhere``: it is measured on other machines, so backends need not run here. ``catalog``: the file's,
    where it has been read and checked already.
    """
    if spec.imported is not None:
        raise SpecError(f"{spec.path}: imported: there is no model to make variants of; use planner plan")
    for name in spec.recipes or ():
        recipe(name)
    fixed = [name for name in spec.backends if name in TENSORRT]
    if spec.class_dimensions and fixed:
        raise SpecError(
            f"{spec.path}: backends: {fixed[0]}: its engines are built for one size of request, so it cannot "
            "serve workload.classes; name another backend, or make each class a service of its own"
        )
    measure = metric(spec.workload.floor.metric, spec.base)
    if catalog is None:
        catalog = load(spec.catalog)
        check_limits(catalog, spec.limits)
    identity = local_cpu()
    cpu = match_cpu(identity, catalog)
    priced = sold_as(cpu, identity, catalog)
    here = places(spec, catalog, cpu, priced, usable_cores(), elsewhere)
    libraries = _libraries(spec, here)
    models = [_model(spec, entrant) for entrant in spec.entrants]
    writable_folder(spec.output)
    entries = tuple(
        _entry(spec, measure, entrant, *model) for entrant, model in zip(spec.entrants, models, strict=True)
    )
    _check_same_task(spec, entries)
    environment = local_environment(identity.name, cpu.device.architecture, identity.flags, libraries)
    return Prepared(spec, measure, entries, catalog, cpu, priced, environment, here)


def environment_of(prepared: Prepared, backend_name: str) -> Environment:
    """What profiles taken with ``backend_name`` belong to, whatever other backends the run has."""
    return replace(prepared.environment, libraries=backend(backend_name).libraries())


def runs_on(made_by: Recipe, backends: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``backends`` that run what a recipe makes."""
    return tuple(name for name in backends if backend(name).family in made_by.backends)


def _libraries(spec: Spec, here: tuple[Place, ...]) -> tuple[tuple[str, str], ...]:
    """Of the reference and of the backends that run here."""
    kinds = {place.runs_on for place in here}
    running = [name for name in spec.backends if backend(name).runs_on in kinds]
    found = [library for name in (BACKEND, *running) for library in backend(name).libraries()]
    return tuple(dict.fromkeys(found))


def _model(spec: Spec, entrant: Entrant) -> tuple[Model, Sizes]:
    """The model, and its inputs as the data have them, "", and as each class has them.

    Where the dimensions leave one open that classes bind, the data are as the largest class.
    """
    model = read_model(entrant.model)
    own = dict(entrant.dimensions)
    largest = dict(spec.class_dimensions[-1][1]) if spec.class_dimensions else {}
    sizes = {"": bind(model, largest | own)}
    for name, dimensions in spec.class_dimensions:
        sizes[name] = bind(model, own | dict(dimensions))
    _check_ascending(spec, sizes)
    return model, sizes


def _check_ascending(spec: Spec, sizes: Sizes) -> None:
    """A batch of several classes is as slow as its last one: that has to be the largest."""
    elements = [(name, sum(prod(t.shape) for t in sizes[name])) for name, _ in spec.class_dimensions]
    for (smaller, few), (larger, many) in pairwise(elements):
        if few >= many:
            raise SpecError(
                f"{spec.path}: workload.classes: {larger} comes after {smaller} and is not larger ({many} "
                f"input elements a request, after {few}); order them from the smallest to the largest"
            )


def _entry(spec: Spec, measure: Metric, entrant: Entrant, model: Model, sizes: Sizes) -> Entry:
    inputs = sizes[""]
    evaluation = _data(spec, entrant.evaluation, model, inputs, seed=1, labels=measure.needs_labels)
    calibration = _data(spec, entrant.calibration, model, inputs, seed=2)
    shared = overlap(calibration, evaluation)
    if shared and not (calibration.synthetic or evaluation.synthetic):
        raise DataError(
            f"{spec.path}: data: {shared} of {evaluation.samples} evaluation samples are calibration samples "
            "too; accuracy must be measured on data that calibration never saw"
        )
    classes = tuple((name, sizes[name]) for name, _ in spec.class_dimensions) or (("", inputs),)
    return Entry(entrant.name, model, inputs, calibration, evaluation, _recipes(spec, model), classes)


def _recipes(spec: Spec, model: Model) -> tuple[str, ...]:
    """The baseline comes first and always: every drop and every saving is counted from it."""
    families = {backend(name).family for name in spec.backends}
    chosen = auto_recipes(model, families, ()) if spec.recipes is None else spec.recipes
    return (BASELINE_RECIPE, *(name for name in chosen if name != BASELINE_RECIPE))


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


def _check_same_task(spec: Spec, entries: tuple[Entry, ...]) -> None:
    """Drops are judged sample by sample, so every candidate must be asked the same questions."""
    main = entries[0].evaluation
    for entry in entries[1:]:
        data = entry.evaluation
        differ = (
            main.labels is not None
            and data.labels is not None
            and not np.array_equal(data.labels, main.labels)
        )
        if data.samples != main.samples or differ:
            raise DataError(
                f"{spec.path}: candidates: {entry.name}: its evaluation data are not the main model's "
                "samples in the same order; prepare the same samples for both"
            )
