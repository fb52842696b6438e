"""The long work: variants, their accuracy, their latency."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.backends import Session, backend
from planner.domain.plan import Judgement
from planner.domain.problem import Rejection
from planner.domain.profile import Configuration
from planner.domain.progress import Progress, Step, silent
from planner.domain.quality import Quality
from planner.domain.variant import BASELINE_RECIPE, Variant
from planner.errors import BackendError, VariantError
from planner.pipeline.inputs import BACKEND, Entry, Prepared, environment_of, runs_on
from planner.pipeline.search import search_context
from planner.profiling.bench import Bench, Job, group_jobs
from planner.profiling.campaign import Campaign, measure_all
from planner.profiling.environment import usable_cores
from planner.profiling.guided import Group
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
        held = [j for j in self.deciding(prepared) if floor.shortfall(j.quality) <= 0]
        named = [j.variant for j in held if backend_name in (None, j.backend)]
        return list({variant.name: variant for variant in named}.values())


def _decides(prepared: Prepared, judgement: Judgement) -> bool:
    """Whether the variant may serve on the backend, or no backend runs it and the reference speaks for it."""
    backends = runs_on(recipe(judgement.variant.recipe), prepared.spec.backends)
    return judgement.backend in backends or (not backends and judgement.backend == BACKEND)


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
        further = runs_on(recipe(variant.recipe), prepared.spec.backends)
        for backend_name in dict.fromkeys((BACKEND, *further)):
            try:
                judgement = Judgement(variant, backend_name, judge_one(variant, backend_name))
            except (VariantError, BackendError) as error:
                if variant is variants[0] and backend_name == BACKEND:
                    raise
                rejections.append(Rejection("quality", _subject(variant, backend_name), str(error)))
                if backend_name == BACKEND:
                    break
                continue
            judgements.append(judgement)
            if _decides(prepared, judgement):
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
        with backend(backend_name).load(variant.path, usable_cores()) as session:
            outputs = self._predict(session, variant)
        quality = assess(metric, outputs, reference, labels)
        on_reference = self(variant, BACKEND)
        if quality.value == on_reference.value and _same(outputs, self._reference(variant)):
            # Nothing but the order of sums differs: no reason to doubt more than on the reference.
            return on_reference
        return quality

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
    """What can be measured here, in groups, with the bench to do it; and what cannot, with the reason."""

    bench: Bench
    groups: tuple[Group, ...]
    rejections: tuple[Rejection, ...]


@contextmanager
def measurable(prepared: Prepared, judged: Judged, progress: Progress = silent) -> Iterator[Measurable]:
    """Every configuration of the variants that hold the floor; its inputs exist until the context ends."""
    spec, cores = prepared.spec, prepared.environment.cores
    grid = []
    for name in spec.backends:
        serving = judged.serving(prepared, name)
        grid += configurations(prepared, [v for v in serving if runs_on(recipe(v.recipe), (name,))], name)
    too_wide = [
        Rejection("profile", c.describe(), f"this machine has {cores} cores to measure on")
        for c, _ in grid
        if c.threads > cores
    ]
    environments = {name: environment_of(prepared, name) for name in spec.backends}
    with feeds_for(prepared, {(v.entrant, c.batch_size) for c, v in grid}) as feeds:
        jobs = [Job(c, v.path, feeds[v.entrant, c.batch_size]) for c, v in grid if c.threads <= cores]
        bench = Bench(
            jobs,
            ProfileStore(spec.profiles),
            lambda c: environments[c.backend],
            spec.workload.slo.percentile,
            progress=progress,
        )
        yield Measurable(bench, group_jobs(jobs), (*run_elsewhere(prepared, judged), *too_wide))


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
    with measurable(prepared, judged, progress) as here:
        campaign = measure_all(here.bench, here.groups, prepared.spec.workload.slo.budget_ns)
    return replace(campaign, rejections=(*here.rejections, *campaign.rejections))


def configurations(
    prepared: Prepared, variants: list[Variant], backend_name: str
) -> list[tuple[Configuration, Variant]]:
    """The grid: variant x thread count x batch size, as many replicas at once as the cores hold."""
    spec, cores = prepared.spec, prepared.environment.cores
    grid = []
    for variant in variants:
        entry = entry_of(prepared, variant)
        fixed = all(i.batch_axis is None for i in entry.inputs)
        for threads in spec.threads or _powers_of_two(cores):
            for batch_size in (1,) if fixed else spec.batch_sizes:
                configuration = Configuration(
                    model_sha256=entry.model.sha256,
                    variant=variant.name,
                    variant_sha256=variant.sha256,
                    device=prepared.cpu.device.name,
                    backend=backend_name,
                    batch_size=batch_size,
                    threads=threads,
                    replicas=max(cores // threads, 1),
                    shapes=tuple((i.name, i.shape_at(batch_size)) for i in entry.inputs),
                )
                grid.append((configuration, variant))
    return grid


def _powers_of_two(cores: int) -> tuple[int, ...]:
    return tuple(2**k for k in range(cores.bit_length()) if 2**k <= cores)


@contextmanager
def feeds_for(prepared: Prepared, wanted: set[tuple[str, int]]) -> Iterator[dict[tuple[str, int], Path]]:
    """Inputs to time with, real evaluation samples: an `.npz` for each entrant's name and batch size."""
    entries = {entry.name: entry for entry in prepared.entries}
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        feeds = {}
        for number, (name, size) in enumerate(sorted(wanted)):
            entry = entries[name]
            path = feeds[name, size] = Path(folder) / f"{number}.npz"
            # Not numpy.savez: an input may be called `file`, like its first parameter.
            with zipfile.ZipFile(path, "w") as archive:
                for tensor, array in entry.evaluation.batch(range(size), entry.inputs).items():
                    with archive.open(f"{tensor}.npy", "w") as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
        yield feeds
