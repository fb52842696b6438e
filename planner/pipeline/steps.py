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
from planner.pipeline.inputs import BACKEND, Prepared
from planner.profiling.environment import usable_cores
from planner.profiling.local import Campaign, Job, profile_all
from planner.quality import assess, predict_all
from planner.spec import Spec
from planner.store import ProfileStore, QualityStore
from planner.variants import Context, make_variant

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
    context = Context(prepared.inputs, prepared.calibration.inputs)
    names = recipes(spec)
    variants, rejections = [], []
    for done, name in enumerate(names):
        progress(Step("variants", name, done, len(names)))
        try:
            variants.append(make_variant(prepared.model, name, context, spec.output / "variants"))
        except VariantError as error:
            if name == BASELINE_RECIPE:
                raise
            rejections.append(Rejection("variant", name, str(error)))
    progress(Step("variants", "", len(names), len(names)))

    judge_one = _Judge(prepared)
    judged = []
    for done, variant in enumerate(variants):
        progress(Step("accuracy", variant.recipe, done, len(variants)))
        quality = judge_one(variant, variants[0])
        judged.append((variant, quality))
        rejections.extend(_below_floor(spec, variant, quality))
    progress(Step("accuracy", "", len(variants), len(variants)))
    return Judged(tuple(judged), tuple(rejections))


class _Judge:
    """Evaluates variants against the baseline; what was judged before comes from the store."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._store = QualityStore(prepared.spec.output / "quality")
        self._engine = backend(BACKEND)
        self._baseline: list[np.ndarray] | None = None

    def __call__(self, variant: Variant, baseline: Variant) -> Quality:
        prepared = self._prepared
        metric = prepared.spec.workload.floor.metric
        libraries = [f"{name} {version}" for name, version in self._engine.libraries()]
        cpu = prepared.environment.cpu_model
        key = (metric, variant.sha256, baseline.sha256, prepared.evaluation.digest, cpu, *libraries)
        known = self._store.find(*key)
        if known is not None:
            return known
        if self._baseline is None:
            self._baseline = self._outputs(baseline)
        same = variant.sha256 == baseline.sha256
        outputs = self._baseline if same else self._outputs(variant)
        quality = assess(metric, outputs, self._baseline, prepared.evaluation.labels)
        if same:
            # What is measured against itself has lost nothing; that needs no samples to tell.
            quality = replace(quality, drop=0.0, drop_low=0.0, drop_high=0.0)
        self._store.put(quality, *key)
        return quality

    def _outputs(self, variant: Variant) -> list[np.ndarray]:
        prepared = self._prepared
        with self._engine.load(variant.path, usable_cores()) as session:
            return predict_all(session.infer, prepared.evaluation, prepared.inputs, EVALUATION_BATCH)


def recipes(spec: Spec) -> tuple[str, ...]:
    """The baseline comes first and always: every drop and every saving is counted from it."""
    return (BASELINE_RECIPE, *(name for name in spec.recipes if name != BASELINE_RECIPE))


def _below_floor(spec: Spec, variant: Variant, quality: Quality) -> Iterator[Rejection]:
    floor = spec.workload.floor
    if floor.shortfall(quality) <= 0:
        return
    if floor.minimum is not None:
        got = f"{quality.value:.4f} ({quality.low:.4f} to {quality.high:.4f})"
        asked = f"at least {floor.minimum:g}"
    else:
        got = f"a drop of {quality.drop:.4f} ({quality.drop_low:.4f} to {quality.drop_high:.4f})"
        asked = f"at most {floor.max_drop:g}"
    yield Rejection(
        "quality",
        variant.recipe,
        f"{quality.metric}: {got} on {quality.samples} samples, the floor asks for {asked} "
        f"(judged by {floor.by})",
    )


def profile(prepared: Prepared, judged: Judged, progress: Progress = silent) -> Campaign:
    """Measure what holds the floor on this machine, or find it in the profile store."""
    spec = prepared.spec
    cores = prepared.environment.cores
    grid = configurations(prepared, judged.serving(prepared))
    too_wide = [
        Rejection("profile", c.describe(), f"this machine has {cores} cores to measure on")
        for c, _ in grid
        if c.threads > cores
    ]
    with _feeds(prepared, {c.batch_size for c, _ in grid}) as feeds:
        campaign = profile_all(
            [Job(c, variant.path, feeds[c.batch_size]) for c, variant in grid if c.threads <= cores],
            ProfileStore(spec.profiles),
            prepared.environment,
            spec.workload.slo.percentile,
            spec.workload.slo.budget_ns,
            progress=progress,
        )
    return replace(campaign, rejections=(*too_wide, *campaign.rejections))


def configurations(prepared: Prepared, variants: list[Variant]) -> list[tuple[Configuration, Variant]]:
    """The grid: variant x thread count x batch size, as many replicas at once as the cores hold."""
    spec, cores = prepared.spec, prepared.environment.cores
    fixed = all(i.batch_axis is None for i in prepared.inputs)
    grid = []
    for variant in variants:
        for threads in spec.threads or _powers_of_two(cores):
            for batch_size in (1,) if fixed else spec.batch_sizes:
                configuration = Configuration(
                    model_sha256=prepared.model.sha256,
                    recipe=variant.recipe,
                    variant_sha256=variant.sha256,
                    device=prepared.cpu.device.name,
                    backend=BACKEND,
                    batch_size=batch_size,
                    threads=threads,
                    replicas=max(cores // threads, 1),
                    shapes=tuple((i.name, i.shape_at(batch_size)) for i in prepared.inputs),
                )
                grid.append((configuration, variant))
    return grid


def _powers_of_two(cores: int) -> tuple[int, ...]:
    return tuple(2**k for k in range(cores.bit_length()) if 2**k <= cores)


@contextmanager
def _feeds(prepared: Prepared, batch_sizes: set[int]) -> Iterator[dict[int, Path]]:
    """Inputs to time with, real evaluation samples, as one `.npz` for each batch size."""
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        feeds = {}
        for size in batch_sizes:
            feeds[size] = Path(folder) / f"{size}.npz"
            # Not numpy.savez: an input may be called `file`, like its first parameter.
            with zipfile.ZipFile(feeds[size], "w") as archive:
                for name, array in prepared.evaluation.batch(range(size), prepared.inputs).items():
                    with archive.open(f"{name}.npy", "w") as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
        yield feeds
