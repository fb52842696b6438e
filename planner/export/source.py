"""What is exported: a plan.json with the engines beside it, and how its files name it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from planner.errors import InputError, StoreError
from planner.report import ENGINES_FOLDER, Engine, PlanReport, plan_file, read_engines, read_report
from planner.spec import read_spec

_SHORT = 12


@dataclass(frozen=True, slots=True)
class Origin:
    """Which plan a file comes from; nothing in it tells of the machine that planned."""

    sha256: str
    """Of plan.json."""
    created_at: str
    planner_version: str

    @property
    def id(self) -> str:
        return self.sha256[:_SHORT]

    @property
    def line(self) -> str:
        made = f"made {self.created_at} by planner {self.planner_version}"
        return f"From plan {self.id} (plan.json's sha256), {made}."


@dataclass(frozen=True, slots=True)
class Source:
    """A plan as it was read; ``folder`` holds plan.json."""

    report: PlanReport
    origin: Origin
    folder: Path

    @property
    def engines_folder(self) -> Path:
        return self.folder / ENGINES_FOLDER

    def engines(self) -> list[Engine]:
        """Empty for a plan of imported profiles. Raises ManifestError where one is not the plan's."""
        return read_engines(self.engines_folder) if self.report.engines else []

    def dimensions(self, workload: str, variant: str) -> dict[str, int | str]:
        """What plan.yaml binds the dynamic dimensions of a variant's model to: a size, or ``"batch"``.

        Empty where plan.yaml is not where it was, or no longer what the plan was made of.
        """
        try:
            spec = read_spec(self.folder / self.report.files.plan_yaml)
        except InputError:
            return {}
        if spec.sha256 != self.report.inputs.plan_yaml_sha256:
            return {}
        entrant = variant.rpartition(".")[0]
        named = (e for s in spec.services if s.workload.name == workload for e in s.entrants)
        return next((dict(e.dimensions) for e in named if e.name == entrant), {})


def read_source(path: Path) -> Source:
    """Of plan.json, or of the folder that holds it. Raises StoreError."""
    file = plan_file(path)
    report = read_report(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise StoreError(f"{file}: cannot be read ({error.strerror}); make one with planner plan") from None
    origin = Origin(hashlib.sha256(content).hexdigest(), report.created_at, report.planner_version)
    return Source(report, origin, file.parent)
