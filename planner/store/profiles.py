"""Append, query: profiles as JSON files, keyed by configuration and environment.

A killed process leaves no half profile (files are renamed into place), and two processes may write one
store: they write different files, or the same content under the same name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from planner.domain.conditions import NOT_TOLD, Conditions, Range
from planner.domain.profile import Configuration, Environment, Profile
from planner.domain.published import Published
from planner.errors import StoreError
from planner.store.calibrations import Calibration, Key, key_of, read_calibrations
from planner.store.files import replace_text, writable_folder
from planner.store.names import in_path

# 4: engine_sha256
# 3: conditions: drift, throttling, energy, and the GPU's clock, temperature and power
# 2: imported profiles: source, published (percentiles in place of samples), configuration.model; fresh
# 1: first format
PROFILE_SCHEMA = 4
_READ = (1, 2, 3, 4)


class ProfileStore:
    """Profiles in ``folder``, a sub-folder for each model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, configuration: Configuration, environment: Environment) -> Profile | None:
        """The profile of exactly this configuration in exactly this environment, or None."""
        path = self.path_of(configuration, environment)
        return self.calibrated(read_profile(path)) if path.exists() else None

    def calibrated(self, profile: Profile) -> Profile:
        """With the factor that the store has for it (``calibrations``)."""
        return _with(read_calibrations(self.folder), profile)

    def put(self, profile: Profile) -> Path:
        """Write ``profile``, in place of an older one of the same configuration and environment."""
        path = self.path_of(profile.configuration, profile.environment)
        writable_folder(path.parent)
        replace_text(path, profile_to_json(profile))
        return path

    def all(self) -> list[Profile]:
        """Every profile, in the order of the file names."""
        known = read_calibrations(self.folder)
        return [_with(known, read_profile(path)) for path in self._files()]

    def of_model(self, sha256: str) -> list[Profile]:
        """Those of one model, in the order of the file names; no other model's files are read."""
        known = read_calibrations(self.folder)
        found = [_with(known, read_profile(path)) for path in self._files(_folder_of(sha256))]
        return [profile for profile in found if profile.configuration.model_sha256 == sha256]

    def each(self) -> Iterator[tuple[Path, Profile | StoreError]]:
        """Every file with its profile, uncalibrated, or with what is wrong with it."""
        for path in self._files():
            try:
                yield path, read_profile(path)
            except StoreError as error:
                yield path, error

    def path_of(self, configuration: Configuration, environment: Environment) -> Path:
        """The file of this configuration in this environment, whether there is one or not."""
        described = _configuration_to_json(configuration)
        if not configuration.model:
            # As schema 1 had it: what was measured before is found again.
            del described["model"]
        text = json.dumps([described, environment.id], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        variant = in_path(configuration.variant)
        name = f"{variant}-b{configuration.batch_size}-t{configuration.threads}-{key}.json"
        model = (
            in_path(configuration.model) if configuration.model else _folder_of(configuration.model_sha256)
        )
        return self.folder / model / name

    def id_of(self, profile: Profile) -> str:
        """What tells a profile from all others: of its configuration and environment, hexadecimal."""
        return self.path_of(profile.configuration, profile.environment).stem.rpartition("-")[2]

    def _files(self, model: str = "*") -> list[Path]:
        return sorted(path for path in self.folder.glob(f"{model}/*.json") if not path.name.startswith("."))


def _with(known: Mapping[Key, Calibration], profile: Profile) -> Profile:
    found = known.get(key_of(profile))
    return profile if found is None else replace(profile, calibration=found.factor)


def _folder_of(model_sha256: str) -> str:
    return in_path(model_sha256[:12])


def read_profile(path: Path) -> Profile:
    """Raises StoreError where the file is not a profile of a known schema."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), error) from None
    return profile_from_json(text, str(path))


def profile_to_json(profile: Profile) -> str:
    """The content of a profile's file."""
    return json.dumps(_to_json(profile), separators=(",", ":"))


def profile_from_json(text: str, where: str) -> Profile:
    """The profile of a file's content. Raises StoreError that begins with ``where`` unless it is one."""
    try:
        content = json.loads(text)
        if content["schema"] not in _READ:
            raise StoreError(
                f"{where}: profile schema {content['schema']}, this planner reads up to {PROFILE_SCHEMA}; "
                "move the file away and measure again"
            )
        return _from_json(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(where, error) from None


def _unreadable(where: str, error: Exception) -> StoreError:
    return StoreError(
        f"{where}: not a profile ({type(error).__name__}: {error}); move the file away and measure again"
    )


def _configuration_to_json(configuration: Configuration) -> dict[str, Any]:
    return {
        "model_sha256": configuration.model_sha256,
        "variant": configuration.variant,
        "variant_sha256": configuration.variant_sha256,
        "device": configuration.device,
        "backend": configuration.backend,
        "batch_size": configuration.batch_size,
        "threads": configuration.threads,
        "replicas": configuration.replicas,
        "shapes": {name: list(shape) for name, shape in configuration.shapes},
        "model": configuration.model,
    }


def _to_json(profile: Profile) -> dict[str, Any]:
    environment = profile.environment
    return {
        "schema": PROFILE_SCHEMA,
        "configuration": _configuration_to_json(profile.configuration),
        "environment": {
            "id": environment.id,
            "cpu_model": environment.cpu_model,
            "cpu_architecture": environment.cpu_architecture,
            "cpu_flags": list(environment.cpu_flags),
            "cores": environment.cores,
            "memory_bytes": environment.memory_bytes,
            "system": environment.system,
            "libraries": dict(environment.libraries),
        },
        "taken_at": profile.taken_at,
        "memory_bytes": profile.memory_bytes,
        "foreign_load": profile.foreign_load,
        "fresh": profile.fresh,
        "source": profile.source,
        "engine_sha256": profile.engine_sha256,
        "published": _published_to_json(profile.published),
        "conditions": _conditions_to_json(profile.conditions),
        "samples_ns": list(profile.samples_ns),
    }


def _conditions_to_json(conditions: Conditions) -> dict[str, Any]:
    throttled, clock, temperature, power = (
        None if of is None else list(of)
        for of in (
            conditions.throttled,
            conditions.gpu_clock_mhz,
            conditions.gpu_temperature_c,
            conditions.gpu_power_w,
        )
    )
    return {
        "drift": conditions.drift,
        "throttled": throttled,
        "cpu_joules": conditions.cpu_joules,
        "gpu_joules": conditions.gpu_joules,
        "gpu_compute_ns": conditions.gpu_compute_ns,
        "gpu_clock_mhz": clock,
        "gpu_temperature_c": temperature,
        "gpu_power_w": power,
    }


def _published_to_json(published: Published | None) -> dict[str, Any] | None:
    if published is None:
        return None
    return {
        "percentiles_ns": [list(pair) for pair in published.percentiles_ns],
        "mean_ns": published.mean_ns,
        "throughput_rps": published.throughput_rps,
    }


def _from_json(content: dict[str, Any]) -> Profile:
    configuration, environment = content["configuration"], content["environment"]
    samples = tuple(content["samples_ns"])
    if not all(isinstance(ns, int) and ns > 0 for ns in samples):
        raise ValueError("samples_ns must be positive whole numbers")
    published = content.get("published")
    return Profile(
        configuration=Configuration(
            model_sha256=configuration["model_sha256"],
            variant=configuration["variant"],
            variant_sha256=configuration["variant_sha256"],
            device=configuration["device"],
            backend=configuration["backend"],
            batch_size=configuration["batch_size"],
            threads=configuration["threads"],
            replicas=configuration["replicas"],
            shapes=tuple((name, tuple(shape)) for name, shape in configuration["shapes"].items()),
            model=configuration.get("model", ""),
        ),
        environment=Environment(
            cpu_model=environment["cpu_model"],
            cpu_architecture=environment["cpu_architecture"],
            cpu_flags=tuple(environment["cpu_flags"]),
            cores=environment["cores"],
            memory_bytes=environment["memory_bytes"],
            system=environment["system"],
            libraries=tuple(environment["libraries"].items()),
        ),
        samples_ns=samples,
        memory_bytes=content["memory_bytes"],
        taken_at=content["taken_at"],
        foreign_load=content["foreign_load"],
        fresh=content.get("fresh", 0),
        source=content.get("source", ""),
        engine_sha256=content.get("engine_sha256", ""),
        published=published and _published_from_json(published),
        conditions=_conditions_from_json(content["conditions"]) if "conditions" in content else NOT_TOLD,
    )


def _conditions_from_json(content: dict[str, Any]) -> Conditions:
    return Conditions(
        drift=content["drift"],
        throttled=None if content["throttled"] is None else tuple(content["throttled"]),
        cpu_joules=content["cpu_joules"],
        gpu_joules=content["gpu_joules"],
        gpu_compute_ns=content.get("gpu_compute_ns"),
        gpu_clock_mhz=_range(content["gpu_clock_mhz"]),
        gpu_temperature_c=_range(content["gpu_temperature_c"]),
        gpu_power_w=_range(content["gpu_power_w"]),
    )


def _range(ends: list[float] | None) -> Range | None:
    if ends is None:
        return None
    least, most = ends
    return least, most


def _published_from_json(content: dict[str, Any]) -> Published:
    pairs = [(float(level), ns) for level, ns in content["percentiles_ns"]]
    if not all(isinstance(ns, int) for _, ns in pairs):
        raise ValueError("percentiles_ns must hold whole numbers of ns")
    return Published(tuple(pairs), content["mean_ns"], content["throughput_rps"])
