"""Tracing rules of the operators that treat every position alike: activations, arithmetic, norms, pooling."""

from __future__ import annotations

import numpy as np
import onnx

from planner.variants.pruning.graph import attribute, constant_ints, given, label
from planner.variants.pruning.tracing import Axis, Rule, Trace

UNARY = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
]
BROADCAST = [
    "Add",
    "And",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
]
REDUCE = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]
POOL = ["AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]


def unary(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Further inputs (bounds of Clip) are scalars."""
    axes = t.of(node.input[0])
    if axes is None or any(t.of(name) for name in node.input[1:] if name):
        return False
    t.give(node.output[0], list(axes), label(node))
    return True


def dropout(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes = t.of(node.input[0])
    if axes is None or given(node, 2):
        return False
    for name in node.output:
        if name:
            t.give(name, list(axes), label(node))
    return True


def broadcast(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """NumPy broadcasting: axes aligned at the end; axes of size 1 are stretched and bind nothing."""
    operands = [t.of(name) for name in node.input]
    if any(axes is None for axes in operands):
        return False
    known = [axes for axes in operands if axes is not None]
    rank = max(len(axes) for axes in known)
    made: list[Axis] = []
    for back in range(rank, 0, -1):
        aligned = [axes[-back] for axes in known if len(axes) >= back]
        made.append(_aligned(t, aligned, label(node)))
    t.give(node.output[0], made, label(node))
    return True


def _aligned(t: Trace, axes: list[Axis], name: str) -> Axis:
    full = [axis for axis in axes if axis is None or len(axis) != 1]
    if not full:
        return np.zeros(1, np.int64)
    joined = full[0]
    for axis in full[1:]:
        joined = t.join(joined, axis, f"{name} meets an axis that stays")
    return joined


def batch_normalization(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Also InstanceNormalization: per channel, with one parameter a channel."""
    axes = t.of(node.input[0])
    if axes is None or len(axes) < 2 or len([o for o in node.output if o]) != 1:
        return False
    if attribute(node, "training_mode", 0):
        return False
    if node.op_type == "InstanceNormalization":
        for axis in axes[2:]:
            t.pin_axis(axis, f"{label(node)} normalises over it")
    t.pin_axis(axes[0], f"{label(node)} normalises over it")
    channel = axes[1]
    for name in node.input[1:]:
        channel = t.join(channel, (t.of(name) or [None])[0], f"parameters of {label(node)}")
    t.give(node.output[0], [axes[0], channel, *axes[2:]], label(node))
    return True


def layer_normalization(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Also Softmax and the like: the axes that are normalised over stay whole."""
    axes = t.of(node.input[0])
    if axes is None or len([o for o in node.output if o]) != 1:
        return False
    softmax = node.op_type in ("Softmax", "LogSoftmax", "Hardmax")
    first = attribute(node, "axis", 1 if softmax and t.graph.opset < 13 else -1) % max(len(axes), 1)
    last = first + 1 if softmax and t.graph.opset >= 13 else len(axes)
    for axis in axes[first:last]:
        t.pin_axis(axis, f"{label(node)} normalises over it")
    for name in node.input[1:]:
        t.pin(name, f"{label(node)} normalises over it")
    t.give(node.output[0], list(axes), label(node))
    return True


def pool(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes, shape = t.of(node.input[0]), t.whole(node.output[0])
    if axes is None or len([o for o in node.output if o]) != 1 or shape is None:
        return False
    for axis in axes[2:]:
        t.pin_axis(axis, f"{label(node)} slides over it")
    t.give(node.output[0], [*axes[:2], *shape[2:]], label(node))
    return True


def reduce(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """The axes that are reduced over stay whole; the decomposed LayerNorm is caught here."""
    axes = t.of(node.input[0])
    if axes is None:
        return False
    chosen = attribute(node, "axes")
    if given(node, 1):
        chosen = constant_ints(t.graph, node, 1)
        if chosen is None:
            return False
    rank = len(axes)
    if not chosen and attribute(node, "noop_with_empty_axes", 0):
        t.give(node.output[0], list(axes), label(node))
        return True
    reduced = {a % rank for a in chosen} if chosen else set(range(rank))
    for a in reduced:
        t.pin_axis(axes[a], f"{label(node)} reduces over it")
    keep = attribute(node, "keepdims", 1)
    made = [
        np.zeros(1, np.int64) if a in reduced else axes[a] for a in range(rank) if keep or a not in reduced
    ]
    t.give(node.output[0], made, label(node))
    return True


def pad(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """An axis that is padded stays whole (the new positions would have no channel to follow)."""
    axes, shape = t.of(node.input[0]), t.whole(node.output[0])
    pads = constant_ints(t.graph, node, 1) if given(node, 1) else attribute(node, "pads")
    if axes is None or shape is None or pads is None:
        return False
    which = constant_ints(t.graph, node, 3) if given(node, 3) else list(range(len(axes)))
    if which is None or len(pads) != 2 * len(which):
        return False
    made = list(axes)
    for k, a in enumerate(which):
        if pads[k] or pads[k + len(which)]:
            t.pin_axis(axes[a % len(axes)], f"{label(node)} pads it")
            made[a % len(axes)] = shape[a % len(axes)]
    t.give(node.output[0], made, label(node))
    return True


def tile(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes, times = t.of(node.input[0]), constant_ints(t.graph, node, 1)
    if axes is None or times is None or len(times) != len(axes):
        return False
    made = [None if a is None else np.tile(a, n) for a, n in zip(axes, times, strict=True)]
    t.give(node.output[0], [*made], label(node))
    return True


def resize(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Batch and channels are left alone by every usual Resize; an axis that is resampled stays whole."""
    axes, shape = t.of(node.input[0]), t.whole(node.output[0])
    if axes is None or shape is None or len(axes) != len(shape) or attribute(node, "axes"):
        return False
    if attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    scales = t.graph.constant(node, 1 if node.op_type == "Upsample" or t.graph.opset < 11 else 2)
    made: list[Axis] = []
    for k, (before, after) in enumerate(zip(axes, shape, strict=True)):
        same = before is not None and after is not None and len(before) == len(after)
        if scales is not None and scales.size == len(axes):
            same = same and float(scales.reshape(-1)[k]) == 1.0
        elif not given(node, 3):
            same = False
        if not same:
            t.pin_axis(before, f"{label(node)} resamples it")
        made.append(before if same else after)
    t.give(node.output[0], made, label(node))
    return True


RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BROADCAST, broadcast),
    **dict.fromkeys(REDUCE, reduce),
    **dict.fromkeys(POOL, pool),
    "Dropout": dropout,
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "Softmax": layer_normalization,
    "LogSoftmax": layer_normalization,
    "Hardmax": layer_normalization,
    "Pad": pad,
    "Tile": tile,
    "Resize": resize,
    "Upsample": resize,
}
