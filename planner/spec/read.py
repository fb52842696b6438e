"""plan.yaml to values. Every error names the file, the line, the key, and what was expected."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from planner.domain.quality import AccuracyFloor, DeclaredAccuracy
from planner.domain.workload import FleetLimits, Slo, Workload
from planner.errors import SpecError
from planner.spec.lines import Lines, first_error
from planner.spec.sections import PlanFile
from planner.spec.values import Entrant, Imported, Spec

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of plan.yaml."""
    schema = PlanFile.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "plan.yaml"}


def read_spec(path: Path) -> Spec:
    """Parse and check plan.yaml. Raises SpecError with file, line, key and what was expected."""
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
    try:
        parsed = PlanFile.model_validate(lines.content)
    except ValidationError as error:
        raise SpecError(first_error(lines, error, PlanFile)) from None
    return _to_values(path, hashlib.sha256(raw).hexdigest(), parsed)


def _to_values(path: Path, sha256: str, file: PlanFile) -> Spec:
    base = path.resolve().parent
    output = base / file.output
    slo = file.workload.slo
    workload = Workload(
        name=file.workload.name or _default_name(file),
        rate_rps=file.workload.rate_rps,
        slo=Slo(slo.percentile, slo.latency, slo.overhead, slo.headroom),
        floor=AccuracyFloor(
            file.accuracy.metric, file.accuracy.minimum, file.accuracy.max_drop, file.accuracy.judge
        ),
    )
    limits = FleetLimits(
        providers=tuple(file.fleet.providers),
        regions=tuple(file.fleet.regions),
        purchases=tuple(file.fleet.purchase),
        max_instances_per_offer=file.fleet.max_instances_per_offer,
    )
    return Spec(
        path=path.resolve(),
        base=base,
        sha256=sha256,
        entrants=_entrants(path, base, file),
        random_samples=file.data.samples,
        workload=workload,
        recipes=None if file.recipes == "auto" else tuple(dict.fromkeys(file.recipes)),
        backends=tuple(dict.fromkeys(file.backends)),
        batch_sizes=tuple(sorted(set(file.batch_sizes))),
        threads=None if file.threads == "auto" else tuple(sorted(set(file.threads))),
        limits=limits,
        packing_derating=file.fleet.packing_derating,
        catalog=base / file.fleet.catalog if file.fleet.catalog else None,
        output=output,
        profiles=base / file.profiles if file.profiles else output / "profiles",
        imported=_imported(file),
    )


def _default_name(file: PlanFile) -> str:
    if file.imported is None:
        return Path(file.model or "").stem
    return file.imported.model or Path(file.imported.profiles).stem


def _imported(file: PlanFile) -> Imported | None:
    if file.imported is None:
        return None
    declared = (DeclaredAccuracy(v, given.value, given.source) for v, given in file.accuracy.declared.items())
    section = file.imported
    return Imported(section.profiles, section.model, tuple(section.sold_as.items()), tuple(declared))


def _entrants(path: Path, base: Path, file: PlanFile) -> tuple[Entrant, ...]:
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
