"""Workloads and offers to a problem, the problem to a plan, the plan to files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from os.path import relpath
from pathlib import Path

from planner.catalog import Catalog, check_limits, load
from planner.domain.offer import SPOT, Offer
from planner.domain.plan import Plan, Serving, TakenIn
from planner.domain.problem import CARBON, ENERGY, LATENCY, Keep, Problem, Solution
from planner.domain.progress import Progress, Step, silent
from planner.errors import InfeasibleError
from planner.optimize import baseline, dump_problem, rejections, solve
from planner.pipeline.asked import asked_of, offers_within
from planner.pipeline.blocked import blocked_by_fleet
from planner.pipeline.engines import deployable
from planner.pipeline.guiding import optimum
from planner.pipeline.imported import imported_service
from planner.pipeline.made import candidates_of
from planner.pipeline.services import Service, measured
from planner.pipeline.solution import (
    is_baseline,
    margins,
    second_best,
    solution_notes,
    unserved,
    used_offers,
)
from planner.report import (
    ENGINES_FOLDER,
    PLAN_JSON,
    EnginePart,
    FilesPart,
    PlanReport,
    dump,
    to_report,
    write_engines,
)
from planner.spec import Fleet
from planner.store import replace_text, writable_folder

PROBLEM_JSON = "problem.json"
BUSY = 0.1
"""The share of the machine that others may take before the plan warns of noisy measurements."""


def plan(
    fleet: Fleet,
    progress: Progress = silent,
    time_limit_s: float = 60.0,
    now: datetime | None = None,
    exhaustive: bool = False,
    keep: Keep | None = None,
) -> Plan:
    """The best fleet for all workloads. Nothing but variants and profiles is written; see ``publish``.

    Only what can change the plan is measured in full, unless ``exhaustive``, and what the present plan, if
    there is one to ``keep``, runs.
    Raises InfeasibleError where there is none, with what blocks it and the nearest thing that would do.
    """
    catalog = load(fleet.catalog)
    check_limits(catalog, fleet.limits)
    offers = offers_within(catalog, fleet.limits)
    # What latency a candidate has at capacity is not known before it is measured.
    exhaustive = exhaustive or fleet.objective == LATENCY
    with ExitStack() as stack:
        services = [_service(stack, fleet, k, catalog, offers, progress) for k in range(len(fleet.services))]
        _check_sold(catalog, services, offers)
        asked = asked_of(fleet, catalog)
        present = candidates_of(keep) if keep else frozenset()
        found = optimum(services, asked, offers, time_limit_s, exhaustive, present)
    accepted = found.servings
    problem = replace(asked.problem((s.candidate for s in accepted), offers), keep=keep)
    progress(Step("solving", f"{len(problem.offers)} offers", 0, 1))
    solution = found.within(solve(found.confirmed(problem), time_limit_s))
    cheapest_fp32 = baseline(problem, is_baseline)
    second = second_best(problem, solution)
    progress(Step("solving", "", 1, 1))
    solutions = [s for s in (solution, cheapest_fp32, second.solution) if s]
    taken = [service for service in services if service.prepared is not None]
    prepared = taken[0].prepared if taken else None
    why = (
        "no profile on this device; measure on one"
        if taken
        else "no imported profile that can serve on this device"
    )
    return Plan(
        created_at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        planner_version=version("planner"),
        spec_sha256=fleet.sha256,
        catalog_sha256=catalog.digest,
        services=tuple(service.planned for service in services),
        periods=fleet.periods,
        objective=fleet.objective,
        limits=fleet.limits,
        packing_derating=fleet.packing_derating,
        environment=prepared.environment if prepared else None,
        device=prepared.sold_as.device if prepared else None,
        device_note=prepared.sold_as.note if prepared else "",
        taken_in=tuple(_taken_in(taken, accepted)),
        built=tuple(engine for service in taken if service.here for engine in service.here.built),
        judgements=tuple(j for service in services for j in service.judgements),
        servings=accepted,
        rejections=(
            *(rejection for service in services for rejection in service.rejections),
            *found.rejections,
            *unserved(problem, offers, why),
            *rejections(problem),
        ),
        offers_considered=len(problem.offers),
        offers=used_offers(problem, solutions),
        problem=problem,
        unmeasured=found.unmeasured,
        solution=solution,
        margins=margins(fleet, accepted, solutions),
        baseline=cheapest_fp32,
        baseline_note=_baseline_note(cheapest_fp32, services, accepted),
        runner_up=second,
        measured=sum(len(s.here.bench.measured) for s in taken if s.here),
        reused=sum(s.here.bench.reused() for s in taken if s.here),
        notes=(*_notes(fleet, services, accepted, solution, problem), *found.notes),
    )


def _service(
    stack: ExitStack,
    fleet: Fleet,
    number: int,
    catalog: Catalog,
    offers: tuple[Offer, ...],
    progress: Progress,
) -> Service:
    spec, several = fleet.services[number], len(fleet.services) > 1

    def told(step: Step) -> None:
        detail = f"{spec.workload.name}: {step.detail}" if several and step.detail else step.detail
        progress(Step(step.stage, detail, step.done, step.total))

    try:
        if spec.imported is not None:
            return imported_service(spec, spec.imported, catalog, offers, several, told)
        return stack.enter_context(measured(spec, catalog, offers, several, told))
    except InfeasibleError as error:
        if not several:
            raise
        raise InfeasibleError(f"workload {spec.workload.name}: {error}") from None


def _check_sold(catalog: Catalog, services: Sequence[Service], offers: tuple[Offer, ...]) -> None:
    """Raises InfeasibleError where a measured workload has no device that the limits leave an offer of."""
    for service in services:
        if service.here is not None and not service.groups:
            devices = set(service.here.priced_as.values())
            if devices.isdisjoint(offer.device for offer in offers):
                raise InfeasibleError(blocked_by_fleet(catalog, devices, len(offers)))


def _baseline_note(
    cheapest_fp32: Solution | None, services: Iterable[Service], accepted: Iterable[Serving]
) -> str:
    if cheapest_fp32:
        return "fp32, one request at a time, on the cheapest offer for it"
    able = {s.candidate.workload for s in accepted if is_baseline(s.candidate)}
    unable = [service for service in services if service.spec.workload.name not in able]
    measured = [s.spec.workload.name for s in unable if s.spec.imported is None]
    imported = [s.spec.workload.name for s in unable if s.spec.imported is not None]
    found = []
    if measured:
        found.append(f"fp32 at batch 1 cannot serve {', '.join(measured)} at all")
    if imported:
        found.append(f"no imported profile of fp32 at batch 1 could serve {', '.join(imported)}")
    return "; ".join(found) or "fp32 at batch 1 cannot serve all within the fleet's limits"


def publish(plan: Plan, fleet: Fleet) -> PlanReport:
    """Write the engines, their manifest, the problem and, last, plan.json to the output folder."""
    by_id = {serving.candidate.id: serving for serving in plan.servings}
    used = sorted(
        {
            _engine_of(by_id[candidate_id])
            for placement in plan.solution.placements
            for candidate_id, _ in placement.pattern.replicas
        }
    )
    variants = {(j.workload, j.variant.name): j.variant for j in plan.judgements}
    specs = {spec.workload.name: spec for spec in fleet.services}
    deployed = [
        deployable(plan, specs[workload], variants[workload, name], backend_name, device)
        for workload, name, backend_name, device in used
        if specs[workload].imported is None
    ]
    libraries = plan.environment.libraries if plan.environment else ()
    engines = write_engines(fleet.output / ENGINES_FOLDER, deployed, libraries)
    entries = [
        EnginePart(
            workload=engine.workload or next(iter(specs)),
            variant=engine.variant,
            backend=engine.backend,
            device=engine.device,
            status=engine.status,
            build=engine.build,
            path=engine.path.relative_to(fleet.output).as_posix(),
            sha256=engine.sha256,
        )
        for engine in engines
    ]
    report = to_report(plan, entries, _files(plan, fleet))
    replace_text(fleet.output / PLAN_JSON, dump(report))
    return report


def write_problem(plan: Plan, path: Path) -> None:
    """What the solver saw, for ``planner solve``. Raises StoreError where it cannot be written."""
    writable_folder(path.resolve().parent)
    replace_text(path.resolve(), dump_problem(plan.problem, plan.unmeasured))


def _files(plan: Plan, fleet: Fleet) -> FilesPart:
    """Writes the problem."""
    text = dump_problem(plan.problem, plan.unmeasured, compact=True)
    replace_text(fleet.output / PROBLEM_JSON, text)
    return FilesPart(
        plan_yaml=_relative(fleet.path, fleet.output),
        problem=PROBLEM_JSON,
        problem_sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def _relative(path: Path, folder: Path) -> str:
    """Absolute where there is no way from one to the other, as between the drives of Windows."""
    try:
        return Path(relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def _engine_of(serving: Serving) -> tuple[str, str, str, str]:
    """Workload, variant, backend and device; of a slice, which engines are built for, its own name."""
    c = serving.candidate
    device = c.device if c.slices is None else serving.profiles[0].configuration.device
    return c.workload, c.variant, c.backend, device


def _taken_in(services: Sequence[Service], accepted: Sequence[Serving]) -> Iterator[TakenIn]:
    """Where the profiles come from that are not of this machine's CPU."""
    for service in services:
        assert service.prepared is not None and service.here is not None
        cpu = service.prepared.cpu.device.name
        here = {place.device for place in service.prepared.places}
        found = {
            (p.configuration.device, p.configuration.backend): p.environment
            for serving in accepted
            if serving.candidate.workload == service.spec.workload.name
            for p in serving.profiles
            if p.configuration.device != cpu
        }
        for (device, backend), environment in sorted(found.items(), key=lambda item: item[0]):
            yield TakenIn(device, service.here.priced_as[device], backend, environment, device in here)


def _notes(
    fleet: Fleet,
    services: Sequence[Service],
    accepted: Sequence[Serving],
    solution: Solution,
    problem: Problem,
) -> Iterator[str]:
    """What the reader must know before trusting the plan."""
    chosen = {i for placement in solution.placements for i, _ in placement.pattern.replicas}
    used = [serving for serving in accepted if serving.candidate.id in chosen]
    of: dict[str, list[str]] = {}
    for service in services:
        mine = [s for s in used if s.candidate.workload == service.spec.workload.name]
        for note in service.notes(mine):
            of.setdefault(note, []).append(service.spec.workload.name)
    for note, names in of.items():
        yield note if len(names) == len(services) else f"{', '.join(names)}: {note}"
    first = next((service.prepared for service in services if service.prepared), None)
    if first is not None:
        if first.sold_as.note:
            yield first.sold_as.note
        yield from _conditions(accepted)
    yield from _calibrated(used)
    if fleet.limits.spot_availability == 1.0 and any(
        offer.purchase == SPOT for offer in used_offers(problem, [solution])
    ):
        yield (
            "Spot instances are planned as if they were never interrupted: no source gives a rate; state "
            "yours in fleet.spot_availability."
        )
    unknown = sum(figures.power_w is None for figures in problem.figures)
    if fleet.objective in (ENERGY, CARBON) and unknown:
        yield (
            f"{unknown} of {len(problem.offers)} offers are left out: their power is unknown (that of "
            "the others is what their accelerators draw at most, without the host)."
        )
    yield from solution_notes(fleet, solution, problem)


def _calibrated(used: Sequence[Serving]) -> Iterator[str]:
    found = {
        (p.configuration.variant, p.configuration.backend, p.configuration.device, p.calibration)
        for serving in used
        for p in serving.profiles
        if p.calibration != 1.0
    }
    for variant, backend, device, factor in sorted(found):
        yield (
            f"Calibrated: services of {variant} with {backend} on {device} are taken to last {factor:.3f} "
            "times as long as profiled, as they did in service (planner verify)."
        )


def _conditions(accepted: Sequence[Serving]) -> Iterator[str]:
    profiles = [profile for serving in accepted for profile in serving.profiles]
    busy = [p.foreign_load for p in profiles if p.foreign_load is not None]
    if busy and max(busy) > BUSY:
        yield (
            f"Noisy: other processes kept up to {max(busy):.0%} of this machine busy while it was measured, "
            "latencies may be too high; measure again on a quiet machine (delete the profiles first)."
        )
    if drifts := [p.conditions.drift for p in profiles if p.conditions.drift]:
        yield (
            f"Drift: latencies changed by up to {max(map(abs, drifts)):.0%} while they were measured, and "
            "did not settle; what they will be in service is less certain than the intervals say."
        )
    if reasons := dict.fromkeys(reason for p in profiles for reason in p.conditions.throttled or ()):
        yield (
            f"Throttled: clocks were held down while it was measured ({', '.join(reasons)}); latencies may "
            "be higher than they need be."
        )
