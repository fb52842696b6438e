"""What goes into an engine and comes out, as Triton wants to be told.

Triton batches along the first axis, leaves it out of ``dims`` and takes -1 for what varies.
Source: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.backends.tensorrt import read_record
from planner.domain.model import BATCH, BoundInput, Tensor
from planner.errors import InputError, ManifestError
from planner.report import Engine
from planner.variants import read_model

TRITON_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
    "str": "TYPE_STRING",
}


@dataclass(frozen=True, slots=True)
class Shaped:
    """``dims`` without the batch axis where there is one; -1: any size.

    ``sizes``: the same with a size everywhere, for warming up; None where one is not known.
    """

    name: str
    triton_type: str
    dims: tuple[int, ...]
    sizes: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """``outputs`` is empty where Triton completes them from the engine itself."""

    batched: bool
    inputs: tuple[Shaped, ...]
    outputs: tuple[Shaped, ...]
    batch_sizes: tuple[int, ...]
    """Of a TensorRT engine: the largest of each optimization profile, ascending; else empty."""
    dynamic: tuple[str, ...]
    """Names of the inputs' dimensions that are no sizes, the batch among them."""
    built_with: str = ""
    """The version of TensorRT, of its engines."""


def signature_of(engine: Engine, dimensions: Mapping[str, int | str]) -> Signature:
    """``dimensions`` binds dynamic dimensions, by name, to a size or ``"batch"``, as far as that is known.

    Where it is not known which is the batch, that is the first axis, if dynamic.

    Raises InputError where Triton cannot be told, and the errors of reading the engine.
    """
    if engine.path.suffix == ".onnx":
        return _of_onnx(engine, dimensions)
    record = read_record(engine.path)
    if record is None:
        raise ManifestError(f"{engine.path}: its record is missing; make the plan again")
    batched = _all_first_or_none(engine, record.order.inputs)
    return Signature(
        batched,
        tuple(_of_bound(given, batched, engine) for given in record.order.inputs),
        (),
        tuple(span.most for span in record.order.ranges) if batched else (),
        (),
        record.place.library_version,
    )


def _of_onnx(engine: Engine, dimensions: Mapping[str, int | str]) -> Signature:
    model = read_model(engine.path)
    batches = {name for name, bound in dimensions.items() if bound == BATCH}
    tensors = (*model.inputs, *model.outputs)
    batched = all(tensor.shape and isinstance(tensor.shape[0], str) for tensor in tensors)
    if batches:
        batched = batched and all(tensor.shape[0] in batches for tensor in model.inputs)
    return Signature(
        batched,
        tuple(_shaped(tensor, batched, dimensions, engine) for tensor in model.inputs),
        tuple(_shaped(tensor, batched, {}, engine) for tensor in model.outputs),
        (),
        model.dynamic_dimensions(),
    )


def _shaped(tensor: Tensor, batched: bool, bound: Mapping[str, int | str], engine: Engine) -> Shaped:
    shape = tensor.shape[1:] if batched else tensor.shape
    # Without batching, a batch axis is run at 1.
    sizes = {name: 1 if size == BATCH else size for name, size in bound.items()}
    known = [size if isinstance(size, int) else sizes.get(size) for size in shape]
    return Shaped(
        tensor.name,
        _triton_type(tensor.name, tensor.dtype, engine),
        tuple(size if isinstance(size, int) else -1 for size in shape),
        tuple(size for size in known if isinstance(size, int)) if None not in known else None,
    )


def _of_bound(given: BoundInput, batched: bool, engine: Engine) -> Shaped:
    sizes = given.shape[1:] if batched else given.shape
    return Shaped(given.name, _triton_type(given.name, given.dtype, engine), sizes, sizes)


def _all_first_or_none(engine: Engine, inputs: tuple[BoundInput, ...]) -> bool:
    axes = {given.batch_axis for given in inputs}
    if axes - {0} and axes != {None}:
        raise InputError(
            f"{engine.variant} for {engine.device}: Triton batches along the first axis of all inputs, "
            "which is not this engine's batch axis; export the model with the batch first"
        )
    return axes == {0}


def _triton_type(name: str, dtype: str, engine: Engine) -> str:
    if dtype not in TRITON_TYPES:
        raise InputError(
            f"{engine.variant} for {engine.device}: {name} is of {dtype}, which Triton does not take; "
            "cast it in the model"
        )
    return TRITON_TYPES[dtype]
