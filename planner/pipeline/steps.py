"""The long work: variants, their accuracy, their latency."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.backends import backend
from planner.domain.problem import Rejection
from planner.domain.profile import Configuration
from planner.domain.progress import Progress, Step, silent
from planner.domain.quality import Quality
from planner.domain.variant import BASELINE_RECIPE, Variant
from planner.errors import VariantError
from planner.pipeline.inputs import BACKEND, Entry, Prepared
from planner.pipeline.search import search_context
from planner.profiling.environment import usable_cores
from planner.profiling.local import Campaign, Job, profile_all
from planner.quality import assess, predict_all, undecided
from planner.spec import Spec
from planner.store import ProfileStore, QualityStore
from planner.variants import Context, evaluation_of, make_variant, recipe

EVALUATION_BATCH = 8
"""Small: large batches are slower per sample on a CPU, and need more memory."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Variants with their accuracy, and those that could not be made or miss the floor."""

    variants: tuple[tuple[Variant, Quality], ...]
    rejections: tuple[Rejection, ...]

    def serving(self, prepared: Prepared) -> list[Variant]:
        """The variants that hold the accuracy floor."""
        floor = prepared.spec.workload.floor
        return [variant for variant, quality in self.variants if floor.shortfall(quality) <= 0]


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

    judge_one = _Judge(prepared)
    judged = []
    for done, variant in enumerate(variants):
        progress(Step("accuracy", variant.name, done, len(variants)))
        try:
            quality = judge_one(variant, variants[0])
        except VariantError as error:
            if variant is variants[0]:
                raise
            rejections.append(Rejection("quality", variant.name, str(error)))
            continue
        judged.append((variant, quality))
        rejections.extend(_below_floor(spec, variant, quality))
    progress(Step("accuracy", "", len(variants), len(variants)))
    return Judged(tuple(judged), tuple(rejections))


def _make(prepared: Prepared, entry: Entry, context: Context, name: str) -> Variant:
    output = prepared.spec.output
    folder = output / "candidates" / entry.name if entry.name else output / "variants"
    return replace(make_variant(entry.model, name, context, folder), entrant=entry.name)


class _Judge:
    """Evaluates variants against the baseline; what was judged before comes from the store."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._store = QualityStore(prepared.spec.output / "quality")
        self._engine = backend(BACKEND)
        self._baseline: list[np.ndarray] | None = None

    def __call__(self, variant: Variant, baseline: Variant) -> Quality:
        prepared = self._prepared
        metric = prepared.metric
        libraries = [f"{name} {version}" for name, version in self._engine.libraries()]
        cpu = prepared.environment.cpu_model
        data = (prepared.main.evaluation.digest, entry_of(prepared, variant).evaluation.digest)
        key = (metric.name, metric.version, variant.sha256, baseline.sha256, *data, cpu, *libraries)
        known = self._store.find(*key)
        if known is not None:
            return known
        if self._baseline is None:
            self._baseline = self._outputs(baseline)
        same = variant == baseline
        outputs = self._baseline if same else self._outputs(variant)
        quality = assess(metric, outputs, self._baseline, prepared.main.evaluation.labels)
        if same:
            # What is measured against itself has lost nothing; that needs no samples to tell.
            quality = replace(quality, drop=0.0, drop_low=0.0, drop_high=0.0)
        self._store.put(quality, *key)
        return quality

    def _outputs(self, variant: Variant) -> list[np.ndarray]:
        entry = entry_of(self._prepared, variant)
        how = evaluation_of(variant)
        with self._engine.load(how.path, usable_cores(), how.optimized) as session:
            return predict_all(session.infer, entry.evaluation, entry.inputs, EVALUATION_BATCH)


def entry_of(prepared: Prepared, variant: Variant) -> Entry:
    """The entry that a variant was made from."""
    return next(entry for entry in prepared.entries if entry.name == variant.entrant)


def _below_floor(spec: Spec, variant: Variant, quality: Quality) -> Iterator[Rejection]:
    floor = spec.workload.floor
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
        variant.name,
        f"{quality.metric}: {got} on {quality.samples} samples, the floor asks for {asked} "
        f"(judged by {floor.by})" + (f"; {open_question}" if open_question else ""),
    )


def profile(prepared: Prepared, judged: Judged, progress: Progress = silent) -> Campaign:
    """Measure what holds the floor on this machine, or find it in the profile store."""
    spec = prepared.spec
    cores = prepared.environment.cores
    serving = judged.serving(prepared)
    grid = configurations(prepared, [v for v in serving if BACKEND in recipe(v.recipe).backends])
    too_wide = [
        Rejection("profile", c.describe(), f"this machine has {cores} cores to measure on")
        for c, _ in grid
        if c.threads > cores
    ]
    elsewhere = [
        Rejection("profile", v.name, f"runs on {', '.join(sorted(backends))}; here is {BACKEND}")
        for v in serving
        if BACKEND not in (backends := recipe(v.recipe).backends)
    ]
    wanted = {(v.entrant, c.batch_size) for c, v in grid}
    with _feeds(prepared, wanted) as feeds:
        campaign = profile_all(
            [Job(c, v.path, feeds[v.entrant, c.batch_size]) for c, v in grid if c.threads <= cores],
            ProfileStore(spec.profiles),
            prepared.environment,
            spec.workload.slo.percentile,
            spec.workload.slo.budget_ns,
            progress=progress,
        )
    return replace(campaign, rejections=(*elsewhere, *too_wide, *campaign.rejections))


def configurations(prepared: Prepared, variants: list[Variant]) -> list[tuple[Configuration, Variant]]:
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
                    backend=BACKEND,
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
def _feeds(prepared: Prepared, wanted: set[tuple[str, int]]) -> Iterator[dict[tuple[str, int], Path]]:
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
