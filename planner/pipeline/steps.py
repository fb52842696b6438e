"""The long work: variants, their accuracy, their latency."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.backends import Session, backend
from planner.backends.base import CPU
from planner.backends.tensorrt import TENSORRT
from planner.capacity import instances_of, no_instances
from planner.catalog import slice_of
from planner.domain.model import BoundInput
from planner.domain.plan import BuiltEngine, Judgement
from planner.domain.problem import Rejection
from planner.domain.profile import Configuration, Environment, Profile, samples_for
from planner.domain.progress import Progress, Step, silent
from planner.domain.quality import Quality
from planner.domain.variant import BASELINE_RECIPE, Variant
from planner.domain.workload import Workload
from planner.errors import BackendError, VariantError
from planner.pipeline.engines import engine_of, outputs_at
from planner.pipeline.inputs import BACKEND, Entry, Prepared, environment_of, runs_on
from planner.pipeline.places import Place
from planner.pipeline.search import search_context
from planner.profiling.bench import Bench, Job, group_configurations, group_jobs
from planner.profiling.campaign import Campaign, measure_all
from planner.profiling.environment import usable_cores
from planner.profiling.guided import Group
from planner.profiling.recorded import Everywhere, Recorded
from planner.quality import assess, predict_all, undecided
from planner.spec import Spec
from planner.store import ProfileStore, QualityStore
from planner.variants import Context, evaluation_of, make_variant, recipe

EVALUATION_BATCH = 8
"""Small: large batches are slower per sample on a CPU, and need more memory."""


SAME_OUTPUTS = 1e-4
"""Of the largest output: what float32 sums in another order may differ by."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Variants with their accuracy on each backend that runs them, and those that could not be made or miss
    the floor. The reference, ONNX Runtime, has judged them all; the baseline comes first."""

    judgements: tuple[Judgement, ...]
    rejections: tuple[Rejection, ...]

    @property
    def variants(self) -> tuple[tuple[Variant, Quality], ...]:
        """As the reference judges them."""
        return tuple((j.variant, j.quality) for j in self.judgements if j.backend == BACKEND)

    def deciding(self, prepared: Prepared) -> tuple[Judgement, ...]:
        """Those on which it hangs whether a variant may serve."""
        return tuple(j for j in self.judgements if _decides(prepared, j))

    def serving(self, prepared: Prepared, backend_name: str | None = None) -> list[Variant]:
        """The variants that hold the accuracy floor on ``backend_name``, or on any backend (None), be it
        only the reference for want of one that runs them."""
        floor = prepared.spec.workload.floor
        average = prepared.spec.workload.floor_on_average
        held = [j for j in self.deciding(prepared) if average or floor.shortfall(j.quality) <= 0]
        judge = None if backend_name is None else _judged_by(prepared, backend_name)
        named = [j.variant for j in held if judge in (None, j.backend)]
        return list({variant.name: variant for variant in named}.values())


def _judged_by(prepared: Prepared, backend_name: str) -> str:
    """What judges a variant that is to serve on a backend: the backend itself, where it runs here."""
    return backend_name if backend_name in prepared.backends else BACKEND


def _decides(prepared: Prepared, judgement: Judgement) -> bool:
    """Whether it speaks for a backend that runs the variant, or no backend does and it is the reference's."""
    backends = runs_on(recipe(judgement.variant.recipe), prepared.spec.backends)
    return judgement.backend in {_judged_by(prepared, name) for name in backends} or (
        not backends and judgement.backend == BACKEND
    )


def judge(prepared: Prepared, progress: Progress = silent) -> Judged:
    """Make every variant and measure its accuracy. What cannot be made or misses the floor is a rejection."""
    spec = prepared.spec
    asked = [(entry, name) for entry in prepared.entries for name in entry.recipes]
    contexts = {entry.name: search_context(prepared, entry) for entry in prepared.entries}
    variants: list[Variant] = []
    rejections = []
    for done, (entry, name) in enumerate(asked):
        progress(Step("variants", f"{entry.name} {name}".strip(), done, len(asked)))
        try:
            variants.append(_make(prepared, entry, contexts[entry.name], name))
        except VariantError as error:
            if entry is prepared.main and name == BASELINE_RECIPE:
                raise
            rejections.append(Rejection("variant", f"{entry.name} {name}".strip(), str(error)))
    progress(Step("variants", "", len(asked), len(asked)))

    judge_one = _Judge(prepared, variants[0])
    judgements = []
    for done, variant in enumerate(variants):
        progress(Step("accuracy", variant.name, done, len(variants)))
        further = runs_on(recipe(variant.recipe), prepared.backends)
        for backend_name in dict.fromkeys((BACKEND, *further)):
            try:
                quality = judge_one(variant, backend_name)
                judgement = Judgement(variant, backend_name, quality, spec.workload.name)
            except (VariantError, BackendError) as error:
                if variant is variants[0] and backend_name == BACKEND:
                    raise
                rejections.append(Rejection("quality", _subject(variant, backend_name), str(error)))
                if backend_name == BACKEND:
                    break
                continue
            judgements.append(judgement)
            if _decides(prepared, judgement) and not spec.workload.floor_on_average:
                rejections.extend(_below_floor(spec, judgement))
    progress(Step("accuracy", "", len(variants), len(variants)))
    return Judged(tuple(judgements), tuple(rejections))


def _subject(variant: Variant, backend_name: str) -> str:
    return variant.name if backend_name == BACKEND else f"{variant.name} on {backend_name}"


def _make(prepared: Prepared, entry: Entry, context: Context, name: str) -> Variant:
    output = prepared.spec.output
    folder = output / "candidates" / entry.name if entry.name else output / "variants"
    return replace(make_variant(entry.model, name, context, folder), entrant=entry.name)


class _Judge:
    """Evaluates variants against the baseline; what was judged before comes from the store."""

    def __init__(self, prepared: Prepared, baseline: Variant) -> None:
        self._prepared = prepared
        self._store = QualityStore(prepared.spec.output / "quality")
        self._baseline = baseline
        self._outputs: dict[str, list[np.ndarray]] = {}
        """The reference's, of the baseline and of the latest variant: the others are not needed again."""

    def __call__(self, variant: Variant, backend_name: str) -> Quality:
        """The accuracy of ``variant`` on a backend, the drop counted from the baseline on the reference."""
        key = self._key(variant, backend_name)
        known = self._store.find(*key)
        if known is not None:
            return known
        quality = self._measured(variant, backend_name)
        self._store.put(quality, *key)
        return quality

    def _key(self, variant: Variant, backend_name: str) -> tuple[str, ...]:
        prepared, metric = self._prepared, self._prepared.metric
        names = dict.fromkeys((BACKEND, backend_name))
        libraries = [f"{name} {version}" for b in names for name, version in backend(b).libraries()]
        data = (prepared.main.evaluation.digest, entry_of(prepared, variant).evaluation.digest)
        hashes = (variant.sha256, self._baseline.sha256)
        elsewhere = () if backend_name == BACKEND else (backend_name,)
        return (
            metric.name,
            metric.version,
            *hashes,
            *data,
            prepared.environment.cpu_model,
            *libraries,
            *elsewhere,
        )

    def _measured(self, variant: Variant, backend_name: str) -> Quality:
        metric, labels = self._prepared.metric, self._prepared.main.evaluation.labels
        reference = self._reference(self._baseline)
        if backend_name == BACKEND:
            quality = assess(metric, self._reference(variant), reference, labels)
            if variant == self._baseline:
                # What is measured against itself has lost nothing; that needs no samples to tell.
                return replace(quality, drop=0.0, drop_low=0.0, drop_high=0.0)
            return quality
        outputs = self._on_target(variant, backend_name)
        quality = assess(metric, outputs, reference, labels)
        on_reference = self(variant, BACKEND)
        if quality.value == on_reference.value and _same(outputs, self._reference(variant)):
            # Nothing but the order of sums differs: no reason to doubt more than on the reference.
            return on_reference
        return quality

    def _on_target(self, variant: Variant, backend_name: str) -> list[np.ndarray]:
        """By the very engine that would serve; one kind of device speaks for all that run it."""
        prepared, entry = self._prepared, entry_of(self._prepared, variant)
        runs = backend(backend_name).runs_on
        place = next(place for place in prepared.places if place.runs_on == runs)
        engine = engine_of(prepared, entry, variant, backend_name, place)
        size = EVALUATION_BATCH
        if backend_name in TENSORRT:
            size = min(size, max(prepared.spec.batch_sizes))
        return outputs_at(place, engine, backend_name, entry.evaluation, entry, size)

    def _reference(self, variant: Variant) -> list[np.ndarray]:
        if variant.name not in self._outputs:
            how = evaluation_of(variant)
            self._outputs = {n: o for n, o in self._outputs.items() if n == self._baseline.name}
            with backend(BACKEND).load(how.path, usable_cores(), how.optimized) as session:
                self._outputs[variant.name] = self._predict(session, variant)
        return self._outputs[variant.name]

    def _predict(self, session: Session, variant: Variant) -> list[np.ndarray]:
        entry = entry_of(self._prepared, variant)
        return predict_all(session.infer, entry.evaluation, entry.inputs, EVALUATION_BATCH)


def _same(outputs: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=0, atol=SAME_OUTPUTS * float(np.abs(b).max(initial=0)))
        for a, b in zip(outputs, others, strict=True)
    )


def entry_of(prepared: Prepared, variant: Variant) -> Entry:
    """The entry that a variant was made from."""
    return next(entry for entry in prepared.entries if entry.name == variant.entrant)


def _below_floor(spec: Spec, judgement: Judgement) -> Iterator[Rejection]:
    floor, quality = spec.workload.floor, judgement.quality
    if floor.shortfall(quality) <= 0:
        return
    if floor.minimum is not None:
        got = f"{quality.value:.4f} ({quality.low:.4f} to {quality.high:.4f})"
        asked = f"{'at least' if quality.higher_is_better else 'at most'} {floor.minimum:g}"
    else:
        got = f"a drop of {quality.drop:.4f} ({quality.drop_low:.4f} to {quality.drop_high:.4f})"
        asked = f"at most {floor.max_drop:g}"
    open_question = undecided(quality, floor)
    yield Rejection(
        "quality",
        _subject(judgement.variant, judgement.backend),
        f"{quality.metric}: {got} on {quality.samples} samples, the floor asks for {asked} "
        f"(judged by {floor.by})" + (f"; {open_question}" if open_question else ""),
    )


@dataclass(frozen=True, slots=True)
class Measurable:
    """What can be measured here, in groups, with the bench to do it; and what cannot, with the reason.

    ``bench`` also has the profiles that were taken elsewhere, of devices that are not here."""

    bench: Everywhere
    groups: tuple[Group, ...]
    rejections: tuple[Rejection, ...]
    priced_as: Mapping[str, str]
    """By what profiles call a device, the catalog's name of it."""
    slices: Mapping[str, tuple[int, int]]
    """Of devices that are parts of what they are priced as: how many of its compute and memory slices."""
    notes: tuple[str, ...] = ()
    built: tuple[BuiltEngine, ...] = ()


@contextmanager
def measurable(
    prepared: Prepared, judged: Judged, progress: Progress = silent, *, elsewhere: bool = True
) -> Iterator[Measurable]:
    """Every configuration of the variants that hold the floor; its inputs exist until the context ends.

    ``elsewhere``: those included that other devices have full profiles of.
    """
    spec, cores = prepared.spec, prepared.environment.cores
    grid = [
        (cell, place)
        for place in prepared.places
        for name in prepared.backends
        if backend(name).runs_on == place.runs_on
        for cell in configurations(prepared, runnable(prepared, judged, name), name, place)
    ]
    rejections = [
        Rejection("profile", cell.describe(), f"this machine has {cores} cores to measure on")
        for cell, _ in grid
        if cell.configuration.threads > cores
    ]
    environments = {name: environment_of(prepared, name) for name in prepared.backends}
    jobs = []
    engine = _Engines(prepared)
    with ExitStack() as stack:
        feeds = stack.enter_context(feeds_for(prepared, {cell.feed for cell, _ in grid}))
        for cell, place in grid:
            c = cell.configuration
            if c.threads > cores:
                continue
            built = engine(cell.variant, c.backend, place)
            if built is not None:
                jobs.append(Job(c, built, feeds[cell.feed], place.gpu, request_class=cell.request_class))
        bench = stack.enter_context(
            Bench(
                jobs,
                ProfileStore(spec.profiles),
                lambda c: environments[c.backend],
                spec.workload.slo.percentile,
                progress=progress,
            )
        )
        others = taken_elsewhere(prepared, judged) if elsewhere else Elsewhere((), {}, (), (), {})
        classes = [name for name, _ in prepared.main.by_class]
        names = {place.device: place.priced_as.name for place in prepared.places}
        found = (
            *group_jobs(jobs, classes),
            *group_configurations(others.classes, classes, others.classes.__getitem__),
        )
        groups, too_few = _with_instances(found, spec.workload)
        yield Measurable(
            Everywhere(bench, Recorded(others.profiles, spec.workload.slo.percentile)),
            groups,
            (*run_elsewhere(prepared, judged), *rejections, *engine.rejections, *others.rejections, *too_few),
            names | {device: parent for device, (parent, _) in others.devices.items()},
            {place.device: place.slices for place in prepared.places if place.slices}
            | {device: slices for device, (_, slices) in others.devices.items() if slices},
            others.notes,
            engine.built(),
        )


def _with_instances(
    groups: Iterable[Group], workload: Workload
) -> tuple[tuple[Group, ...], tuple[Rejection, ...]]:
    """The groups with how many instances of each may share a queue; those that no number is for, rejected."""
    kept, rejected = [], []
    for group in groups:
        first = group.configurations[0]
        instances = instances_of(first, workload, side_by_side=backend(first.backend).runs_on == CPU)
        if instances:
            kept.append(replace(group, instances=instances))
        else:
            rejected.append(Rejection("profile", group.name, no_instances(first, workload)))
    return tuple(kept), tuple(rejected)


class _Engines:
    """Each engine once, and those that could not be built."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._found: dict[tuple[str, str, str], Path | None] = {}
        self.rejections: list[Rejection] = []

    def __call__(self, variant: Variant, backend_name: str, place: Place) -> Path | None:
        key = (variant.sha256, backend_name, place.device)
        if key not in self._found:
            entry = entry_of(self._prepared, variant)
            try:
                self._found[key] = engine_of(self._prepared, entry, variant, backend_name, place)
            except BackendError as error:
                subject = f"{variant.name} on {place.device}, {backend_name}"
                self.rejections.append(Rejection("profile", subject, str(error)))
                self._found[key] = None
        return self._found[key]

    def built(self) -> tuple[BuiltEngine, ...]:
        shown = {p.device: p.device if p.slices else p.priced_as.name for p in self._prepared.places}
        return tuple(
            BuiltEngine(sha256, name, shown[device], path)
            for (sha256, name, device), path in self._found.items()
            if path is not None and name in TENSORRT
        )


def runnable(prepared: Prepared, judged: Judged, backend_name: str) -> list[Variant]:
    """The variants that hold the floor on a backend, and that it runs."""
    serving = judged.serving(prepared, backend_name)
    return [v for v in serving if runs_on(recipe(v.recipe), (backend_name,))]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Full profiles of devices that are not here, of one environment for each device and backend."""

    profiles: tuple[Profile, ...]
    devices: Mapping[str, tuple[str, tuple[int, int] | None]]
    """By what profiles call it: the catalog's name, and the slices where it is a part of that."""
    rejections: tuple[Rejection, ...]
    notes: tuple[str, ...]
    classes: Mapping[Configuration, str]
    """Whose requests each profile is of."""


def stored_profiles(prepared: Prepared) -> list[Profile]:
    """What the store holds of the models that compete, wherever it was taken."""
    store = ProfileStore(prepared.spec.profiles)
    models = dict.fromkeys(entry.model.sha256 for entry in prepared.entries)
    return [profile for sha256 in models for profile in store.of_model(sha256)]


def taken_elsewhere(prepared: Prepared, judged: Judged) -> Elsewhere:
    """What the store holds of the variants that hold the floor, taken on other kinds of device."""
    spec = prepared.spec
    here = {place.device for place in prepared.places}
    variants = {(name, v.sha256): v for name in spec.backends for v in runnable(prepared, judged, name)}
    needed = samples_for(spec.workload.slo.percentile)
    by_kind: dict[tuple[str, str], dict[Environment, list[Profile]]] = {}
    classes: dict[Configuration, str] = {}
    for profile in stored_profiles(prepared):
        c = profile.configuration
        variant = variants.get((c.backend, c.variant_sha256))
        if (
            profile.source
            or c.device in here
            or variant is None
            or variant.name != c.variant
            or c.batch_size not in spec.batch_sizes
            or (spec.threads and backend(c.backend).runs_on == CPU and c.threads not in spec.threads)
            or len(profile.samples_ns) < needed
        ):
            continue
        sizes = entry_of(prepared, variant).by_class
        of_class = next((name for name, i in sizes if c.shapes == _shapes(i, c.batch_size)), None)
        if of_class is None:
            continue
        classes[c] = of_class
        by_kind.setdefault((c.device, c.backend), {}).setdefault(profile.environment, []).append(profile)
    whole = {device.name for device in prepared.catalog.devices}
    devices: dict[str, tuple[str, tuple[int, int] | None]] = {}
    found, rejections, notes = [], [], []
    for (device, name), environments in sorted(by_kind.items()):
        part = slice_of(device, prepared.catalog)
        if part is not None:
            devices[device] = (part[0].name, part[1])
        elif device in whole:
            devices[device] = (device, None)
        else:
            reason = (
                "there are profiles of it, and the catalog has no such device; add it to your own catalog"
            )
            rejections.append(Rejection("fleet", device, reason))
            continue
        chosen = max(environments, key=lambda e: (max(p.taken_at for p in environments[e]), e.id))
        found += environments[chosen]
        if len(environments) > 1:
            notes.append(
                f"Profiles of {device} with {name} were taken in {len(environments)} environments; "
                f"the latest, {chosen.id}, is used (planner profiles compare shows how they differ)."
            )
    of = {profile.configuration: classes[profile.configuration] for profile in found}
    return Elsewhere(tuple(found), devices, tuple(rejections), tuple(notes), of)


def run_elsewhere(prepared: Prepared, judged: Judged) -> list[Rejection]:
    """The variants that no backend of the run runs, each with those that would."""
    backends = prepared.spec.backends
    return [
        Rejection(
            "profile", v.name, f"runs on {', '.join(sorted(made_by.backends))}; here is {', '.join(backends)}"
        )
        for v in judged.serving(prepared)
        if not runs_on(made_by := recipe(v.recipe), backends)
    ]


def profile(prepared: Prepared, judged: Judged, progress: Progress = silent) -> Campaign:
    """Measure everything that holds the floor and can serve here, or find it in the profile store."""
    with measurable(prepared, judged, progress, elsewhere=False) as here:
        campaign = measure_all(here.bench, here.groups, prepared.spec.workload.slo.budget_ns)
    return replace(campaign, rejections=(*here.rejections, *campaign.rejections))


@dataclass(frozen=True, slots=True)
class Cell:
    """One place in the grid of what is measured: ``request_class`` tells what its inputs are, "" where all
    requests are alike."""

    configuration: Configuration
    variant: Variant
    request_class: str

    @property
    def feed(self) -> Feed:
        return self.variant.entrant, self.request_class, self.configuration.batch_size

    def describe(self) -> str:
        told = self.configuration.describe()
        return f"{told}, {self.request_class}" if self.request_class else told


Feed = tuple[str, str, int]
"""Inputs to time with: the entrant's name, the class of requests and the batch size."""


def configurations(
    prepared: Prepared, variants: list[Variant], backend_name: str, place: Place
) -> list[Cell]:
    """The grid: variant x class x thread count x batch size, as many replicas at once as the cores hold.

    On a GPU one replica has it for itself, with each number of instances that may be asked of it; threads
    mean nothing there.
    """
    spec, on_cpu = prepared.spec, place.runs_on == CPU
    if on_cpu:
        runs = [(t, max(place.cores // t, 1)) for t in spec.threads or _powers_of_two(place.cores)]
    else:
        runs = [(1, instances) for instances in spec.workload.batching.instances]
    grid = []
    for variant in variants:
        entry = entry_of(prepared, variant)
        fixed = all(i.batch_axis is None for i in entry.inputs)
        for name, inputs in entry.by_class:
            for threads, replicas in runs:
                for batch_size in (1,) if fixed else spec.batch_sizes:
                    configuration = Configuration(
                        model_sha256=entry.model.sha256,
                        variant=variant.name,
                        variant_sha256=variant.sha256,
                        device=place.device,
                        backend=backend_name,
                        batch_size=batch_size,
                        threads=threads,
                        replicas=replicas,
                        shapes=_shapes(inputs, batch_size),
                    )
                    grid.append(Cell(configuration, variant, name))
    return grid


def _shapes(inputs: Iterable[BoundInput], batch_size: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((i.name, i.shape_at(batch_size)) for i in inputs)


def _powers_of_two(cores: int) -> tuple[int, ...]:
    return tuple(2**k for k in range(cores.bit_length()) if 2**k <= cores)


@contextmanager
def feeds_for(prepared: Prepared, wanted: set[Feed]) -> Iterator[dict[Feed, Path]]:
    """Inputs to time with, an `.npz` each: real evaluation samples, cut to the size of the class, or repeated
    along an axis until they have it."""
    entries = {entry.name: entry for entry in prepared.entries}
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        feeds = {}
        for number, (name, of_class, size) in enumerate(sorted(wanted)):
            entry = entries[name]
            shapes = {i.name: i.shape_at(size) for i in dict(entry.by_class)[of_class]}
            path = feeds[name, of_class, size] = Path(folder) / f"{number}.npz"
            # Not numpy.savez: an input may be called `file`, like its first parameter.
            with zipfile.ZipFile(path, "w") as archive:
                for tensor, array in entry.evaluation.batch(range(size), entry.inputs).items():
                    with archive.open(f"{tensor}.npy", "w") as member:
                        np.lib.format.write_array(member, _fitted(array, shapes[tensor]), allow_pickle=False)
        yield feeds


def _fitted(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    for axis, size in enumerate(shape):
        if array.shape[axis] != size:
            array = array.take(np.arange(size) % array.shape[axis], axis=axis)
    return array
