"""The baseline's engines, each beside what the new run has in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from planner.backends import backend
from planner.catalog import load
from planner.domain.plan import Plan
from planner.domain.variant import Variant
from planner.errors import ManifestError, PlannerError
from planner.gate.known import Known
from planner.pipeline import Prepared, prepare
from planner.pipeline.engines import deployable
from planner.pipeline.places import Place
from planner.report import ENGINES_FOLDER, Engine, read_engines
from planner.report.plan_json import CandidatePart
from planner.spec import Fleet


@dataclass(frozen=True, slots=True)
class Pair:
    """A candidate that the baseline runs. ``before`` and ``after``: the files that its backend loads;
    ``variant`` is the new one. ``same``: they are one and the same file, bit for bit."""

    candidate: CandidatePart
    variant: Variant
    baseline: Variant
    """fp32 of the new run, which is what *agreement* is with."""
    before: Path
    after: Path
    same: bool
    prepared: Prepared
    place: Place

    @property
    def subject(self) -> str:
        return self.candidate.id


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A candidate that cannot be compared, and why. ``gone``: the new run could not make its variant."""

    candidate: CandidatePart
    why: str
    gone: bool = False

    @property
    def subject(self) -> str:
        return self.candidate.id


def pairs(before: Known, after: Plan, fleet: Fleet) -> Iterator[Pair | Unpaired]:
    """One for each candidate that the baseline's fleet runs."""
    services = {spec.workload.name: spec for spec in fleet.services}
    catalog = load(fleet.catalog)

    @cache
    def prepared(workload: str) -> Prepared:
        return prepare(services[workload], catalog=catalog)

    find = _finder(before)
    for candidate in before.report.candidates:
        if candidate.id not in before.used:
            continue
        spec = services.get(candidate.workload)
        if spec is None or spec.imported is not None:
            why = "imported profiles have no engines" if spec else "its workload is not asked for any more"
            yield Unpaired(candidate, why)
            continue
        found = {j.variant.name: j.variant for j in after.judgements if j.workload == candidate.workload}
        variant = found.get(candidate.variant)
        if variant is None:
            yield _gone(candidate, after)
            continue
        try:
            engine = find(candidate)
            ready = prepared(candidate.workload)
            place = _place(candidate, ready)
            deployed = deployable(after, spec, variant, candidate.backend, candidate.device)
        except PlannerError as error:
            yield Unpaired(candidate, str(error))
            continue
        if place is None or engine.status == "to-build" or deployed.status == "to-build":
            yield Unpaired(candidate, f"{candidate.device} is not here to run it on")
            continue
        new = deployed.engine or variant.path
        # An ONNX file may have its weights beside it; its variant's digest covers them.
        same = engine.variant_sha256 == variant.sha256 and (
            deployed.engine is None or engine.sha256 == _sha256(new)
        )
        yield Pair(
            candidate=candidate,
            variant=variant,
            baseline=next(iter(found.values())),
            before=engine.path,
            after=new,
            same=same,
            prepared=ready,
            place=place,
        )


def _finder(before: Known) -> Callable[[CandidatePart], Engine]:
    """The baseline's engine of a candidate; raises ManifestError where it is not there or not what it was."""
    several = len(before.report.workloads) > 1

    @cache
    def engines() -> list[Engine]:
        return read_engines(before.folder / ENGINES_FOLDER)

    def find(candidate: CandidatePart) -> Engine:
        workload = candidate.workload if several else ""
        wanted = (workload, candidate.variant, candidate.backend)
        matching = [e for e in engines() if (e.workload, e.variant, e.backend) == wanted]
        # Of a slice of a GPU the engine has its own name; then there is just the one.
        here = [e for e in matching if e.device == candidate.device] or matching
        if not here:
            raise ManifestError(f"{before.folder / ENGINES_FOLDER}: no engine of {candidate.id}")
        return here[0]

    return find


def _gone(candidate: CandidatePart, after: Plan) -> Unpaired:
    for rejection in after.rejections:
        if rejection.stage in ("variant", "quality") and rejection.subject == candidate.variant:
            return Unpaired(candidate, f"{candidate.variant}: {rejection.reason}", gone=True)
    return Unpaired(candidate, f"{candidate.variant} is not made any more")


def _place(candidate: CandidatePart, prepared: Prepared) -> Place | None:
    """Where it can run on this machine; on any CPU, whatever the baseline's was."""
    runs_on = backend(candidate.backend).runs_on
    here = [place for place in prepared.places if place.runs_on == runs_on]
    named = [place for place in here if candidate.device in (place.device, place.priced_as.name)]
    return next(iter(named or (here if runs_on == "cpu" else [])), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
