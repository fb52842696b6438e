"""plan.yaml as values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.domain.problem import Period
from planner.domain.quality import DeclaredAccuracy
from planner.domain.workload import FleetLimits, Workload


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model that competes for the workload. The main one has no name."""

    name: str
    model: Path
    dimensions: tuple[tuple[str, int | str], ...]
    calibration: str
    evaluation: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Profiles in place of a model. ``profiles`` is a file or folder, or the name of reference profiles."""

    profiles: str
    model: str | None
    sold_as: tuple[tuple[str, str], ...]
    declared: tuple[DeclaredAccuracy, ...]
    class_models: tuple[tuple[str, str], ...] = ()
    """In place of ``model``: by class of requests, which model's."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One workload of a plan.yaml as values. Paths are absolute; ``base`` is the file's folder.

    ``output`` is where its variants and their accuracy are kept; of several workloads each has its folder.
    """

    path: Path
    base: Path
    sha256: str
    entrants: tuple[Entrant, ...]
    """The main model first, then the further candidates; none where profiles are imported."""
    random_samples: int
    workload: Workload
    recipes: tuple[str, ...] | None
    """None: those that make sense for each model and the backends."""
    backends: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...] | None
    """None: powers of two up to the machine's cores."""
    limits: FleetLimits
    packing_derating: float
    catalog: Path | None
    output: Path
    profiles: Path
    imported: Imported | None = None
    class_dimensions: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    """By class of requests, in the workload's order: in place of what an entrant's dimensions say."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """plan.yaml as values: the workloads that share a fleet, in the order of the file, and its limits.

    ``periods``: none: one, that never ends. ``objective`` as in ``problem.Problem``. ``output`` is where
    plan.json and the engines go.
    """

    path: Path
    sha256: str
    services: tuple[Spec, ...]
    limits: FleetLimits
    periods: tuple[Period, ...]
    objective: str
    packing_derating: float
    catalog: Path | None
    output: Path

    @property
    def only(self) -> Spec:
        """The one workload. Raises ValueError where there are several."""
        (spec,) = self.services
        return spec
