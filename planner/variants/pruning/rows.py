"""A layer as a plain matrix product: its weight as [inputs, outputs], its activations as rows.

The inputs of a convolution are the positions of its window, channel by channel, so that a channel is a
run of ``window`` inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import onnx

from planner.variants.pruning.graph import Graph, attribute
from planner.variants.pruning.labels import Labels
from planner.variants.pruning.shapes import Array


def weight_matrix(node: onnx.NodeProto, weight: Array) -> Array:
    """Weight of an ungrouped layer, or of one group of a grouped one, as [inputs, outputs]."""
    if node.op_type == "Conv":
        return weight.reshape(len(weight), -1).T
    if node.op_type == "ConvTranspose":
        return weight.reshape(*weight.shape[:2], -1).transpose(0, 2, 1).reshape(-1, weight.shape[1])
    return weight.T if _turned(node) else weight


def weight_tensor(node: onnx.NodeProto, matrix: Array, like: Array) -> Array:
    """The inverse of ``weight_matrix``, in the shape and element type of ``like``."""
    if node.op_type == "Conv":
        made = matrix.T.reshape(like.shape)
    elif node.op_type == "ConvTranspose":
        made = matrix.reshape(like.shape[0], -1, like.shape[1]).transpose(0, 2, 1).reshape(like.shape)
    else:
        made = matrix.T if _turned(node) else matrix
    return np.ascontiguousarray(made.astype(like.dtype))


def output_width(node: onnx.NodeProto, weight: Array, groups: int) -> int:
    if node.op_type == "ConvTranspose":
        return int(weight.shape[1]) * groups
    return int(weight.shape[0] if node.op_type == "Conv" or _turned(node) else weight.shape[1])


def window_of(node: onnx.NodeProto, weight: Array) -> int:
    """How many inputs a channel has."""
    return prod(weight.shape[2:]) if node.op_type in ("Conv", "ConvTranspose") else 1


def _turned(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "Gemm" and attribute(node, "transB", 0))


_MASK_NAMES = ("attention_mask", "input_mask")


@dataclass(frozen=True, slots=True)
class Sample:
    """Which output positions of one batch are looked at: flat indices, in ``shape`` without channels."""

    picks: Labels
    shape: tuple[int, ...]


def sample(
    node: onnx.NodeProto, target: Array, limit: int, rng: np.random.Generator, mask: Array | None = None
) -> Sample:
    """At most ``limit`` output positions, drawn without replacement.

    Of tokens only those for which ``mask`` [batch, length] is not 0: what becomes of padding is of no matter.
    """
    shape = target.shape[:1] + target.shape[2:] if _slides(node) else target.shape[:-1]
    if mask is not None and mask.shape == shape and mask.any():
        among = np.flatnonzero(mask)
    else:
        among = np.arange(prod(shape))
    picks = among if len(among) <= limit else np.sort(rng.choice(among, limit, replace=False))
    return Sample(picks, shape)


def token_mask(graph: Graph) -> str | None:
    """The input that is 1 for tokens and 0 for padding; None where none is, or more than one.

    Known by the name that exporters of transformers give it, its integers and its axes, batch and length.
    """
    found = [
        name
        for name in graph.inputs
        if name.lower().endswith(_MASK_NAMES)
        and len(graph.shapes.get(name, ())) == 2
        and np.issubdtype(graph.dtypes[name], np.integer)
    ]
    return found[0] if len(found) == 1 else None


def output_rows(node: onnx.NodeProto, target: Array, chosen: Sample) -> Array:
    """[positions, outputs]."""
    if not _slides(node):
        return target.reshape(-1, target.shape[-1])[chosen.picks]
    batch, *place = np.unravel_index(chosen.picks, chosen.shape)
    return _at(target, batch, place)


def input_rows(node: onnx.NodeProto, source: Array, weight: Array, chosen: Sample) -> Array:
    """[positions, inputs]; for a grouped layer the inputs of all groups, one group after another."""
    if not _slides(node):
        return source.reshape(-1, source.shape[-1])[chosen.picks]
    batch, *place = np.unravel_index(chosen.picks, chosen.shape)
    kernel = weight.shape[2:]
    begins = _begins(node, source.shape[2:], chosen.shape[1:], kernel)
    rows = np.zeros((len(chosen.picks), source.shape[1], prod(kernel)), source.dtype)
    for k, offset in enumerate(product(*map(range, kernel))):
        inside = np.ones(len(chosen.picks), bool)
        where = []
        for axis, (o, shift) in enumerate(zip(place, offset, strict=True)):
            at, valid = _read_from(node, o, shift, axis, begins[axis])
            inside &= valid & (at >= 0) & (at < source.shape[2 + axis])
            where.append(np.clip(at, 0, source.shape[2 + axis] - 1))
        rows[:, :, k] = _at(source, batch, where) * inside[:, None]
    return rows.reshape(len(rows), -1)


def _at(array: Array, batch: Labels, place: Sequence[Labels]) -> Array:
    """[positions, channels] of ``array`` [batch, channels, ...] at the given positions."""
    last = np.moveaxis(array, 1, -1)
    return np.asarray(last[(batch, *place)])


def _slides(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Conv", "ConvTranspose")


def _read_from(node: onnx.NodeProto, out: Labels, shift: int, axis: int, begin: int) -> tuple[Labels, Labels]:
    """Source position that kernel offset ``shift`` pairs with each output position, and if there is one."""
    stride = _per_axis(node, "strides", axis, 1)
    reach = shift * _per_axis(node, "dilations", axis, 1)
    if node.op_type == "Conv":
        return out * stride + reach - begin, np.ones(len(out), bool)
    spread = out + begin - reach
    return spread // stride, spread % stride == 0


def _begins(
    node: onnx.NodeProto, before: tuple[int, ...], after: tuple[int, ...], kernel: tuple[int, ...]
) -> list[int]:
    """Padding at the start of each spatial axis."""
    rank = len(kernel)
    mode = attribute(node, "auto_pad", "NOTSET")
    fixed_output = attribute(node, "output_shape") if node.op_type == "ConvTranspose" else None
    if mode == "VALID":
        return [0] * rank
    if mode == "NOTSET" and fixed_output is None:
        return list(attribute(node, "pads", [0] * 2 * rank))[:rank]
    begins = []
    for axis in range(rank):
        stride, extent = _per_axis(node, "strides", axis, 1), _extent(node, axis, kernel)
        if node.op_type == "Conv":
            total = max((after[axis] - 1) * stride + extent - before[axis], 0)
        else:
            extra = _per_axis(node, "output_padding", axis, 0)
            total = max(stride * (before[axis] - 1) + extra + extent - after[axis], 0)
        begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return begins


def _extent(node: onnx.NodeProto, axis: int, kernel: tuple[int, ...]) -> int:
    return (kernel[axis] - 1) * _per_axis(node, "dilations", axis, 1) + 1


def _per_axis(node: onnx.NodeProto, name: str, axis: int, default: int) -> int:
    values = attribute(node, name)
    return int(values[axis]) if values else default
