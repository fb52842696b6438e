"""What the planner found, with everything that it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.domain.device import Device
from planner.domain.model import Model
from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Period, Placement, Problem, Rejection, Solution
from planner.domain.profile import Environment, Profile
from planner.domain.quality import Quality
from planner.domain.variant import Variant
from planner.domain.workload import FleetLimits, Workload


@dataclass(frozen=True, slots=True)
class Serving:
    """A candidate with the analysis behind its capacity.

    ``capacity_rps`` is one replica's, before headroom; ``sojourn_ns`` the SLO's percentile at that rate.
    ``packed_capacity_rps`` is the same with service times stretched for crowded instances.
    """

    candidate: Candidate
    capacity_rps: float
    capacity_low_rps: float
    """The lower end of its interval, which is planned with; and the upper one."""
    capacity_high_rps: float
    packed_capacity_rps: float
    sojourn_ns: float
    utilisation: float
    mean_batch_size: float
    truncated_mass: float
    lattice_step_ns: float
    profiles: tuple[Profile, ...]
    """One for each batch size up to the candidate's largest, ascending; of each class where there are any."""
    profile_classes: tuple[str, ...] = ()
    """Which class each of the profiles is of; none where all requests are alike."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The accuracy of a variant, as ``backend`` computes it; ``workload``: which one's it is."""

    variant: Variant
    backend: str
    quality: Quality
    workload: str = ""


@dataclass(frozen=True, slots=True)
class DataDigest:
    """Where data came from; ``synthetic`` data are random and say nothing about real accuracy."""

    source: str
    sha256: str
    samples: int
    synthetic: bool


@dataclass(frozen=True, slots=True)
class ImportedProfiles:
    """What a plan rests on where nothing was measured; ``name`` as in plan.yaml, ``sha256`` of the file."""

    name: str
    sha256: str
    model: str
    profiles: int


@dataclass(frozen=True, slots=True)
class TakenIn:
    """Where the profiles of a device and backend come from that is not the planning machine's CPU.

    ``here``: a device of the planning machine all the same; otherwise they were taken elsewhere.
    """

    device: str
    priced_as: str
    backend: str
    environment: Environment
    here: bool


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A file that was built of a variant for a device of this machine, where its backend loads no ONNX.

    ``device`` is the catalog's.
    """

    variant_sha256: str
    backend: str
    device: str
    path: Path


@dataclass(frozen=True, slots=True)
class Planned:
    """A workload of a plan, and what serves it: a model, or ``imported`` profiles and none."""

    workload: Workload
    model: Model | None
    calibration: DataDigest | None
    evaluation: DataDigest | None
    imported: ImportedProfiles | None = None


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """The cheapest plan without the winner's leading choice, and why it lost; None where there is none."""

    solution: Solution | None
    without: str
    reason: str


@dataclass(frozen=True, slots=True)
class Margin:
    """The SLO's percentile that is predicted for a candidate's replicas at their planned rate."""

    candidate_id: str
    extrapolated: bool
    replica_rps: float
    sojourn_ns: float
    budget_ns: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything in plan.json; ``notes`` are what the reader must know before trusting it.

    Environment and device are those of this machine's run; a plan from imported profiles has neither.
    """

    created_at: str
    planner_version: str
    spec_sha256: str
    catalog_sha256: str
    services: tuple[Planned, ...]
    periods: tuple[Period, ...]
    objective: str
    limits: FleetLimits
    packing_derating: float
    environment: Environment | None
    device: Device | None
    device_note: str
    judgements: tuple[Judgement, ...]
    """Of each workload the baseline's first."""
    servings: tuple[Serving, ...]
    rejections: tuple[Rejection, ...]
    offers_considered: int
    offers: tuple[Offer, ...]
    """The offers that the plan, the baseline and the runner-up use."""
    problem: Problem
    """With every candidate that was measured; ``unmeasured``: others, with the most that they could take."""
    unmeasured: tuple[Candidate, ...]
    solution: Solution
    margins: tuple[Margin, ...]
    baseline: Solution | None
    baseline_note: str
    runner_up: RunnerUp
    measured: int
    reused: int
    notes: tuple[str, ...]
    taken_in: tuple[TakenIn, ...] = ()
    built: tuple[BuiltEngine, ...] = ()


def replica_rates(placement: Placement) -> tuple[tuple[str, float], ...]:
    """Requests per second that one replica of each of the placement's candidates gets, by candidate id."""
    flows = dict(placement.flow_rps)
    return tuple(
        (candidate_id, flows[candidate_id] / (replicas * placement.instances))
        for candidate_id, replicas in placement.pattern.replicas
    )
