"""plan.yaml to values: the only place that knows the file's keys.

The pydantic classes mirror the file, key for key; ``read_spec`` turns them into the domain's values. Every
error names the file, the line, the key, and what was expected.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from planner.domain.quality import AccuracyFloor, DeclaredAccuracy
from planner.domain.workload import FleetLimits, Slo, Workload
from planner.errors import SpecError
from planner.units import parse_duration_ns, parse_share

RANDOM_DATA = "random"
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def _duration(value: object) -> int:
    if isinstance(value, str):
        return parse_duration_ns(value)
    raise ValueError(f"expected a duration with its unit, such as 20ms, got {value!r}")


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a share, such as 10% or 0.1, got {value!r}")
    try:
        return parse_share(value)
    except ValueError:
        raise ValueError(f"expected a share, such as 10% or 0.1, got {value!r}") from None


Duration = Annotated[int, BeforeValidator(_duration, json_schema_input_type=str)]
Share = Annotated[float, BeforeValidator(_share, json_schema_input_type=float | str)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class DataSection(_Section):
    """Each is an `.npz` file, a Python callable `module:function`, or `random`."""

    calibration: str = Field(RANDOM_DATA, description="Inputs that quantization is calibrated on.")
    evaluation: str = Field(
        RANDOM_DATA,
        description="Inputs and `labels` that accuracy is measured on; calibration never sees them. "
        "`random` has no labels: the metric is then agreement with the fp32 baseline.",
    )
    samples: int = Field(256, ge=8, description="How many samples `random` draws for each of the two.")


class CandidateSection(_Section):
    """Another model for the same task; it gets the same recipes and competes on equal terms."""

    model: str = Field(description="Path of the ONNX model.")
    name: str | None = Field(None, description="Defaults to the model's file name.")
    dimensions: dict[str, int | Literal["batch"]] = {}
    data: DataSection | None = Field(
        None, description="Where its inputs differ: the same samples and labels, prepared for this model."
    )


class DeclaredSection(_Section):
    """The accuracy of a variant, from somewhere else."""

    value: Share
    source: str = Field(min_length=1, description="Where the value comes from; shown beside it.")


class AccuracySection(_Section):
    metric: str = Field("agreement", description="See docs/metrics.md; or `module:function`.")
    minimum: Share | None = Field(
        None, description="The metric must be at least this; where less is better, at most."
    )
    max_drop: Share | None = Field(None, description="How much worse than fp32 the metric may be, absolute.")
    judge: Literal["interval", "point"] = Field(
        "interval", description="What must hold the floor: the interval's lower end, or the estimate."
    )
    declared: dict[str, DeclaredSection] = Field(
        {}, description="With imported profiles, of which no accuracy can be measured: that of each variant."
    )

    @model_validator(mode="after")
    def _one_floor(self) -> AccuracySection:
        if (self.minimum is None) == (self.max_drop is None):
            raise ValueError("give one of minimum (absolute) and max_drop (from the fp32 baseline)")
        for key, value in (("minimum", self.minimum), ("max_drop", self.max_drop)):
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{key}: expected a number of 0 or more, got {value:g}")
        return self


class ImportedSection(_Section):
    """Profiles that were measured elsewhere, or published, in place of a model."""

    profiles: str = Field(description="A CSV file or profile store, or the name of reference profiles.")
    model: str | None = Field(None, description="Which model's, where there are several.")
    sold_as: dict[str, str] = Field(
        {},
        description="The catalog's device for a device of the profiles, where they are called differently.",
    )


class SloSection(_Section):
    percentile: float = Field(99.0, gt=0, lt=100, description="Of the time in queue and in the engine.")
    latency: Duration = Field(description="What the percentile may be, end to end, such as 50ms.")
    overhead: Duration = Field(
        0, description="Network, pre- and post-processing; subtracted from the latency."
    )
    headroom: Share = Field(0.1, ge=0, lt=1, description="Share of each replica's capacity kept free.")

    @model_validator(mode="after")
    def _something_left(self) -> SloSection:
        if self.latency <= self.overhead:
            raise ValueError("overhead must be below latency: nothing is left for queueing and inference")
        return self


class WorkloadSection(_Section):
    name: str | None = Field(None, description="Defaults to the model's file name.")
    rate_rps: float = Field(gt=0, allow_inf_nan=False, description="Requests per second to be served.")
    slo: SloSection


class FleetSection(_Section):
    """An empty list means any."""

    providers: list[str] = []
    regions: list[str] = []
    purchase: list[Literal["on-demand", "spot", "reserved"]] = Field(["on-demand"], min_length=1)
    max_instances_per_offer: int | None = Field(None, ge=1)
    packing_derating: Share = Field(
        0.1,
        ge=0,
        lt=1,
        description="How much slower a replica is assumed to be where more of them share an instance than "
        "were measured side by side.",
    )
    catalog: str | None = Field(None, description="A folder that extends or replaces the shipped catalog.")


class PlanFile(_Section):
    """plan.yaml."""

    model: str | None = Field(None, description="Path of the ONNX model.")
    imported: ImportedSection | None = Field(None, description="In place of a model: profiles of one.")
    dimensions: dict[str, int | Literal["batch"]] = Field(
        {}, description="Binds each dynamic dimension of the inputs to a size, or to `batch`."
    )
    data: DataSection = Field(default_factory=lambda: DataSection.model_validate({}))
    accuracy: AccuracySection
    workload: WorkloadSection
    candidates: list[CandidateSection] = Field(
        [], description="Further models for the same task: a distilled student, a smaller architecture."
    )
    recipes: Literal["auto"] | Annotated[list[str], Field(min_length=1)] = Field(
        "auto", description="Variants to make; auto: those that make sense for the model and the backends."
    )
    backends: list[str] = Field(
        ["onnxruntime"],
        min_length=1,
        description="What runs the engines on this machine; see docs/devices.md for those there are.",
    )
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field([1, 2, 4, 8], min_length=1)
    threads: Literal["auto"] | list[Annotated[int, Field(ge=1)]] = Field(
        "auto", description="Threads of one replica; auto: powers of two up to this machine's cores."
    )
    fleet: FleetSection = Field(default_factory=lambda: FleetSection.model_validate({}))
    output: str = Field("plan", description="Output folder.")
    profiles: str | None = Field(None, description="Profile store; defaults to `profiles` in the output.")

    @model_validator(mode="after")
    def _one_source(self) -> PlanFile:
        if self.model is None and self.imported is None:
            raise ValueError("model: missing; see planner schema plan")
        if self.imported is None:
            if self.accuracy.declared:
                raise ValueError("accuracy.declared is for imported profiles; a model's accuracy is measured")
            return self
        for key in (
            "model",
            "candidates",
            "dimensions",
            "data",
            "recipes",
            "backends",
            "batch_sizes",
            "threads",
        ):
            if key in self.model_fields_set:
                raise ValueError(f"{key}: not together with imported, which has no model to make variants of")
        if not self.accuracy.declared:
            raise ValueError("accuracy.declared: missing; imported profiles need it for each variant")
        return self


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


@dataclass(frozen=True, slots=True)
class Spec:
    """plan.yaml as values. Paths are absolute; ``base`` is the file's folder."""

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
    lines = _Lines(path, text)
    try:
        parsed = PlanFile.model_validate(lines.content)
    except ValidationError as error:
        raise SpecError(_first_error(lines, error)) from None
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


class _Lines:
    """The file's content, and the line on which each key stands."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._line: dict[tuple[str | int, ...], int] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            problem = getattr(error, "problem", None) or "not YAML"
            raise SpecError(f"{where}: not valid YAML: {problem}") from None
        if node is None or not isinstance(node, yaml.MappingNode):
            raise SpecError(f"{path}: expected keys such as model: and workload:, found none")
        self._walk(node, ())

    def _walk(self, node: yaml.Node, location: tuple[str | int, ...]) -> None:
        self._line[location] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = str(key.value)
                if name in seen:
                    raise SpecError(
                        f"{self.path}:{key.start_mark.line + 1}: {name}: given twice; keep one of them"
                    )
                seen.add(name)
                self._walk(value, (*location, name))
                self._line[(*location, name)] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk(value, (*location, index))

    def at(self, location: tuple[str | int, ...]) -> str:
        while location and location not in self._line:
            location = location[:-1]
        return f"{self.path}:{self._line[location]}"


def _first_error(lines: _Lines, error: ValidationError) -> str:
    # Unknown keys first: they explain the missing ones. Then the most specific: of a choice between a
    # word and a list, the error inside the list that was given says more than "expected the word".
    first = min(
        error.errors(),
        key=lambda e: (e["type"] != "extra_forbidden", -len(_known_part(lines.content, e["loc"]))),
    )
    location = tuple(first["loc"])
    known = _known_part(lines.content, location)
    key = ".".join(str(part) for part in (location if first["type"] == "missing" else known))
    where = lines.at(location)
    if first["type"] == "extra_forbidden":
        return f"{where}: {key}: unknown key{_nearest(location)}"
    if first["type"] == "missing":
        return f"{where}: {key}: missing; see planner schema plan"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = first.get("input")
    if isinstance(given, str | int | float) and "got" not in message:
        message += f", got {given!r}"
    return f"{where}: {key or 'plan.yaml'}: {message}"


def _known_part(content: object, location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The part of a pydantic location that exists in the file (union branches add names of their own)."""
    part: list[str | int] = []
    for step in location:
        inside = isinstance(content, dict) and step in content
        listed = isinstance(content, list) and isinstance(step, int) and step < len(content)
        if inside or listed:
            content = content[step]  # type: ignore[index]
            part.append(step)
    return tuple(part)


def _nearest(location: tuple[str | int, ...]) -> str:
    section: type[BaseModel] = PlanFile
    for step in location[:-1]:
        annotation = section.model_fields[str(step)].annotation if str(step) in section.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    known = list(section.model_fields)
    match = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
    return f"; did you mean {match[0]}?" if match else f"; known here: {', '.join(known)}"
