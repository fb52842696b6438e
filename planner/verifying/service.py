"""The service times that a plan rests on, found again by what plan.json says of its profiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from planner.capacity import ServiceLaws, service_laws, service_times
from planner.domain.profile import Profile
from planner.errors import StoreError, SupportError
from planner.pipeline.imported import read_profiles
from planner.pipeline.made import Made
from planner.report.from_plan import profile_part
from planner.report.plan_json import CandidatePart, ProfilePart
from planner.spec import Spec
from planner.store import ProfileStore
from planner.verifying.fleet import Laws


def laws_of(made: Made, services: Iterable[Spec], used: Iterable[str], profiles: Path | None = None) -> Laws:
    """Of the candidates in ``used``. ``profiles``: the store, where that is not plan.yaml's.

    Raises StoreError where a profile is not there any more, or was taken again since.
    """
    parts = {part.id: part for part in made.report.candidates}
    specs = {spec.workload.name: spec for spec in services}
    known: dict[str, tuple[Profile, ...]] = {}
    laws = {}
    for candidate_id in sorted(used):
        part = parts[candidate_id]
        spec = specs[part.workload]
        if spec.workload.name not in known:
            known[spec.workload.name] = _known(spec, profiles)
        percentile = spec.workload.slo.percentile
        laws[candidate_id] = _laws(made, part, known[spec.workload.name], percentile)
    return laws


def _known(spec: Spec, profiles: Path | None) -> tuple[Profile, ...]:
    if spec.imported is not None:
        return read_profiles(spec, spec.imported)[1]
    return tuple(ProfileStore(profiles or spec.profiles).all())


def _laws(
    made: Made, candidate: CandidatePart, known: Iterable[Profile], percentile: float
) -> tuple[ServiceLaws, ...]:
    """Of each class that it serves, in the order of its profiles: from the smallest class to the largest."""
    sha256 = variant_sha256(made, candidate)
    its = [
        profile
        for profile in known
        if (c := profile.configuration)
        and (c.variant, c.backend, c.variant_sha256) == (candidate.variant, candidate.backend, sha256)
        and c.threads * candidate.instances == candidate.threads
    ]
    by_class: dict[str, list[Profile]] = {}
    for part in candidate.profiles:
        found = next((profile for profile in its if _is(profile, part, percentile)), None)
        if found is None:
            raise StoreError(
                f"{candidate.id}: its profile of batch {part.batch_size} is not there, or was taken again "
                "since; plan again, or name the store with --profiles"
            )
        as_planned = replace(found, calibration=part.calibration)
        by_class.setdefault(part.request_class, []).append(as_planned)
    return tuple(
        service_laws(service_times(of_class), candidate.max_batch_size) for of_class in by_class.values()
    )


def variant_sha256(made: Made, candidate: CandidatePart) -> str:
    """Of its variant; empty where there are imported profiles only."""
    return next(
        v.sha256 or ""
        for v in made.report.variants
        if (v.workload, v.variant) == (candidate.workload, candidate.variant)
    )


def _is(profile: Profile, part: ProfilePart, percentile: float) -> bool:
    """Whether plan.json says of it what ``part`` says: every figure, so that nothing taken since is taken."""
    c = profile.configuration
    if (c.batch_size, c.device, profile.taken_at) != (part.batch_size, part.device, part.taken_at):
        return False
    try:
        as_planned = replace(profile, calibration=part.calibration)
        return profile_part(as_planned, percentile, part.request_class) == part
    except SupportError:
        return False
