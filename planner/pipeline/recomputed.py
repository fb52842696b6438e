"""The problem of a plan whose workload asks for something else, by the profiles that there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from planner.capacity import serving
from planner.catalog import Catalog, load
from planner.domain.problem import Candidate, Problem
from planner.domain.profile import Profile
from planner.domain.quality import Quality
from planner.domain.workload import Workload
from planner.errors import InfeasibleError, SpecError
from planner.pipeline.asked import asked_of, counts_as, offers_within
from planner.pipeline.imported import imported_candidates
from planner.pipeline.made import Made
from planner.pipeline.profiled import known_profiles, profiles_of
from planner.pipeline.services import judged_for
from planner.quality import metric
from planner.report.plan_json import CandidatePart, QualityPart
from planner.spec import Fleet, Spec, read_spec
from planner.units import format_ms

IMPORTED = "Over all imported profiles."
MEASURED = (
    "Over what this plan measured in full and could use; what it did not need to measure could only make "
    "other points cheaper."
)


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One workload of a plan, ``spec``, that may ask for something else; the others stay as they are."""

    made: Made
    fleet: Fleet
    spec: Spec
    catalog: Catalog
    profiles: tuple[Profile, ...]
    """Those that its candidates may be made of; none where they are imported anew."""

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
            mine = imported_candidates(changed, changed.imported, self.catalog, offers, several)
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
            profiles_of(self.made, part, self.profiles, self.spec.workload.slo.percentile),
            self.spec.packing_derating,
            candidate.device,
            candidate.slices,
            workload.name if len(self.fleet.services) > 1 else "",
            candidate.quality,
            candidate.instances,
        ).candidate

    def _quality(self, candidate: Candidate) -> Quality:
        """As its backend judges its variant, or else the reference, or whoever does."""
        report = self.made.report
        found = {
            v.backend: v.quality
            for v in report.variants
            if (v.workload, v.variant) == (candidate.workload, candidate.variant)
        }
        part = judged_for(found, candidate.backend)
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
    known = () if spec.imported else known_profiles([spec], profiles)[workload]
    return Recomputed(made, fleet, spec, load(fleet.catalog), known)


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
