"""Profiles to capacities, capacities to a problem, the problem to a plan, the plan to files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version

from planner.catalog import matches
from planner.domain.offer import Offer
from planner.domain.plan import DataDigest, Plan, Serving
from planner.domain.problem import Problem, Solution
from planner.domain.progress import Progress, Step, silent
from planner.errors import InfeasibleError
from planner.optimize import baseline, rejections, solve
from planner.pipeline.blocked import blocked_by_fleet, blocked_by_floor
from planner.pipeline.guiding import optimum
from planner.pipeline.imported import plan_imported
from planner.pipeline.inputs import Prepared, prepare
from planner.pipeline.solution import (
    is_baseline,
    margins,
    problem_of,
    second_best,
    solution_notes,
    unserved,
    used_offers,
)
from planner.pipeline.steps import judge, measurable
from planner.quality import Dataset
from planner.report import (
    ENGINES_FOLDER,
    Deployed,
    EnginePart,
    PlanReport,
    dump,
    to_report,
    write_engines,
)
from planner.spec import Spec
from planner.store import replace_text
from planner.variants import external_locations

BUSY = 0.1
"""The share of the machine that others may take before the plan warns of noisy measurements."""


def plan(
    spec: Spec,
    progress: Progress = silent,
    time_limit_s: float = 60.0,
    now: datetime | None = None,
    exhaustive: bool = False,
) -> Plan:
    """The cheapest fleet for ``spec``. Nothing but variants and profiles is written; see ``publish``.

    Only what can change the plan is measured in full, unless ``exhaustive``.
    Raises InfeasibleError where there is none, with what blocks it and the nearest thing that would do.
    """
    if spec.imported is not None:
        return plan_imported(spec, spec.imported, progress, time_limit_s, now)
    prepared = prepare(spec)
    judged = judge(prepared, progress)
    if not judged.serving(prepared):
        raise InfeasibleError(blocked_by_floor(spec.workload.floor, judged.deciding(prepared)))
    offers = _sold(prepared)
    with measurable(prepared, judged, progress) as here:
        found = optimum(prepared, here, offers, time_limit_s, exhaustive, progress)
    accepted = list(found.servings)
    problem = problem_of(
        spec.workload, (s.candidate for s in accepted), offers, spec.limits.max_instances_per_offer
    )
    progress(Step("solving", f"{len(problem.offers)} offers", 0, 1))
    solution = found.within(solve(found.confirmed(problem), time_limit_s))
    cheapest_fp32 = baseline(problem, is_baseline)
    second = second_best(problem, solution)
    progress(Step("solving", "", 1, 1))
    solutions = [s for s in (solution, cheapest_fp32, second.solution) if s]
    return Plan(
        created_at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        planner_version=version("planner"),
        spec_sha256=spec.sha256,
        catalog_sha256=prepared.catalog.digest,
        model=prepared.main.model,
        calibration=_digest(spec.entrants[0].calibration, prepared.main.calibration),
        evaluation=_digest(spec.entrants[0].evaluation, prepared.main.evaluation),
        workload=spec.workload,
        limits=spec.limits,
        packing_derating=spec.packing_derating,
        environment=prepared.environment,
        device=prepared.sold_as.device,
        device_note=prepared.sold_as.note,
        judgements=judged.judgements,
        servings=tuple(accepted),
        rejections=(
            *judged.rejections,
            *here.rejections,
            *found.rejections,
            *unserved(problem, offers, "no profile on this device; measure on one"),
            *rejections(problem),
        ),
        offers_considered=len(problem.offers),
        offers=used_offers(problem, solutions),
        solution=solution,
        margins=margins(spec, accepted, solutions),
        baseline=cheapest_fp32,
        baseline_note="fp32, one request at a time, on the cheapest offer for it"
        if cheapest_fp32
        else "fp32 at batch 1 cannot serve this workload at all",
        runner_up=second,
        measured=len(here.bench.measured),
        reused=here.bench.reused(),
        notes=(*_notes(prepared, accepted, solution, problem), *found.notes),
    )


def publish(plan: Plan, spec: Spec) -> PlanReport:
    """Write the engines, their manifest and, last, plan.json to the output folder."""
    by_id = {serving.candidate.id: serving.candidate for serving in plan.servings}
    used = {
        (by_id[candidate_id].variant, by_id[candidate_id].backend)
        for placement in plan.solution.placements
        for candidate_id, _ in placement.pattern.replicas
    }
    deployed = [
        Deployed(judgement.variant, judgement.backend, external_locations(judgement.variant.path))
        for judgement in plan.judgements
        if plan.imported is None and (judgement.variant.name, judgement.backend) in used
    ]
    libraries = plan.environment.libraries if plan.environment else ()
    engines = write_engines(spec.output / ENGINES_FOLDER, deployed, libraries)
    entries = [
        EnginePart(
            variant=engine.variant,
            backend=engine.backend,
            path=engine.path.relative_to(spec.output).as_posix(),
            sha256=engine.sha256,
        )
        for engine in engines
    ]
    report = to_report(plan, entries)
    replace_text(spec.output / "plan.json", dump(report))
    return report


def _sold(prepared: Prepared) -> tuple[Offer, ...]:
    """The offers within the fleet's limits, some of them with the device that is measured here."""
    offers = tuple(offer for offer in prepared.catalog.offers if matches(offer, prepared.spec.limits))
    if all(offer.device != prepared.sold_as.device.name for offer in offers):
        raise InfeasibleError(blocked_by_fleet(prepared, len(offers)))
    return offers


def _digest(source: str, data: Dataset) -> DataDigest:
    return DataDigest(source, data.digest, data.samples, data.synthetic)


def _notes(
    prepared: Prepared, accepted: list[Serving], solution: Solution, problem: Problem
) -> Iterator[str]:
    """What the reader must know before trusting the plan."""
    spec = prepared.spec
    if prepared.main.evaluation.synthetic:
        yield (
            "Evaluation data are random: accuracy is agreement with fp32 on inputs that mean nothing. "
            "Give labelled data before deploying."
        )
    elif prepared.main.calibration.synthetic:
        yield "Calibration data are random: give real inputs, and quantized variants may keep more accuracy."
    if prepared.sold_as.note:
        yield prepared.sold_as.note
    busy = [p.foreign_load for s in accepted for p in s.profiles if p.foreign_load is not None]
    if busy and max(busy) > BUSY:
        yield (
            f"Noisy: other processes kept up to {max(busy):.0%} of this machine busy while it was measured, "
            "latencies may be too high; measure again on a quiet machine (delete the profiles first)."
        )
    yield from solution_notes(spec, solution, problem)
