"""What a backend loads of a variant: its ONNX file, or the TensorRT engine that is built of it here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from planner.backends import backend
from planner.backends.tensorrt import (
    TENSORRT,
    BuildOptions,
    Order,
    adopt,
    build_command,
    engine_for,
    engines_beside,
    engines_of,
    mark_measured,
    read_record,
    record_path,
)
from planner.catalog import Catalog, load, match_gpu, slice_of, sliced
from planner.domain.model import BoundInput
from planner.domain.plan import Plan
from planner.domain.variant import Variant
from planner.errors import BackendError, PlannerError
from planner.pipeline.inputs import Entry, Prepared
from planner.pipeline.places import Place
from planner.profiling.apart import apart
from planner.profiling.environment import usable_cores
from planner.quality import Dataset, predict_all
from planner.report import Deployed
from planner.spec import Spec
from planner.variants import bind, external_locations, read_model


def engine_of(prepared: Prepared, entry: Entry, variant: Variant, backend_name: str, place: Place) -> Path:
    """The file that ``backend_name`` loads at ``place``, built now unless it was before.

    Raises BackendError where TensorRT refuses the graph, or its builder crashes.
    """
    if backend_name not in TENSORRT:
        return variant.path
    order = order_of(entry, variant, prepared.spec)
    folder = engines_beside(prepared.spec.profiles)
    return apart(engine_for, backend_name, variant.path, order, folder, gpu=place.gpu).engine


def take_engines(store: Path, other: Path, trust: bool) -> tuple[int, int]:
    """Take the TensorRT engines beside the profile store ``other``; how many, and how many were left there.

    An engine is code: those of another store need ``trust``, and to be those of their records even then.
    """
    catalog, taken, left = load(None), 0, 0
    for engine in sorted(engines_beside(other).rglob("*.engine")):
        called = _measured_on(engine, catalog) if trust else None
        if called is None:
            left += 1
            continue
        files = {path.name: path.read_bytes() for path in (engine, record_path(engine))}
        adopt(files, engines_beside(store) / called)
        taken += 1
    return taken, left


def _measured_on(engine: Path, catalog: Catalog) -> str | None:
    """The catalog's name of the GPU, or slice, by CUDA's name of it; None where that is not known."""
    try:
        record = read_record(engine)
    except BackendError:
        return None
    if record is None or record.place.is_ahead:
        return None
    name, _, part = record.place.device.partition(" MIG ")
    device = match_gpu(name, None, catalog)
    if device is None:
        return None
    return sliced(device.name, part) if part else device.name


def order_of(entry: Entry, variant: Variant, spec: Spec) -> Order:
    """What to build for the device at hand."""
    return _order(variant, entry.inputs, spec.batch_sizes, ())


def _order(
    variant: Variant,
    inputs: tuple[BoundInput, ...],
    batch_sizes: tuple[int, ...],
    capabilities: tuple[str, ...],
) -> Order:
    fixed = all(i.batch_axis is None for i in inputs)
    options = BuildOptions(sparse_weights="sparse" in variant.recipe, capabilities=capabilities)
    return Order(variant.sha256, inputs, (1,) if fixed else tuple(sorted(set(batch_sizes))), options)


def deployable(plan: Plan, spec: Spec, variant: Variant, backend_name: str, device: str) -> Deployed:
    """What to ship of a variant that the plan runs on a device.

    The engine that was measured, here or where a cluster sent it from; else one built ahead of time by the
    same library, for which TensorRT-RTX needs no GPU; else the ONNX file with the command that builds one.
    """
    external = external_locations(variant.path)
    workload = spec.workload.name if len(plan.services) > 1 else ""
    shipped = Deployed(variant, backend_name, device, external, workload=workload)
    if backend_name not in TENSORRT:
        return shipped
    for built in plan.built:
        if (built.variant_sha256, built.backend, built.device) == (variant.sha256, backend_name, device):
            mark_measured(built.path)
            return replace(shipped, engine=built.path)
    entrant = next(entrant for entrant in spec.entrants if entrant.name == variant.entrant)
    inputs = bind(read_model(entrant.model), dict(entrant.dimensions))
    folder = engines_beside(spec.profiles)
    elsewhere = engines_of(_order(variant, inputs, spec.batch_sizes, ()), backend_name, folder / device)
    for sha256 in _timed(plan, variant, backend_name):
        if sha256 in elsewhere:
            return replace(shipped, engine=elsewhere[sha256])
    catalog = load(spec.catalog)
    part = slice_of(device, catalog)
    capability = (part[0] if part else catalog.device(device)).compute_capability
    order = _order(variant, inputs, spec.batch_sizes, (capability,) if capability else ())
    try:
        engine = apart(engine_for, backend_name, variant.path, order, folder).engine
    except PlannerError:
        command = build_command(order, variant.path.name, f"{variant.path.stem}.engine")
        return replace(shipped, status="to-build", build=command)
    return replace(shipped, engine=engine, status="built-ahead")


def _timed(plan: Plan, variant: Variant, backend_name: str) -> list[str]:
    """The sha256 of the engines that the plan's profiles of a variant are of."""
    profiles = (profile for serving in plan.servings for profile in serving.profiles)
    return sorted(
        {
            p.engine_sha256
            for p in profiles
            if (p.configuration.variant_sha256, p.configuration.backend) == (variant.sha256, backend_name)
        }
    )


def outputs_at(
    place: Place, engine: Path, backend_name: str, data: Dataset, entry: Entry, batch_size: int
) -> list[np.ndarray]:
    """What the engine computes of all samples, on the place's own device."""
    asked = (engine, backend_name, data, entry.inputs, batch_size)
    return apart(_outputs, *asked, gpu=place.gpu) if place.gpu else _outputs(*asked)


def _outputs(
    engine: Path, backend_name: str, data: Dataset, inputs: tuple[BoundInput, ...], batch_size: int
) -> list[np.ndarray]:
    with backend(backend_name).load(engine, usable_cores()) as session:
        return predict_all(session.infer, data, inputs, batch_size)
