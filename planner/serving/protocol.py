"""Inference requests and answers of the Open Inference Protocol (KServe v2), REST.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and
Triton's binary tensor data extension, which is what its clients speak unless told otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.serving.tensors import TensorError, from_json, from_raw, to_json, to_raw

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Where the JSON ends and raw tensors begin."""
JSON, OCTETS = "application/json", "application/octet-stream"
VERSION = "1"
"""Of every model: a plan has one."""


class Refused(Exception):
    """A request gets the protocol's error with this HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """``dims`` with the batch axis first where there is one, as -1, like every size that varies."""

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """``batch``: the most inferences of a request; 0 where there is no batch axis."""

    name: str
    platform: str
    batch: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def metadata(self) -> dict[str, Any]:
        def listed(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
            return [{"name": s.name, "datatype": s.datatype, "shape": list(s.dims)} for s in specs]

        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": self.platform,
            "inputs": listed(self.inputs),
            "outputs": listed(self.outputs),
        }


@dataclass(frozen=True, slots=True)
class InferRequest:
    """``size``: inferences it holds; ``wanted``: outputs in the order asked for, and whether raw."""

    id: str | None
    feed: dict[str, np.ndarray]
    size: int
    wanted: tuple[tuple[str, bool], ...]

    @property
    def kind(self) -> tuple[tuple[int, ...], ...]:
        """What requests must have in common to go into one batch: their shapes but for the batch."""
        return tuple(array.shape[1:] for array in self.feed.values())


def read_request(body: bytes, header_length: str | None, model: ModelSpec) -> InferRequest:
    """Raises Refused with 400 where the body is no request, or none for this model."""
    split = _split_at(header_length, len(body))
    content = _parsed(body[:split])
    raw = memoryview(body)[split:]
    given = _named(content.get("inputs"), "inputs")
    feed: dict[str, np.ndarray] = {}
    for name, described in given.items():
        spec = next((spec for spec in model.inputs if spec.name == name), None)
        if spec is None:
            raise Refused(400, f"{model.name} has no input {name!r}; it has {_names(model.inputs)}")
        array, used = _input(described, spec, raw, model)
        feed[name], raw = array, raw[used:]
    if len(raw):
        raise Refused(400, f"{len(raw)} bytes follow the last input")
    missing = [spec.name for spec in model.inputs if spec.name not in feed]
    if missing:
        raise Refused(400, f"{', '.join(missing)} is missing; {model.name} takes {_names(model.inputs)}")
    sizes = {len(array) for array in feed.values()} if model.batch else {1}
    if len(sizes) > 1:
        raise Refused(400, f"all inputs must have the same first size, got {sorted(sizes)}")
    identity = content.get("id")
    if identity is not None and not isinstance(identity, str):
        raise Refused(400, "id must be a string")
    # In the model's order, whatever the request's: what is batched is joined by name.
    ordered = {spec.name: feed[spec.name] for spec in model.inputs}
    return InferRequest(identity, ordered, sizes.pop(), _wanted(content, model))


def write_response(
    request: InferRequest, outputs: Sequence[np.ndarray], model: ModelSpec
) -> tuple[bytes, dict[str, str]]:
    """Body and headers. Raises Refused where JSON was asked for and cannot say it."""
    by_name = {spec.name: (spec, array) for spec, array in zip(model.outputs, outputs, strict=True)}
    described, raws = [], []
    for name, raw in request.wanted:
        spec, array = by_name[name]
        entry: dict[str, Any] = {"name": name, "datatype": spec.datatype, "shape": list(array.shape)}
        if raw:
            raws.append(to_raw(array, spec.datatype))
            entry["parameters"] = {"binary_data_size": len(raws[-1])}
        else:
            try:
                entry["data"] = to_json(array, spec.datatype)
            except TensorError as error:
                raise Refused(400, f"output {name}: {error}; ask for binary data") from None
        described.append(entry)
    content: dict[str, Any] = {"model_name": model.name, "model_version": VERSION, "outputs": described}
    if request.id is not None:
        content["id"] = request.id
    header = json.dumps(content, separators=(",", ":")).encode()
    if not raws:
        return header, {"Content-Type": JSON}
    return b"".join((header, *raws)), {"Content-Type": OCTETS, HEADER_LENGTH: str(len(header))}


def _split_at(header_length: str | None, total: int) -> int:
    if header_length is None:
        return total
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20):
        raise Refused(400, f"{HEADER_LENGTH} must be a number, got {header_length[:40]!r}")
    if int(header_length) > total:
        raise Refused(400, f"{HEADER_LENGTH} is {header_length}, the body has {total} bytes")
    return int(header_length)


def _parsed(text: bytes) -> dict[str, Any]:
    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is not JSON; send it as binary data")

    try:
        content = json.loads(text, parse_constant=no_number)
    except RecursionError:
        raise Refused(400, "the request is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the request is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Refused(400, "the request must be a JSON object")
    return content


def _named(entries: Any, what: str) -> dict[str, dict[str, Any]]:
    """Tensors of a request by name, in its order."""
    if not isinstance(entries, list) or not entries:
        raise Refused(400, f"{what} must be a list of tensors")
    named: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise Refused(400, f"each of {what} must be an object with a name")
        if not isinstance(entry.get("parameters", {}), dict):
            raise Refused(400, f"{what}: {entry['name']!r}: parameters must be an object")
        if entry["name"] in named:
            raise Refused(400, f"{what}: {entry['name']!r} is there twice")
        named[entry["name"]] = entry
    return named


def _input(
    described: Mapping[str, Any], spec: TensorSpec, raw: memoryview, model: ModelSpec
) -> tuple[np.ndarray, int]:
    """The tensor, and how many of the raw bytes it was."""
    where = f"input {spec.name}"
    if described.get("datatype") != spec.datatype:
        raise Refused(400, f"{where}: the model takes {spec.datatype}, got {described.get('datatype')!r}")
    shape = _shape(described.get("shape"), spec, model)
    length = described.get("parameters", {}).get("binary_data_size")
    try:
        if length is None:
            return from_json(described.get("data"), spec.datatype, shape), 0
        if type(length) is not int or not 0 <= length <= len(raw):
            raise TensorError(f"binary_data_size is {str(length)[:40]}, {len(raw)} bytes are left")
        if "data" in described:
            raise TensorError("it has data and binary_data_size, only one may be")
        return from_raw(raw[:length], spec.datatype, shape), length
    except TensorError as error:
        raise Refused(400, f"{where}: {error}") from None


def _shape(shape: Any, spec: TensorSpec, model: ModelSpec) -> tuple[int, ...]:
    right = (
        isinstance(shape, list)
        and len(shape) == len(spec.dims)
        and all(type(size) is int and 0 <= size < 2**31 for size in shape)
        and all(dim in (-1, size) for size, dim in zip(shape, spec.dims, strict=True))
    )
    if not right:
        raise Refused(400, f"input {spec.name}: the model takes {list(spec.dims)}, got {str(shape)[:80]}")
    if model.batch and not 1 <= shape[0] <= model.batch:
        raise Refused(
            400, f"input {spec.name}: a request holds 1 to {model.batch} inferences, got {shape[0]}"
        )
    return tuple(shape)


def _wanted(content: Mapping[str, Any], model: ModelSpec) -> tuple[tuple[str, bool], ...]:
    parameters = content.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refused(400, "parameters must be an object")
    raw = bool(parameters.get("binary_data_output", False))
    if not content.get("outputs"):
        return tuple((spec.name, raw) for spec in model.outputs)
    asked = _named(content["outputs"], "outputs")
    known = {spec.name for spec in model.outputs}
    for name, entry in asked.items():
        if name not in known:
            raise Refused(400, f"{model.name} has no output {name!r}; it has {_names(model.outputs)}")
        if "classification" in entry.get("parameters", {}):
            raise Refused(400, "outputs: classification is an extension that is not offered here")
    return tuple(
        (name, bool(entry.get("parameters", {}).get("binary_data", raw))) for name, entry in asked.items()
    )


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name for spec in specs)
