"""Shapes of all tensors, as far as they follow from the graph.

onnx infers them, but gives up on many a Reshape whose target is put together from Shape by an exporter,
such as (batch, sequence, -1, 64). Those are worked out here, and inference runs again, until nothing new
is found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from planner.variants.weights import is_external

Array = NDArray[Any]
Dim = int | str
"""A size, or the name of an unknown one; two axes with the same name have the same size."""

Shapes = dict[str, tuple[Dim, ...]]

_MOST_ROUNDS = 200
_SMALL = 1024
"""Constants of at most this many elements can be sizes; of larger ones, inference needs just the shape."""


def inferred(
    model: onnx.ModelProto, constants: Mapping[str, Array]
) -> tuple[Shapes, dict[str, np.dtype[Any]]]:
    """Shape and element type by tensor; tensors of unknown rank have no shape."""
    skeleton = _skeleton(model, constants)
    done: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        skeleton = shape_inference.infer_shapes(skeleton, strict_mode=False, data_prop=True)
        shapes, dtypes = _read(skeleton)
        shapes.update({name: array.shape for name, array in constants.items()})
        found = _Sizes(skeleton, constants, shapes).resolved(done)
        if not found:
            break
        done |= found.keys()
        _write(skeleton, found, dtypes)
    dtypes.update({name: array.dtype for name, array in constants.items()})
    return shapes, dtypes


def _skeleton(model: onnx.ModelProto, constants: Mapping[str, Array]) -> onnx.ModelProto:
    """The model with its large constants turned into inputs of the same shape."""
    source = model.graph
    large = [t for t in source.initializer if _is_large(t)]
    graph = onnx.GraphProto(name=source.name)
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in large)
    graph.output.extend(source.output)
    graph.initializer.extend(t for t in source.initializer if not _is_large(t))
    skeleton = helper.make_model(
        graph, opset_imports=list(model.opset_import), functions=list(model.functions)
    )
    skeleton.ir_version = model.ir_version
    return skeleton


def _is_large(tensor: onnx.TensorProto) -> bool:
    return is_external(tensor) or prod(tensor.dims) > _SMALL


def _read(model: onnx.ModelProto) -> tuple[Shapes, dict[str, np.dtype[Any]]]:
    shapes: Shapes = {}
    dtypes: dict[str, np.dtype[Any]] = {}
    graph = model.graph
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type"):
            continue
        if kind.elem_type:
            dtypes[info.name] = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if kind.HasField("shape"):
            names = (f"?{info.name}.{axis}" for axis in range(len(kind.shape.dim)))
            shapes[info.name] = tuple(_dim(d, n) for d, n in zip(kind.shape.dim, names, strict=True))
    return shapes, dtypes


def _dim(dim: Any, fallback: str) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    return str(dim.dim_param) if dim.HasField("dim_param") and dim.dim_param else fallback


def _write(skeleton: onnx.ModelProto, found: Shapes, dtypes: Mapping[str, np.dtype[Any]]) -> None:
    kept = [info for info in skeleton.graph.value_info if info.name not in found]
    del skeleton.graph.value_info[:]
    skeleton.graph.value_info.extend(kept)
    for name, shape in found.items():
        kind = helper.np_dtype_to_tensor_dtype(dtypes[name]) if name in dtypes else onnx.TensorProto.UNDEFINED
        skeleton.graph.value_info.append(helper.make_tensor_value_info(name, kind, list(shape)))


class _Sizes:
    """Values of the small integer tensors that say sizes, as far as they are known."""

    def __init__(self, model: onnx.ModelProto, constants: Mapping[str, Array], shapes: Shapes) -> None:
        self._nodes = list(model.graph.node)
        self._makers = {o: n for n in self._nodes for o in n.output if o}
        self._outputs = {o.name for o in model.graph.output}
        self._constants, self._shapes = constants, shapes
        self._known: dict[str, list[Dim] | None] = {}

    def resolved(self, done: set[str]) -> Shapes:
        """Shapes known here better: of what Reshape, Expand and Resize make, and of what products read."""
        found: Shapes = {}
        for node in self._nodes:
            slot = _SIZES_AT.get(node.op_type, 0) if node.domain in ("", "ai.onnx") else 0
            if not 0 < slot < len(node.input) or node.output[0] in done | self._outputs:
                continue
            before, asked = self._shapes.get(node.input[0]), self.values(node.input[slot])
            if before is None or asked is None:
                continue
            made = _SHAPE_OF[node.op_type](before, asked)
            now = self._shapes.get(node.output[0])
            if made is not None and (now is None or _sized(made) > _sized(now)):
                found[node.output[0]] = made
        for node in self._nodes:
            axis, size = self._implied(node)
            shape = self._shapes.get(node.input[0], ()) if size else ()
            if (
                shape
                and isinstance(shape[axis], str)
                and node.input[0] in self._makers.keys() - self._outputs
            ):
                sized = list(found.get(node.input[0], shape))
                sized[axis] = size
                found[node.input[0]] = tuple(sized)
        return found

    def _implied(self, node: onnx.NodeProto) -> tuple[int, int]:
        """An axis of the first input and the size that a constant weight demands of it; 0 if none does."""
        weight = self._constants.get(node.input[1]) if len(node.input) > 1 else None
        if weight is None or weight.ndim < 2 or node.domain not in ("", "ai.onnx"):
            return 0, 0
        flags = {a.name: int(a.i) for a in node.attribute if a.type == onnx.AttributeProto.INT}
        if node.op_type == "MatMul":
            return -1, int(weight.shape[-2])
        if node.op_type == "Gemm" and not flags.get("transA"):
            return -1, int(weight.shape[1 if flags.get("transB") else 0])
        if node.op_type == "Conv":
            return 1, int(weight.shape[1]) * flags.get("group", 1)
        return (1, int(weight.shape[0])) if node.op_type == "ConvTranspose" else (0, 0)

    def values(self, tensor: str) -> list[Dim] | None:
        if tensor not in self._known:
            self._known[tensor] = None
            self._known[tensor] = self._computed(tensor)
        return self._known[tensor]

    def _computed(self, tensor: str) -> list[Dim] | None:
        constant, node = self._constants.get(tensor), self._makers.get(tensor)
        if constant is not None:
            whole = constant.size <= _SMALL and constant.dtype.kind == "i"
            return [int(v) for v in constant.reshape(-1)] if whole else None
        if node is None:
            return None
        if node.op_type == "Shape":
            return self._measured(node)
        if node.op_type == "Concat":
            parts = [self.values(name) for name in node.input]
            return [v for part in parts for v in part or ()] if all(p is not None for p in parts) else None
        if node.op_type in ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape"):
            return self.values(node.input[0])
        if node.op_type == "Gather":
            source, picked = self.values(node.input[0]), self.values(node.input[1])
            ints = [p for p in picked or () if isinstance(p, int)]
            return [source[p] for p in ints] if source and picked and len(ints) == len(picked) else None
        if node.op_type == "Slice" and len(node.input) > 2:
            return self._sliced(node)
        if node.op_type == "ConstantOfShape":
            return self._filled(node)
        return self._elementwise(node) if node.op_type in _ELEMENTWISE else None

    def _filled(self, node: onnx.NodeProto) -> list[Dim] | None:
        shape = self.values(node.input[0])
        value = next(
            (numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, "i8")
        )
        if (
            shape is None
            or len(shape) > 1
            or not all(isinstance(d, int) for d in shape)
            or value.dtype.kind != "i"
        ):
            return None
        return [int(value.item())] * prod(int(d) for d in shape)

    def _elementwise(self, node: onnx.NodeProto) -> list[Dim] | None:
        operands = [self.values(name) for name in node.input]
        if any(not o for o in operands):
            return None
        length = max(len(o) for o in operands if o)
        rows = zip(*((o * length if len(o) == 1 else o) for o in operands if o), strict=True)
        made = [_ELEMENTWISE[node.op_type](*row) for row in rows]
        return [v for v in made if v is not None] if None not in made else None

    def _sliced(self, node: onnx.NodeProto) -> list[Dim] | None:
        source, bounds = self.values(node.input[0]), [self.values(name) for name in node.input[1:]]
        plain = all(b is not None and len(b) == 1 and isinstance(b[0], int) for b in bounds)
        if source is None or not plain:
            return None
        starts, ends, *axes_and_steps = [int(b[0]) for b in bounds if b is not None]
        return source[starts : ends : axes_and_steps[1] if len(axes_and_steps) > 1 else 1]

    def _measured(self, node: onnx.NodeProto) -> list[Dim] | None:
        shape = self._shapes.get(node.input[0])
        bounds = {a.name: int(a.i) for a in node.attribute}
        return list(shape[bounds.get("start", 0) : bounds.get("end", len(shape))]) if shape else None


def reshaped(before: Sequence[Dim], asked: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """Shape of a Reshape to ``asked``, where 0 copies an axis and -1 takes what is left."""
    if any(d == 0 and k >= len(before) for k, d in enumerate(asked)) or list(asked).count(-1) > 1:
        return None
    made = [before[k] if d == 0 else d for k, d in enumerate(asked)]
    if -1 not in made:
        return tuple(made)
    have, want = [*before], [d for d in made if d != -1]
    rest = Counter(d for d in have if isinstance(d, str))
    rest.subtract(d for d in want if isinstance(d, str))
    size, used = prod(d for d in have if isinstance(d, int)), prod(d for d in want if isinstance(d, int))
    left = [name for name, times in rest.items() if times]
    if any(times < 0 for times in rest.values()) or not used:
        return None
    if not left and size % used == 0:
        filled: Dim = size // used
    elif len(left) == 1 and rest[left[0]] == 1 and size == used:
        filled = left[0]
    else:
        filled = "*".join(sorted(rest.elements())) + f"*{size}/{used}"
    return tuple(filled if d == -1 else d for d in made)


def stretched(before: Sequence[Dim], asked: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """Shape of an Expand to ``asked``: both broadcast together."""
    rank = max(len(before), len(asked))
    pairs = zip([1] * (rank - len(before)) + [*before], [1] * (rank - len(asked)) + [*asked], strict=True)
    made: list[Dim] = []
    for a, b in pairs:
        if a == b or b == 1:
            made.append(a)
        elif a == 1 or isinstance(b, int):
            made.append(b)
        elif isinstance(a, int):
            made.append(a)
        else:
            made.append(f"{a}|{b}")
    return tuple(made)


def resized(before: Sequence[Dim], asked: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """Shape of a Resize to the sizes ``asked``."""
    return tuple(asked) if len(asked) == len(before) else None


_SIZES_AT = {"Reshape": 1, "Expand": 1, "Resize": 3}
_SHAPE_OF = {"Reshape": reshaped, "Expand": stretched, "Resize": resized}


def _equal(a: Dim, b: Dim) -> Dim | None:
    """1, 0, or None where it cannot be told; sizes are never negative."""
    if a == b:
        return 1
    apart = (isinstance(a, int) and isinstance(b, int)) or any(isinstance(d, int) and d < 0 for d in (a, b))
    return 0 if apart else None


def _where(condition: Dim, a: Dim, b: Dim) -> Dim | None:
    return (a if condition else b) if isinstance(condition, int) else None


def _product(a: Dim, b: Dim) -> Dim | None:
    return a * b if isinstance(a, int) and isinstance(b, int) else None


_ELEMENTWISE: dict[str, Callable[..., Dim | None]] = {"Equal": _equal, "Where": _where, "Mul": _product}


def _sized(shape: Sequence[Dim]) -> int:
    return sum(isinstance(d, int) for d in shape)
