"""Reads the catalog's YAML: ``sources.yaml`` and ``devices/*.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from planner.catalog.catalog import CpuSignature
from planner.catalog.fields import FieldError, Fields, Problem
from planner.domain.device import Device, MigSlice, Source

QUALITIES = ("read", "derived", "from-memory")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "int4", "fp4")
FIGURES = {
    "memory": "memory_gb",
    "bandwidth": "bandwidth_gb_per_s",
    "tdp": "tdp_w",
    "compute_capability": "compute_capability",
    "mig": "mig",
    "cores": "cores",
    "clock": "clock_ghz",
    "operations_per_cycle": "operations_per_cycle",
    "cpuid": "cpuid",
}
"""Name of a figure, as ``sources`` spells it, to the key that holds it."""

_GIGA, _TERA = 10**9, 10**12
_DEVICE_KEYS = (
    *("name", "kind", "vendor", "architecture", "note", "source", "sources", "instruction_sets"),
    *("peak_tera_ops_per_s", *FIGURES.values()),
)


class _Located(dict[str, Any]):
    """A YAML mapping that knows the line it starts on, and that of each key."""

    line: int
    lines: dict[str, int]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe loading, but dates stay text (they are checked here) and a key given twice is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def mapping(self, node: yaml.MappingNode) -> _Located:
        located = _Located()
        located.line, located.lines = node.start_mark.line + 1, {}
        for key_node, value_node in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in located:
                raise yaml.MarkedYAMLError(
                    problem=f"{key!r} is given twice", problem_mark=key_node.start_mark
                )
            located[key] = self.construct_object(value_node, deep=True)
            located.lines[key] = key_node.start_mark.line + 1
        return located


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)


def read_sources(file: Path, problems: list[Problem]) -> dict[str, Source]:
    """The sources by id. What is wrong goes to ``problems``, and its row is left out."""
    sheet = _load(file, problems)
    if sheet is None:
        return {}
    if not isinstance(sheet, _Located):
        problems.append(Problem(str(file), 1, "expected a mapping of ids to sources"))
        return {}
    sources = {}
    for name, entry in sheet.items():
        try:
            fields = _fields(file, entry, sheet.lines[name])
            fields.allow(("citation", "as_of", "quality"))
            sources[name] = Source(
                citation=fields.text("citation"),
                as_of=fields.iso_date("as_of"),
                quality=fields.choice("quality", QUALITIES),
            )
        except FieldError as error:
            problems.append(error.problem)
    return sources


def read_devices(
    file: Path, sources: Mapping[str, Source], problems: list[Problem]
) -> list[tuple[int, Device, CpuSignature | None]]:
    """The devices with the line each starts on, and the CPUs it stands for where ``cpuid`` says so."""
    sheet = _load(file, problems)
    if sheet is None:
        return []
    if not isinstance(sheet, list):
        problems.append(Problem(str(file), 1, "expected a list of devices"))
        return []
    devices = []
    for entry in sheet:
        try:
            fields = _fields(file, entry, 1)
            devices.append((fields.line, _device(fields, sources), _signature(fields)))
        except FieldError as error:
            problems.append(error.problem)
    return devices


def _load(file: Path, problems: list[Problem]) -> object:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.append(Problem(str(file), mark.line + 1 if mark else 1, f"not valid YAML: {error.problem}"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problems.append(Problem(str(file), 1, f"not valid YAML: {str(error).splitlines()[0]}"))
    return None


def _fields(file: Path, entry: object, line: int) -> Fields:
    if not isinstance(entry, _Located):
        raise FieldError(Problem(str(file), line, f"expected a mapping, got {entry!r}"))
    return Fields(str(file), entry.line, entry, entry.lines)


def _device(fields: Fields, sources: Mapping[str, Source]) -> Device:
    fields.allow(_DEVICE_KEYS)
    kind = fields.choice("kind", ("gpu", "cpu"))
    cited = _cited(fields, sources)
    peaks, derived = _peaks(fields, cited)
    memory, bandwidth = fields.optional_number("memory_gb"), fields.optional_number("bandwidth_gb_per_s")
    return Device(
        name=fields.text("name"),
        kind=kind,
        vendor=fields.text("vendor"),
        architecture=fields.text("architecture"),
        memory_bytes=None if memory is None else round(memory * _GIGA),
        bandwidth_bytes_per_s=None if bandwidth is None else bandwidth * _GIGA,
        tdp_w=fields.optional_number("tdp_w"),
        peak_ops_per_s=peaks,
        compute_capability=fields.text("compute_capability") if fields.has("compute_capability") else None,
        mig=_slices(fields),
        cores=fields.whole("cores") if fields.has("cores") else None,
        sources=tuple((cited | derived).items()),
        note=fields.optional_text("note"),
    )


def _cited(fields: Fields, sources: Mapping[str, Source]) -> dict[str, Source]:
    """The source of each figure that the device gives: its own in ``sources``, or else ``source``."""
    peaks = [name for name in PRECISIONS if name in fields.numbers("peak_tera_ops_per_s")]
    given = [name for name, key in FIGURES.items() if fields.has(key)] + peaks
    own = fields.values.get("sources", {})
    if not isinstance(own, Mapping):
        raise fields.fail("sources", "a mapping of figures to source ids")
    chosen = Fields(fields.file, fields.lines.get("sources", fields.line), own, {})
    chosen.allow(given)
    return {
        name: sources[chosen.choice(name, sources) if name in own else fields.choice("source", sources)]
        for name in given
    }


def _peaks(
    fields: Fields, cited: Mapping[str, Source]
) -> tuple[tuple[tuple[str, float], ...], dict[str, Source]]:
    """Peak rates as given, or for a CPU cores x clock x operations a cycle, with the source of the latter."""
    given = fields.numbers("peak_tera_ops_per_s")
    per_cycle = fields.numbers("operations_per_cycle")
    for key, names in (("peak_tera_ops_per_s", given), ("operations_per_cycle", per_cycle)):
        if not set(names) <= set(PRECISIONS):
            raise fields.fail(key, "only " + ", ".join(PRECISIONS))
    if not per_cycle:
        return tuple((name, given[name] * _TERA) for name in PRECISIONS if name in given), {}
    if given:
        raise fields.fail("operations_per_cycle", "nothing beside peak_tera_ops_per_s")
    cores, clock_ghz = fields.whole("cores"), fields.number("clock_ghz")
    used = [cited[name] for name in ("cores", "clock", "operations_per_cycle")]
    oldest = min(source.as_of for source in used)
    peaks, derived = [], {}
    for name in (name for name in PRECISIONS if name in per_cycle):
        peaks.append((name, cores * clock_ghz * _GIGA * per_cycle[name]))
        formula = f"{cores} cores x {clock_ghz:g} GHz x {per_cycle[name]:g} operations a cycle"
        derived[name] = Source(f"{formula} ({used[2].citation})", oldest, "derived")
    return tuple(peaks), derived


def _slices(fields: Fields) -> tuple[MigSlice, ...]:
    """MIG profiles; the memory is the one in the profile's name (``1g.10gb``), as NVIDIA names them."""
    slices = []
    for name, count in fields.numbers("mig").items():
        compute, _, memory = name.partition("g.")
        if not (compute.isdigit() and memory.endswith("gb") and memory[:-2].isdigit()):
            raise fields.fail("mig", f"profiles such as 1g.10gb, not {name}")
        slices.append(MigSlice(name, int(memory[:-2]) * _GIGA, int(count)))
    return tuple(slices)


def _signature(fields: Fields) -> CpuSignature | None:
    if not fields.has("cpuid"):
        return None
    cpuid = fields.values["cpuid"]
    if not isinstance(cpuid, Mapping):
        raise fields.fail("cpuid", "a mapping with vendor, family and models")
    nested = Fields(fields.file, fields.lines["cpuid"], cpuid, {})
    nested.allow(("vendor", "family", "models", "steppings"))
    models = nested.whole_numbers("models")
    if not models:
        raise nested.fail("models", "at least one whole number")
    return CpuSignature(
        device=fields.text("name"),
        vendor=nested.text("vendor"),
        family=nested.whole("family"),
        models=models,
        steppings=nested.whole_numbers("steppings"),
        instruction_sets=fields.texts("instruction_sets"),
    )
