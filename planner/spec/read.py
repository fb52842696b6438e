"""plan.yaml to values. Every error names the file, the line, the key, and what was expected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from planner.domain.problem import ANY_INSTANCE, ANY_ZONE, NO_LOSS, Period, Quota, RequestClass
from planner.domain.quality import AccuracyFloor, DeclaredAccuracy
from planner.domain.workload import POISSON, Arrivals, Batching, FleetLimits, Slo, Workload
from planner.errors import SpecError
from planner.spec.blocks import merged
from planner.spec.lines import Lines, first_error
from planner.spec.sections import (
    ArrivalsSection,
    FleetFile,
    FleetSection,
    PlanFile,
    QuotaSection,
    ServiceSection,
    WorkloadSection,
)
from planner.spec.trace import hourly_rates, mean_gap_times
from planner.spec.values import Entrant, Fleet, Imported, Spec

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of plan.yaml."""
    schema = TypeAdapter(PlanFile | FleetFile).json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "plan.yaml"}


def read_spec(path: Path, output: Path | None = None) -> Fleet:
    """Parse and check plan.yaml; ``output`` overrides its output folder.

    Raises SpecError with file, line, key and what was expected.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except FileNotFoundError:
        raise SpecError(
            f"{path}: no such file; write one with: planner init MODEL.onnx --output {path}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    lines = Lines(path, text)
    whole = FleetFile if "services" in lines.content else PlanFile
    try:
        parsed = whole.model_validate(lines.content)
    except ValidationError as error:
        raise SpecError(first_error(lines, error, whole)) from None
    return _fleet(path, hashlib.sha256(raw).hexdigest(), parsed, output)


def _fleet(path: Path, sha256: str, file: PlanFile | FleetFile, output: Path | None) -> Fleet:
    base = path.resolve().parent
    sections = file.services if isinstance(file, FleetFile) else [file]
    several = len(sections) > 1
    folder = output.resolve() if output else base / file.output
    inside = base / file.profiles if file.profiles else base / file.output / "profiles"
    if output and inside.is_relative_to(base / file.output):
        inside = folder / inside.relative_to(base / file.output)
    limits = _limits(file.fleet)
    rates = [_rates(path, base, section.workload) for section in sections]
    periods = _periods(path, file.fleet, rates)
    if file.fleet.max_periods is not None and len(periods) > file.fleet.max_periods:
        periods, merging = merged([by_hour for by_hour in rates if by_hour], file.fleet.max_periods)
        rates = [merging.pop(0) if by_hour else by_hour for by_hour in rates]
    services = tuple(
        Spec(
            path=path.resolve(),
            base=base,
            sha256=sha256,
            entrants=_entrants(path, base, section),
            random_samples=section.data.samples,
            workload=_workload(path, base, section, by_period, periods),
            recipes=None if section.recipes == "auto" else tuple(dict.fromkeys(section.recipes)),
            backends=tuple(dict.fromkeys(section.backends)),
            batch_sizes=tuple(sorted(set(section.batch_sizes))),
            threads=None if section.threads == "auto" else tuple(sorted(set(section.threads))),
            limits=limits,
            packing_derating=file.fleet.packing_derating,
            catalog=base / file.fleet.catalog if file.fleet.catalog else None,
            output=folder / _name(section) if several else folder,
            profiles=inside,
            imported=_imported(section),
            class_dimensions=tuple(
                (c.name, tuple(c.dimensions.items())) for c in section.workload.classes if c.dimensions
            ),
        )
        for section, by_period in zip(sections, rates, strict=True)
    )
    _check_names(path, services)
    return Fleet(
        path=path.resolve(),
        sha256=sha256,
        services=services,
        limits=limits,
        periods=tuple(Period(name, hours) for name, hours in periods.items()),
        objective=file.fleet.objective,
        packing_derating=file.fleet.packing_derating,
        catalog=base / file.fleet.catalog if file.fleet.catalog else None,
        output=folder,
    )


def _limits(fleet: FleetSection) -> FleetLimits:
    return FleetLimits(
        providers=tuple(fleet.providers),
        regions=tuple(fleet.regions),
        purchases=tuple(fleet.purchase),
        max_instances_per_offer=fleet.max_instances_per_offer,
        terms=tuple(fleet.terms),
        without=tuple(fleet.without),
        only=tuple(fleet.only),
        quotas=tuple(_quotas(fleet.quotas)),
        budget_usd_per_hour=fleet.budget_usd_per_hour,
        max_kinds=fleet.max_kinds,
        min_zones=fleet.min_zones,
        spot_availability=fleet.spot_availability,
    )


def _quotas(sections: list[QuotaSection]) -> Iterator[Quota]:
    """Each is called by what it selects, and numbered where two select the same."""
    seen: dict[str, int] = {}
    for q in sections:
        parts = (q.provider, q.region, *q.instance_types, q.family, q.device, q.purchase, q.unit)
        name = " ".join(part for part in parts if part)
        seen[name] = seen.get(name, 0) + 1
        yield Quota(
            name=name if seen[name] == 1 else f"{name} ({seen[name]})",
            at_most=q.at_most,
            unit=q.unit,
            provider=q.provider,
            region=q.region,
            instance_types=tuple(q.instance_types),
            family=q.family,
            device=q.device,
            purchase=q.purchase,
        )


def _rates(path: Path, base: Path, workload: WorkloadSection) -> dict[str, float]:
    """The rate of each period by its name; none where it is the same always."""
    if workload.trace is None:
        return workload.rates_rps
    try:
        rates = hourly_rates(base / workload.trace)
    except SpecError as error:
        raise SpecError(f"{path}: workload.trace: {error}") from None
    return {hour: rate * workload.scale for hour, rate in rates.items()}


def _periods(path: Path, fleet: FleetSection, rates: list[dict[str, float]]) -> dict[str, float]:
    """Hours by period: those of the file, else those of the traces. All that vary have to name the same."""
    named = {period.name: period.hours for period in fleet.periods}
    if not named:
        hours = sorted({hour for by_period in rates for hour in by_period})
        named = dict.fromkeys(hours, 1.0)
    for by_period in rates:
        if by_period and set(by_period) != set(named):
            raise SpecError(
                f"{path}: fleet.periods: {', '.join(named)}; a workload has rates for "
                f"{', '.join(by_period)}; give one for each period"
            )
    return named


def _workload(
    path: Path, base: Path, section: ServiceSection, rates: dict[str, float], periods: dict[str, float]
) -> Workload:
    asked, accuracy = section.workload, section.accuracy
    by_period = tuple(rates[name] for name in periods) if rates else ()
    return Workload(
        name=_name(section),
        rate_rps=asked.rate_rps if asked.rate_rps is not None else max(by_period),
        slo=Slo(asked.slo.percentile, asked.slo.latency, asked.slo.overhead, asked.slo.headroom),
        floor=AccuracyFloor(accuracy.metric, accuracy.minimum, accuracy.max_drop, accuracy.judge),
        rates_rps=by_period,
        redundancy=_REDUNDANCY[asked.redundancy],
        max_spot_share=asked.max_spot_share,
        floor_on_average=accuracy.per == "average",
        arrivals=_arrivals(path, base, asked),
        batching=Batching(
            tuple(sorted(set(section.batching.queue_delays))), tuple(sorted(set(section.batching.instances)))
        ),
        capacity=asked.capacity,
        classes=tuple(RequestClass(c.name, c.share) for c in asked.classes),
    )


def _arrivals(path: Path, base: Path, asked: WorkloadSection) -> Arrivals:
    if isinstance(asked.arrivals, ArrivalsSection):
        return Arrivals(cv=asked.arrivals.cv)
    if asked.arrivals == "poisson" or asked.trace is None:
        return POISSON
    try:
        return Arrivals(trace=mean_gap_times(base / asked.trace))
    except SpecError as error:
        raise SpecError(f"{path}: workload.arrivals: {error}") from None


_REDUNDANCY = {"none": NO_LOSS, "n+1": ANY_INSTANCE, "zone": ANY_ZONE}


def _check_names(path: Path, services: tuple[Spec, ...]) -> None:
    names = [spec.workload.name for spec in services]
    for name in names:
        if len(names) > 1 and not _NAME.fullmatch(name):
            raise SpecError(
                f"{path}: services: name {name!r}: expected letters, digits, - and _ only; give workload.name"
            )
        if names.count(name) > 1:
            raise SpecError(f"{path}: services: two are called {name}; give each its own workload.name")


def _name(section: ServiceSection) -> str:
    return section.workload.name or _default_name(section)


def _default_name(file: ServiceSection) -> str:
    if file.imported is None:
        return Path(file.model or "").stem
    return file.imported.model or Path(file.imported.profiles).stem


def _imported(file: ServiceSection) -> Imported | None:
    if file.imported is None:
        return None
    declared = (DeclaredAccuracy(v, given.value, given.source) for v, given in file.accuracy.declared.items())
    section = file.imported
    models = ((c.name, c.imported_model) for c in file.workload.classes)
    return Imported(
        section.profiles,
        section.model,
        tuple(section.sold_as.items()),
        tuple(declared),
        tuple((name, model) for name, model in models if model),
    )


def _entrants(path: Path, base: Path, file: ServiceSection) -> tuple[Entrant, ...]:
    if file.model is None:
        return ()
    main = Entrant(
        "", base / file.model, tuple(file.dimensions.items()), file.data.calibration, file.data.evaluation
    )
    further = []
    for candidate in file.candidates:
        data = candidate.data or file.data
        name = candidate.name or Path(candidate.model).stem
        if not _NAME.fullmatch(name):
            raise SpecError(f"{path}: candidates: name {name!r}: expected letters, digits, - and _ only")
        further.append(
            Entrant(
                name,
                base / candidate.model,
                tuple(candidate.dimensions.items()),
                data.calibration,
                data.evaluation,
            )
        )
    names = [entrant.name for entrant in further]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"{path}: candidates: two are called {name}; give each its own name:")
    return (main, *further)
