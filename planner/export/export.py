"""One export, whatever the target: a folder of files that stand on their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from planner.errors import InputError
from planner.export.files import EXPORTED, README, File, write_files
from planner.export.kserve import inference_services
from planner.export.kubernetes import ADAPTER_VALUES, manifests, metrics_rule
from planner.export.servers import Server, about_server, models, servers
from planner.export.skypilot import REPOSITORIES, tasks
from planner.export.source import Origin, read_source
from planner.export.traffic import planned_rates, traffic_notes
from planner.export.triton import repositories

Target = Literal["triton", "kubernetes", "kserve", "skypilot"]
TARGETS: tuple[Target, ...] = get_args(Target)
DEFAULT_IMAGE = "nvcr.io/nvidia/tritonserver:26.08-py3"
DEFAULT_CLAIM = "model-repository"


@dataclass(frozen=True, slots=True)
class Settings:
    """``claim``: the PersistentVolumeClaim with the Triton export. ``dimensions``: sizes to warm up with."""

    image: str = DEFAULT_IMAGE
    claim: str = DEFAULT_CLAIM
    dimensions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exported:
    """``notes``: what the user has to do, or to know."""

    target: Target
    origin: Origin
    servers: tuple[Server, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def export(plan: Path, target: Target, output: Path, settings: Settings, force: bool = False) -> Exported:
    """Write the export of plan.json, or of the folder that holds it, as the folder ``output``.

    Raises InputError where the target cannot run what the plan does, StoreError where files cannot be read or
    written, ManifestError where an engine is not the plan's.
    """
    source = read_source(plan)
    fleet = servers(source.report)
    if not fleet:
        raise InputError(f"{plan}: the plan has no instances, so there is nothing to export")
    files: list[File] = []
    notes: list[str] = []
    if target in ("triton", "skypilot"):
        below = f"{REPOSITORIES}/" if target == "skypilot" else ""
        made = repositories(source, fleet, settings.dimensions, below)
        files += made.files
        notes += made.notes
    if target == "skypilot":
        files += tasks(fleet, source.origin, settings.image)
        notes += _apart(fleet)
    elif target == "kubernetes":
        files += manifests(fleet, source.origin, settings.image, settings.claim)
        notes += traffic_notes(fleet)
    elif target == "kserve":
        files += inference_services(fleet, source.origin, settings.image, settings.claim)
        notes += _apart(fleet)
    if target in ("kubernetes", "kserve") and any(server.scaled for server in fleet):
        files.append(metrics_rule(source.origin))
    notes += _left(target, fleet, settings, bool(source.report.engines))
    readme = File(README, _readme(target, source.origin, fleet, notes))
    written = write_files(output, [readme, *files], force)
    return Exported(target, source.origin, fleet, tuple(written), tuple(notes))


def _apart(fleet: Sequence[Server]) -> list[str]:
    """KServe and SkyPilot give every server an address of its own."""
    notes = []
    for model in models(fleet):
        rates = planned_rates(fleet, model)
        if len(rates) > 1:
            planned = ", ".join(f"{server.name} {rate * count:.4g}" for server, rate, count in rates)
            notes.append(f"{model}: share its traffic out as planned, requests/s of all: {planned}.")
    return notes


def _left(target: Target, fleet: Sequence[Server], settings: Settings, engines: bool) -> list[str]:
    """What no export can do for its user."""
    notes = []
    if target in ("kubernetes", "kserve"):
        notes.append(
            f"The models come from the PersistentVolumeClaim {settings.claim}: copy what `planner export "
            "--to triton` writes onto it."
            if engines
            else "The plan has no engines, its latencies were imported: put model repositories, each called "
            f"like its server, onto the PersistentVolumeClaim {settings.claim}."
        )
        if any(server.scaled for server in fleet):
            notes.append(f"The autoscaler needs a Prometheus adapter with the rule in {ADAPTER_VALUES}.")
        if any(server.mig for server in fleet):
            notes.append("MIG: divide the GPUs as planned, with the GPU operator's strategy `mixed`.")
    if target == "triton":
        return notes
    if any(server.least == 0 for server in fleet):
        notes.append("What the plan runs none of in some period is kept at one.")
    if any(server.offer.purchase == "reserved" for server in fleet):
        notes.append("Commitments are bought with the provider; here their instances are like any other.")
    return notes


def _readme(target: Target, origin: Origin, fleet: Sequence[Server], notes: Sequence[str]) -> str:
    lines = [EXPORTED, f"# {target}", "", origin.line, ""]
    lines += [f"- `{server.name}`: {' '.join(about_server(server))}" for server in fleet]
    lines += ["", "## Left to do, or to know", "", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"
