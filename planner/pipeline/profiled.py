"""The profiles that a plan was made with, found again by what plan.json says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from planner.domain.profile import Profile
from planner.errors import StoreError, SupportError
from planner.pipeline.imported import read_profiles
from planner.pipeline.made import Made
from planner.report.from_plan import profile_part
from planner.report.plan_json import CandidatePart, ProfilePart
from planner.spec import Spec
from planner.store import ProfileStore


def known_profiles(services: Iterable[Spec], profiles: Path | None = None) -> dict[str, tuple[Profile, ...]]:
    """By workload, those that its candidates may be made of; a store that several have is read once.

    ``profiles``: the store, where that is not plan.yaml's.
    """

    @cache
    def stored(folder: Path) -> tuple[Profile, ...]:
        return tuple(ProfileStore(folder).all())

    return {
        spec.workload.name: read_profiles(spec, spec.imported)[1]
        if spec.imported is not None
        else stored(profiles or spec.profiles)
        for spec in services
    }


def profiles_of(
    made: Made, candidate: CandidatePart, known: Iterable[Profile], percentile: float
) -> dict[str, tuple[Profile, ...]]:
    """Of each class that it serves, from the smallest class to the largest; "" where all requests are alike.

    As the plan took them: a factor that was learnt since is for the next plan. ``percentile``: the SLO's.
    Raises StoreError where one of them is not among the ``known``, or was taken again since.
    """
    sha256 = variant_sha256(made, candidate)
    its = [
        profile
        for profile in known
        if (c := profile.configuration)
        and (c.variant, c.backend, c.variant_sha256) == (candidate.variant, candidate.backend, sha256)
        and c.threads * candidate.instances == candidate.threads
    ]
    by_class: dict[str, tuple[Profile, ...]] = {}
    for part in candidate.profiles:
        found = next((profile for profile in its if _is(profile, part, percentile)), None)
        if found is None:
            raise StoreError(
                f"{candidate.id}: its profile of batch {part.batch_size} is not there, or was taken again "
                "since; plan again, or name the store with --profiles"
            )
        before = by_class.get(part.request_class, ())
        by_class[part.request_class] = (*before, replace(found, calibration=part.calibration))
    return by_class


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
    as_planned = replace(profile, calibration=part.calibration)
    try:
        return profile_part(as_planned, percentile, part.request_class) == part
    except SupportError:
        return False
