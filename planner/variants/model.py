"""An ONNX file read into a ``Model``, and its dynamic dimensions bound to sizes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from planner.domain.model import BATCH, BoundInput, Model, Tensor
from planner.errors import ModelError
from planner.variants.graph import graphs_in, nodes_in

_CHUNK_BYTES = 1 << 20


def read_model(path: Path) -> Model:
    """What the planner needs to know of the model at ``path``; weights are not loaded.

    ``sha256`` is that of the file itself, continued with ``<location> NUL <bytes>`` of each external data
    file in the order of their locations: without external data it is what sha256sum prints.
    An output whose rank the model does not tell gets the one dynamic dimension ``<tensor>.*``.
    Raises ModelError.
    """
    path = Path(path)
    proto = _parse(path)
    external = _external_files(proto, path)
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # the checker raises its own errors, and ValueError, and RuntimeError
        raise ModelError(f"{path}: not a valid ONNX model: {one_line(error)}") from error
    weights = {i.name for i in proto.graph.initializer} | {
        i.values.name for i in proto.graph.sparse_initializer
    }
    inputs = tuple(_input(value, path) for value in proto.graph.input if value.name not in weights)
    if not inputs:
        raise ModelError(f"{path}: the model has no inputs, so there is nothing to serve")
    sha256, size_bytes = digest(path, external)
    operators = Counter(_operator(node) for node in nodes_in(proto))
    return Model(
        path=path,
        sha256=sha256,
        size_bytes=size_bytes,
        opset=_opset(proto, path),
        inputs=inputs,
        outputs=tuple(_output(value) for value in proto.graph.output),
        operators=tuple(sorted(operators.items())),
    )


def external_locations(path: Path) -> tuple[str, ...]:
    """Where the model at ``path`` keeps external data: locations relative to its folder, sorted."""
    return tuple(_external_files(_parse(path), path))


def digest(path: Path, external: tuple[str, ...] | Mapping[str, Path]) -> tuple[str, int]:
    """SHA-256 and size in bytes of a model file and its external data; see ``read_model``."""
    sha = hashlib.sha256()
    size = _hash_file(sha, path)
    for location in sorted(external):
        sha.update(location.encode() + b"\0")
        size += _hash_file(sha, path.parent / location)
    return sha.hexdigest(), size


def bind(model: Model, dimensions: Mapping[str, int | str]) -> tuple[BoundInput, ...]:
    """The model's inputs with every dynamic dimension a size, or the batch axis.

    ``dimensions`` maps the names of dynamic dimensions to a size or to ``"batch"``. Raises ModelError.
    """
    known = model.dynamic_dimensions()
    for name, value in dimensions.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
            raise ModelError(f"{model.path.name}: no dynamic dimension {name!r} in its inputs; {hint}")
        if value != BATCH and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ModelError(
                f"{model.path.name}: dimension {name} must be a size of at least 1, or {BATCH}; got {value!r}"
            )
    return tuple(_bind_input(model, tensor, dimensions) for tensor in model.inputs)


def _bind_input(model: Model, tensor: Tensor, dimensions: Mapping[str, int | str]) -> BoundInput:
    shape: list[int] = []
    batch_axis: int | None = None
    for axis, dimension in enumerate(tensor.shape):
        size = dimension if isinstance(dimension, int) else dimensions.get(dimension)
        if size is None:
            raise ModelError(
                f"{model.path.name}: dimension {dimension} of input {tensor.name} (axis {axis}) is dynamic; "
                f"bind it: write `dimensions: {{{dimension}: {BATCH}}}`, or a size instead of {BATCH}"
            )
        if isinstance(size, str):
            if batch_axis is not None:
                raise ModelError(
                    f"{model.path.name}: input {tensor.name} has two batch axes ({batch_axis} and {axis}); "
                    f"give one of its dimensions a size"
                )
            batch_axis, size = axis, 1
        shape.append(size)
    return BoundInput(tensor.name, tensor.dtype, tuple(shape), batch_axis)


def one_line(error: object) -> str:
    """The first telling line of a library's message, cut to what fits in a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give the path of an ONNX model")
    try:
        proto = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError, whose module onnx does not promise
        raise ModelError(f"{path}: not an ONNX file, or cut short; export or copy it again") from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelError(f"{path}: not an ONNX file, or cut short; export or copy it again")
    return proto


def _external_files(proto: onnx.ModelProto, path: Path) -> dict[str, Path]:
    """External data files by location, in sorted order; each exists, in the model's folder, whole."""
    folder = path.parent.resolve()
    files: dict[str, Path] = {}
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = path.parent / location
        absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive != ""
        if not location or absolute or not file.resolve().is_relative_to(folder):
            raise ModelError(
                f"{path}: tensor {tensor.name} has its data at {location!r}, outside the model's folder; "
                f"save the model with its external data beside it"
            )
        if not file.is_file():
            raise ModelError(f"{path}: external data file {location} is missing; copy it beside the model")
        _check_extent(path, tensor.name, location, entries, file.stat().st_size)
        files[location] = file
    return dict(sorted(files.items()))


def _check_extent(path: Path, tensor: str, location: str, entries: Mapping[str, str], size: int) -> None:
    try:
        end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
    except ValueError as error:
        raise ModelError(
            f"{path}: tensor {tensor} has no readable offset and length in {location}"
        ) from error
    if end > size:
        raise ModelError(
            f"{path}: external data file {location} is cut short ({size} bytes, "
            f"tensor {tensor} ends at {end}); copy it again"
        )


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in graphs_in(proto.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes_in(proto):
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t


def _hash_file(sha: hashlib._Hash, path: Path) -> int:
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
            size += len(chunk)
    return size


def _input(value: onnx.ValueInfoProto, path: Path) -> Tensor:
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"{path}: input {value.name} is not a tensor; only tensors can be served")
    if not value.type.tensor_type.HasField("shape"):
        raise ModelError(
            f"{path}: input {value.name} does not say its rank; export the model with input shapes"
        )
    dtype = _dtype(value)
    if dtype == "str":
        raise ModelError(
            f"{path}: input {value.name} holds strings; cut the text processing out of the model"
        )
    return Tensor(value.name, dtype, _shape(value))


def _output(value: onnx.ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    known = value.type.HasField("tensor_type")
    shape = _shape(value) if known and tensor.HasField("shape") else (f"{value.name}.*",)
    return Tensor(value.name, _dtype(value) if known else value.type.WhichOneof("value") or "unknown", shape)


def _dtype(value: onnx.ValueInfoProto) -> str:
    element = value.type.tensor_type.elem_type
    if element == onnx.TensorProto.STRING:
        return "str"
    return str(onnx.helper.tensor_dtype_to_np_dtype(element).name)


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """Exporters write an unknown size as no value, 0 or -1."""
    return tuple(
        d.dim_value if d.dim_value > 0 else d.dim_param or f"{value.name}.{axis}"
        for axis, d in enumerate(value.type.tensor_type.shape.dim)
    )


def _opset(proto: onnx.ModelProto, path: Path) -> int:
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx"):
            return int(opset.version)
    raise ModelError(f"{path}: the model does not say which opset of ai.onnx it uses; export it again")


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
