"""The service times that a plan rests on, of the profiles that it was made with."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from planner.capacity import service_laws, service_times
from planner.pipeline.made import Made
from planner.pipeline.profiled import known_profiles, profiles_of
from planner.spec import Spec
from planner.verifying.fleet import Laws


def laws_of(
    made: Made, services: Iterable[Spec], used: Collection[str], profiles: Path | None = None
) -> Laws:
    """Of the candidates in ``used``. ``profiles``: the store, where that is not plan.yaml's.

    Raises StoreError where a profile is not there any more, or was taken again since.
    """
    parts = {part.id: part for part in made.report.candidates}
    asked = {parts[candidate_id].workload for candidate_id in used}
    specs = {spec.workload.name: spec for spec in services if spec.workload.name in asked}
    known = known_profiles(specs.values(), profiles)
    laws = {}
    for candidate_id in sorted(used):
        part = parts[candidate_id]
        percentile = specs[part.workload].workload.slo.percentile
        found = profiles_of(made, part, known[part.workload], percentile)
        laws[candidate_id] = tuple(
            service_laws(service_times(of_class), part.max_batch_size) for of_class in found.values()
        )
    return laws
