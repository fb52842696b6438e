"""A workload by profiles that were measured elsewhere, or published: nothing is made or measured."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.capacity import instances_of, no_instances, servings
from planner.catalog import Catalog
from planner.domain.offer import Offer
from planner.domain.plan import ImportedProfiles, Judgement, Planned, Serving
from planner.domain.problem import Candidate, Rejection
from planner.domain.profile import Profile
from planner.domain.progress import Progress, Step, silent
from planner.domain.quality import AccuracyFloor, Quality
from planner.domain.variant import BASELINE_RECIPE, Variant
from planner.errors import InfeasibleError, SpecError
from planner.pipeline.blocked import blocked_by_slo
from planner.pipeline.services import Service, quality_of
from planner.pipeline.solution import why_not_sold
from planner.profiling.campaign import Campaign
from planner.quality import metric
from planner.spec import Imported, Spec
from planner.store import ProfileStore, locate, profiles_of, writable_folder

DECLARED = "declared"
"""In place of the backend that computed the outputs which an accuracy is of."""


@dataclass(frozen=True, slots=True)
class Usable:
    """The profiles that may serve, on the catalog's devices, and what fell out.

    ``on_cpu``: those of the devices whose cores replicas share."""

    by_device: tuple[tuple[str, tuple[Profile, ...]], ...]
    rejections: tuple[Rejection, ...]
    on_cpu: frozenset[str]


def imported_service(
    spec: Spec,
    imported: Imported,
    catalog: Catalog,
    offers: Sequence[Offer],
    several: bool,
    progress: Progress,
) -> Service:
    """A workload by imported profiles. Raises InfeasibleError where none can serve it."""
    source, profiles = read_profiles(spec, imported)
    judgements = judge(spec, imported)
    usable = _usable(spec, imported, catalog, offers, judgements, source, profiles)
    writable_folder(spec.output)
    accepted, refused = _servings(spec, imported, usable, judgements, several, progress)
    return Service(
        spec=spec,
        planned=Planned(
            spec.workload,
            model=None,
            calibration=None,
            evaluation=None,
            imported=ImportedProfiles(
                name=imported.profiles,
                sha256=_digest(source),
                model=", ".join(dict.fromkeys(p.configuration.model for p in profiles)),
                profiles=len(profiles),
            ),
        ),
        judgements=judgements,
        rejections=(*usable.rejections, *refused),
        notes=lambda used: _notes(imported, used),
        servings=tuple(accepted),
        several=several,
    )


def imported_candidates(
    spec: Spec, imported: Imported, catalog: Catalog, offers: Sequence[Offer], several: bool
) -> list[Candidate]:
    """Those of ``imported_service``, with its errors, but without a place for a plan's files."""
    source, profiles = read_profiles(spec, imported)
    judgements = judge(spec, imported)
    usable = _usable(spec, imported, catalog, offers, judgements, source, profiles)
    accepted, _ = _servings(spec, imported, usable, judgements, several, silent)
    return [serving.candidate for serving in accepted]


def read_profiles(spec: Spec, imported: Imported) -> tuple[Path, tuple[Profile, ...]]:
    """Where the profiles are, and those of the model asked for. Raises SpecError where that is unclear."""
    source = locate(imported.profiles, spec.base)
    found = ProfileStore(source).all() if source.is_dir() else profiles_of(source)
    profiles = tuple(profile for profile in found if profile.source)
    models = sorted({profile.configuration.model for profile in profiles})
    if not models:
        raise SpecError(f"{spec.path}: imported.profiles: {source} holds no imported profile; name another")
    for name, model in imported.class_models:
        if model not in models:
            where = f"workload.classes: {name}: imported_model"
            raise SpecError(f"{spec.path}: {where}: expected one of {', '.join(models)}, got {model}")
    wanted = {model for _, model in imported.class_models} or {imported.model or models[0]}
    if not wanted <= set(models) or (not imported.class_models and not imported.model and len(models) > 1):
        got = f", got {imported.model}" if imported.model else ""
        raise SpecError(f"{spec.path}: imported.model: expected one of {', '.join(models)}{got}")
    chosen = tuple(profile for profile in profiles if profile.configuration.model in wanted)
    _check_sources(source, chosen)
    return source, chosen


def judge(spec: Spec, imported: Imported) -> tuple[Judgement, ...]:
    """What is declared of each variant, the baseline first. No interval is known: both ends are the value."""
    floor = spec.workload.floor
    values = {declared.variant: declared.value for declared in imported.declared}
    reference = values.get(BASELINE_RECIPE)
    if floor.max_drop is not None and reference is None:
        raise SpecError(
            f"{spec.path}: accuracy.max_drop: drops are counted from {BASELINE_RECIPE}; "
            f"give accuracy.declared.{BASELINE_RECIPE}, or a minimum instead"
        )
    sign = 1 if _higher_is_better(floor, spec.base) else -1
    found = []
    for declared in sorted(imported.declared, key=lambda d: d.variant != BASELINE_RECIPE):
        drop = math.nan if reference is None else sign * (reference - declared.value)
        quality = Quality(
            metric=floor.metric,
            value=declared.value,
            low=declared.value,
            high=declared.value,
            drop=drop,
            drop_low=drop,
            drop_high=drop,
            confidence=0.0,
            samples=0,
            higher_is_better=sign > 0,
            source=declared.source,
        )
        found.append(
            Judgement(Variant(declared.variant, "", Path(), "", 0), DECLARED, quality, spec.workload.name)
        )
    return tuple(found)


def _higher_is_better(floor: AccuracyFloor, base: Path) -> bool:
    """As the metric of that name has it; of a name that the planner does not know, more is better."""
    if ":" in floor.metric:
        return True
    try:
        return metric(floor.metric, base).higher_is_better
    except SpecError:
        return True


def _check_sources(source: Path, profiles: tuple[Profile, ...]) -> None:
    """Two sources of one configuration would be two candidates of one name."""
    seen: dict[tuple[str, str, str, str, int, int, int], Profile] = {}
    for profile in profiles:
        c = profile.configuration
        key = (c.model, c.variant, c.device, c.backend, c.threads, c.batch_size, c.replicas)
        _check_single(source, seen.setdefault(key, profile), profile)


def _check_on_cpu(source: Path, profiles: Iterable[Profile]) -> None:
    """On a CPU two numbers of replicas side by side would be two candidates of one name, too."""
    seen: dict[tuple[str, str, str, int, int], Profile] = {}
    for profile in profiles:
        c = profile.configuration
        key = (c.model, c.variant, c.backend, c.threads, c.batch_size)
        _check_single(source, seen.setdefault(key, profile), profile)


def _check_single(source: Path, first: Profile, other: Profile) -> None:
    c = other.configuration
    if first is not other:
        raise SpecError(
            f"{source}: {c.describe()} on {c.device} is given twice, {first.configuration.replicas} and "
            f"{c.replicas} instances, by {first.source} and by {other.source}; keep one"
        )


def _usable(
    spec: Spec,
    imported: Imported,
    catalog: Catalog,
    offers: Sequence[Offer],
    judgements: tuple[Judgement, ...],
    source: Path,
    profiles: tuple[Profile, ...],
) -> Usable:
    """Rejects, in this order: variants below the floor, profiles that cannot be used, devices not sold."""
    floor = spec.workload.floor
    average = spec.workload.floor_on_average
    held = {j.variant.name for j in judgements if average or floor.shortfall(j.quality) <= 0}
    declared = {j.variant.name for j in judgements}
    rejected = [_below_floor(floor, j) for j in judgements if j.variant.name not in held]
    variants = sorted({profile.configuration.variant for profile in profiles})
    rejected += [
        Rejection("quality", name, f"no accuracy is declared for it; give accuracy.declared.{name}")
        for name in variants
        if name not in declared
    ]
    if not held & set(variants):
        raise InfeasibleError(_blocked_by_floor(floor, judgements, variants))
    by_device: dict[str, list[Profile]] = {}
    for profile in profiles:
        if profile.configuration.variant in held:
            by_device.setdefault(profile.configuration.device, []).append(profile)
    sold_as = _sold_as(spec, imported, catalog, {p.configuration.device for p in profiles})
    kept, cpus = [], set()
    for device, of_device in by_device.items():
        name = sold_as[device]
        if not any(offer.device == name for offer in offers):
            rejected.append(Rejection("fleet", device, why_not_sold(name, catalog)))
            continue
        on_cpu = catalog.device(name).kind == "cpu"
        if on_cpu:
            cpus.add(name)
            _check_on_cpu(source, of_device)
        reasons = {profile: _unusable(profile, spec, on_cpu) for profile in of_device}
        rejected += [
            Rejection("profile", f"{p.configuration.describe()} on {device}", why)
            for p, why in reasons.items()
            if why
        ]
        usable = [p for p, why in reasons.items() if not why]
        dominated = _dominated(usable)
        rejected += [
            Rejection("profile", f"{p.configuration.describe()} on {device}", why)
            for p, why in dominated.items()
        ]
        kept.append((name, tuple(p for p in usable if p not in dominated)))
    return Usable(tuple(kept), tuple(rejected), frozenset(cpus))


def _sold_as(spec: Spec, imported: Imported, catalog: Catalog, devices: set[str]) -> dict[str, str]:
    """The catalog's name of each device: its own, unless plan.yaml says another."""
    for device, name in imported.sold_as:
        if device not in devices:
            known = ", ".join(sorted(devices))
            raise SpecError(f"{spec.path}: imported.sold_as: no profile is of {device}; they are of {known}")
        catalog.device(name)
    names = {device: device for device in devices} | dict(imported.sold_as)
    for name in sorted(names.values()):
        same = [device for device in sorted(devices) if names[device] == name]
        if len(same) > 1:
            raise SpecError(f"{spec.path}: imported.sold_as: {' and '.join(same)} would both be {name}")
    return names


def _unusable(profile: Profile, spec: Spec, on_cpu: bool) -> str:
    """Why a profile cannot serve; empty where it can."""
    asked = spec.workload.slo.percentile
    published = profile.published
    if published is not None and asked not in dict(published.percentiles_ns):
        given = ", ".join(f"p{level:g}" for level, _ in published.percentiles_ns)
        return f"the SLO is about p{asked:g}, {profile.source} gives {given}"
    if on_cpu and not profile.memory_bytes:
        return "its memory is unknown, so is how many fit on an instance; give memory_mib"
    if not instances_of(profile.configuration, spec.workload, on_cpu):
        return no_instances(profile.configuration, spec.workload)
    return ""


def _dominated(profiles: list[Profile]) -> dict[Profile, str]:
    """Batches with no more throughput than a smaller one has: waiting for company never pays."""
    reasons = {}
    best: dict[tuple[str, str, str, int, int], tuple[float, int]] = {}
    for profile in sorted(profiles, key=lambda p: p.configuration.batch_size):
        c = profile.configuration
        throughput = c.batch_size * len(profile.service_ns) / sum(profile.service_ns)
        engine = (c.model, c.variant, c.backend, c.threads, c.replicas)
        most, smaller = best.get(engine, (0.0, 0))
        if throughput > most:
            best[engine] = (throughput, c.batch_size)
        else:
            reasons[profile] = f"dominated: batch {c.batch_size} has no more throughput than batch {smaller}"
    return reasons


def _servings(
    spec: Spec,
    imported: Imported,
    usable: Usable,
    judgements: tuple[Judgement, ...],
    several: bool,
    progress: Progress,
) -> tuple[list[Serving], list[Rejection]]:
    workload = spec.workload
    classes = {model: name for name, model in imported.class_models}

    def quality(variant: str) -> float | None:
        return quality_of(workload, judgements, variant, DECLARED)

    def class_of(profile: Profile) -> str:
        return classes.get(profile.configuration.model, "")

    accepted, refused = [], []
    for done, (device, profiles) in enumerate(usable.by_device):
        progress(Step("capacity", device, done, len(usable.by_device)))
        of_device, not_serving = servings(
            workload,
            profiles,
            spec.packing_derating,
            device,
            workload.name if several else "",
            quality,
            side_by_side=device in usable.on_cpu,
            class_of=class_of,
        )
        accepted += of_device
        refused += not_serving
    progress(Step("capacity", "", len(usable.by_device), len(usable.by_device)))
    if not accepted:
        profiles = tuple(profile for _, of_device in usable.by_device for profile in of_device)
        if profiles:
            raise InfeasibleError(blocked_by_slo(spec.workload.slo, Campaign(profiles, (), (), 0, 0)))
        last = usable.rejections[-1]
        raise InfeasibleError(f"no imported profile can be used: {last.subject}: {last.reason}")
    return accepted, refused


def _below_floor(floor: AccuracyFloor, judgement: Judgement) -> Rejection:
    quality = judgement.quality
    if floor.minimum is not None:
        asked = f"{'at least' if quality.higher_is_better else 'at most'} {floor.minimum:g}"
        got = f"{quality.value:.4f}"
    else:
        asked, got = f"at most {floor.max_drop:g}", f"a drop of {quality.drop:.4f}"
    reason = f"{quality.metric}: {got} is declared ({quality.source}), the floor asks for {asked}"
    return Rejection("quality", judgement.variant.name, reason)


def _blocked_by_floor(floor: AccuracyFloor, judgements: tuple[Judgement, ...], variants: list[str]) -> str:
    of_profiles = tuple(j for j in judgements if j.variant.name in variants)
    if not of_profiles:
        declared = ", ".join(j.variant.name for j in judgements)
        return f"accuracy.declared has {declared}, the profiles are of {', '.join(variants)}; declare one"
    nearest = min(of_profiles, key=lambda j: floor.shortfall(j.quality))
    key = "max_drop" if floor.minimum is None else "minimum"
    return (
        f"the accuracy floor blocks every variant with a profile: nearest is {nearest.variant.name}, "
        f"declared at {nearest.quality.value:.4f}; {key}: {floor.that_holds(nearest.quality):.4f} would do"
    )


def _notes(imported: Imported, used: Collection[Serving]) -> Iterator[str]:
    profiles = [p for s in used for p in s.profiles]
    sources: dict[str, dict[str, None]] = {}
    for profile in profiles:
        sources.setdefault(profile.source, {})[profile.configuration.device] = None
    for source, devices in sources.items():
        yield f"Imported, not measured by the planner: latencies of {', '.join(devices)}, from {source}."
    yield "There are no engines: what these profiles are of has to be built before it can be deployed."
    if any(profile.published for profile in profiles):
        yield (
            "Of some profiles only percentiles are known: each time is taken to be the next percentile's, "
            "and those beyond the last are assumed (docs/profiles.md)."
        )
    bought = {serving.candidate.device for serving in used}
    for device, name in imported.sold_as:
        if name in bought:
            yield f"Figures of {device} are taken to hold for {name} (imported.sold_as)."


def _digest(source: Path) -> str:
    """Of the file, or of a store's files and their names."""
    if source.is_file():
        return hashlib.sha256(source.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for path in sorted(source.glob("*/*.json")):
        digest.update(path.relative_to(source).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
