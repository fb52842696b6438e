"""The problem of a plan whose workload asks for something else, by the profiles that there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from planner.capacity import serving
from planner.catalog import Catalog, load
from planner.domain.problem import Candidate, Problem
from planner.domain.profile import Profile
from planner.domain.progress import silent
from planner.domain.quality import Quality
from planner.domain.workload import Workload
from planner.errors import InfeasibleError, SpecError, StoreError
from planner.pipeline.asked import asked_of, counts_as, offers_within
from planner.pipeline.imported import imported_service
from planner.pipeline.inputs import BACKEND
from planner.pipeline.made import Made
from planner.quality import metric
from planner.report.plan_json import CandidatePart, QualityPart
from planner.spec import Fleet, Spec, read_spec
from planner.store import ProfileStore
from planner.units import format_ms
from planner.variants import bind, read_model

IMPORTED = "Over all imported profiles."
MEASURED = (
    "Over what this plan measured in full and could use; what it did not need to measure could only make "
    "other points cheaper."
)

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
Key = tuple[str, str, str, int, int, str, str, str]
"""Of a profile: variant's sha256, device, backend, threads, batch size, class of requests, environment, when
it was taken."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One workload of a plan, ``spec``, that may ask for something else; the others stay as they are."""

    made: Made
    fleet: Fleet
    spec: Spec
    catalog: Catalog
    profiles: Mapping[Key, Profile]

    @property
    def note(self) -> str:
        """What the problems rest on."""
        note = IMPORTED if self.spec.imported else MEASURED
        if self.catalog.digest != self.made.report.inputs.catalog_sha256:
            note += " The catalog has changed since the plan was made: prices are today's."
        return note

    def problem(self, workload: Workload) -> Problem:
        """Raises InfeasibleError where nothing can serve it."""
        if workload.slo.budget_ns <= 0:
            raise InfeasibleError(f"the overhead alone takes {format_ms(workload.slo.overhead_ns)}")
        changed = replace(self.spec, workload=workload)
        services = tuple(changed if spec is self.spec else spec for spec in self.fleet.services)
        offers = offers_within(self.catalog, self.fleet.limits)
        others = (c for c in self.made.problem.candidates if c.workload != workload.name)
        if changed.imported is not None:
            several = len(services) > 1
            made = imported_service(changed, changed.imported, self.catalog, offers, several, silent)
            mine = [s.candidate for s in made.servings]
        else:
            mine = list(self._measured(workload))
        asked = asked_of(replace(self.fleet, services=services), self.catalog)
        return asked.problem((*others, *mine), offers)

    def _measured(self, workload: Workload) -> Iterator[Candidate]:
        parts = {part.id: part for part in self.made.report.candidates}
        for candidate in self.made.problem.candidates:
            if candidate.workload != workload.name:
                continue
            quality = self._quality(candidate)
            if not workload.floor_on_average and workload.floor.shortfall(quality) > 0:
                continue
            counted = replace(candidate, quality=counts_as(workload, quality))
            if self._as_before(workload):
                yield counted
                continue
            again = self._served(workload, counted, parts[candidate.id])
            if again.capacity_rps > 0:
                yield again

    def _as_before(self, workload: Workload) -> bool:
        """Whether capacities are the same. Of arrivals that are not Poisson they depend on the rate, too."""
        before = self.spec.workload
        same_rate = (workload.rate_rps, workload.rates_rps) == (before.rate_rps, before.rates_rps)
        return workload.slo == before.slo and (workload.arrivals.poisson or same_rate)

    def _served(self, workload: Workload, candidate: Candidate, part: CandidatePart) -> Candidate:
        return serving(
            workload,
            {
                name: tuple(
                    self._profile(candidate, part, n)
                    for n, of in enumerate(part.profiles)
                    if of.request_class == name
                )
                for name in dict.fromkeys(of.request_class for of in part.profiles)
            },
            self.spec.packing_derating,
            candidate.device,
            candidate.slices,
            workload.name if len(self.fleet.services) > 1 else "",
            candidate.quality,
            candidate.instances,
        ).candidate

    def _profile(self, candidate: Candidate, part: CandidatePart, number: int) -> Profile:
        of = part.profiles[number]
        threads = candidate.threads // candidate.instances
        sha256 = next(
            v.sha256 or ""
            for v in self.made.report.variants
            if (v.workload, v.variant) == (candidate.workload, candidate.variant)
        )
        what = (sha256, of.device, candidate.backend, threads, of.batch_size, of.request_class)
        key = (*what, of.environment, of.taken_at)
        found = self.profiles.get(key)
        if found is None:
            raise StoreError(
                f"{candidate.id}: its profile of batch {of.batch_size} is not there, or was taken again "
                "since; plan again, or name the store with --profiles"
            )
        # As the plan took it: a later factor is for the next plan.
        return replace(found, calibration=of.calibration)

    def _quality(self, candidate: Candidate) -> Quality:
        """As its backend judges its variant, or else the reference, or whoever does."""
        report = self.made.report
        found = {
            v.backend: v.quality
            for v in report.variants
            if (v.workload, v.variant) == (candidate.workload, candidate.variant)
        }
        part = found.get(candidate.backend, found.get(BACKEND, next(iter(found.values()))))
        return _as_value(part, metric(part.metric, self.spec.base).higher_is_better)


def fleet_of(made: Made) -> Fleet:
    """What its plan.yaml asks for. Raises SpecError where that is not as it was when the plan was made."""
    path = (made.folder / made.report.files.plan_yaml).resolve()
    fleet = read_spec(path, made.folder)
    if fleet.sha256 != made.report.inputs.plan_yaml_sha256:
        raise SpecError(f"{path}: has changed since the plan was made; plan again")
    return fleet


def recomputed(made: Made, workload: str, profiles: Path | None = None) -> Recomputed:
    """``profiles``: the store, where that is not plan.yaml's.

    Raises SpecError where plan.yaml is not as it was when the plan was made.
    """
    fleet = fleet_of(made)
    spec = next(spec for spec in fleet.services if spec.workload.name == workload)
    known: dict[Key, Profile] = {}
    if spec.imported is None:
        classes = _classes(spec)
        for profile in ProfileStore(profiles or spec.profiles).all():
            c, environment = profile.configuration, profile.environment.id
            of_class = classes.get((c.model_sha256, c.shapes), "")
            what = (c.variant_sha256, c.device, c.backend, c.threads, c.batch_size, of_class)
            known[(*what, environment, profile.taken_at)] = profile
    return Recomputed(made, fleet, spec, load(fleet.catalog), known)


def _classes(spec: Spec) -> dict[tuple[str, Shapes], str]:
    """The class whose requests a profile is of, by its model and shapes; none where all are alike."""
    found: dict[tuple[str, Shapes], str] = {}
    for entrant in spec.entrants if spec.class_dimensions else ():
        model = read_model(entrant.model)
        for name, dimensions in spec.class_dimensions:
            inputs = bind(model, dict(entrant.dimensions) | dict(dimensions))
            for size in (1, *spec.batch_sizes):
                found[model.sha256, tuple((i.name, i.shape_at(size)) for i in inputs)] = name
    return found


def _as_value(part: QualityPart, higher_is_better: bool) -> Quality:
    """Of what was measured, so that nothing is unknown."""
    assert part.drop is not None and part.drop_low is not None and part.drop_high is not None
    return Quality(
        metric=part.metric,
        value=part.value,
        low=part.low,
        high=part.high,
        drop=part.drop,
        drop_low=part.drop_low,
        drop_high=part.drop_high,
        confidence=part.confidence or 0.0,
        samples=part.samples or 0,
        higher_is_better=higher_is_better,
    )
