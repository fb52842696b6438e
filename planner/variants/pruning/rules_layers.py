"""Tracing rules of the operators that mix channels: convolutions and matrix products.

A layer ties its weight's input axis to its source and its weight's output axis to its target; summing
over channels ties nothing across, so widths are free to change from one layer to the next.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import onnx

from planner.variants.pruning.graph import MAIN_DOMAINS, attribute, input_name, label
from planner.variants.pruning.tracing import Axis, Contraction, Layer, Rule, Trace

FEW_GROUPS = 8
"""With fewer groups than this, each group gets narrower; with more, whole groups go."""


def conv(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """X [N, C, ...], W [M, C/g, ...]; ConvTranspose: W [C, M/g, ...]."""
    x, w = t.of(node.input[0]), t.of(node.input[1])
    if x is None or w is None or len(x) < 3 or node.input[1] not in t.graph.constants:
        return False
    name, groups = label(node), attribute(node, "group", 1)
    for axis in (x[0], *x[2:], *w[2:]):
        t.pin_axis(axis, f"{name} slides over it")
    transposed = node.op_type == "ConvTranspose"
    w_in, w_out = (w[0], w[1]) if transposed else (w[1], w[0])
    if groups == 1:
        t.join(x[1], w_in, f"{name} reads it")
        made: Axis = w_out
        t.contractions.append(Contraction(i, 0, node.input[0], 1))
    else:
        made = _grouped(t, i, node, x[1], groups)
    if made is None:
        return False
    if bias := input_name(node, 2):
        t.join((t.of(bias) or [None])[0], made, f"bias of {name}")
    shape = t.whole(node.output[0])
    t.give(node.output[0], [None, made, *(shape[2:] if shape else x[2:])], name)
    _add_layer(t, i, node.input[0], 1, node.input[1], bias or None, node.output[0], 1, groups)
    return True


def _grouped(t: Trace, i: int, node: onnx.NodeProto, x: Axis, groups: int) -> Axis:
    """Labels of the output channels of a grouped convolution, its weight tied to them.

    Either whole groups go, with their inputs and outputs (depthwise: single channels), or, where groups
    are few and wide, the same positions of every group.
    """
    name, weight = label(node), node.input[1]
    w = t.of(weight) or []
    transposed = node.op_type == "ConvTranspose"
    shape = t.graph.constants[weight].shape
    out_count = shape[1] * groups if transposed else shape[0]
    if x is None or len(x) % groups or out_count % groups or any(a is None for a in w):
        return None
    per_in, per_out = len(x) // groups, out_count // groups
    inner, outer = w[1], w[0]
    assert inner is not None and outer is not None
    if groups >= FEW_GROUPS or gcd(per_in, per_out) == 1:
        units = t.atoms.fresh(groups)
        t.pin_axis(inner, f"{name} keeps the channels of a group together")
        t.join(outer, np.repeat(units, len(outer) // groups), f"groups of {name}")
        t.join(x, np.repeat(units, per_in), f"groups of {name}")
        return np.repeat(units, per_out)
    inside, outside = (outer, inner) if transposed else (inner, outer)
    t.join(x, inside if transposed else np.tile(inside, groups), f"{name} reads it")
    across = inside if transposed else outside
    t.atoms.join(
        across, np.tile(across[: len(across) // groups], groups), f"groups of {name} stay equally wide"
    )
    t.contractions.append(Contraction(i, 0, node.input[0], 1))
    return np.tile(outside, groups) if transposed else outside


def gemm(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """A [n, k], B [k, m], C broadcast to [n, m]."""
    a, b = t.of(node.input[0]), t.of(node.input[1])
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return False
    name = label(node)
    turned_a, turned_b = attribute(node, "transA", 0), attribute(node, "transB", 0)
    rows, inner_a = (a[1], a[0]) if turned_a else (a[0], a[1])
    inner_b, columns = (b[1], b[0]) if turned_b else (b[0], b[1])
    t.join(inner_a, inner_b, f"{name} reads it")
    t.contractions.append(Contraction(i, 0, node.input[0], 0 if turned_a else 1))
    bias = input_name(node, 2)
    if bias:
        c = t.of(bias)
        if c is None:
            return False
        rows, columns = _broadcast_bias(t, c, rows, columns, name)
    t.give(node.output[0], [rows, columns], name)
    plain = not turned_a and attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
    plain_bias = not bias or (
        bias in t.graph.constants and t.graph.constants[bias].size == (0 if columns is None else len(columns))
    )
    if plain and plain_bias and node.input[1] in t.graph.constants:
        _add_layer(t, i, node.input[0], 1, node.input[1], bias or None, node.output[0], 1, 1)
    return True


def _broadcast_bias(t: Trace, c: list[Axis], rows: Axis, columns: Axis, name: str) -> tuple[Axis, Axis]:
    reason = f"bias of {name}"
    if c and (c[-1] is None or len(c[-1]) != 1):
        columns = t.join(columns, c[-1], reason)
    if len(c) > 1 and (c[-2] is None or len(c[-2]) != 1):
        rows = t.join(rows, c[-2], reason)
    return rows, columns


def matmul(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """A [..., n, k] by B [..., k, m], leading axes broadcast."""
    a, b = t.of(node.input[0]), t.of(node.input[1])
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return False
    name = label(node)
    t.join(a[-1], b[-2], f"{name} sums over it")
    t.contractions.append(Contraction(i, 0, node.input[0], len(a) - 1))
    rank = max(len(a), len(b))
    lead = [_lead(t, a, b, rank - k, name) for k in range(rank - 2)]
    t.give(node.output[0], [*lead, a[-2], b[-1]], name)
    if node.input[1] in t.graph.constants and len(b) == 2:
        bias, target = _added_bias(t, node.output[0])
        _add_layer(t, i, node.input[0], len(a) - 1, node.input[1], bias, target, rank - 1, 1)
    return True


def _lead(t: Trace, a: list[Axis], b: list[Axis], back: int, name: str) -> Axis:
    left = a[-back] if back <= len(a) else np.zeros(1, np.int64)
    right = b[-back] if back <= len(b) else np.zeros(1, np.int64)
    if right is not None and len(right) == 1:
        return left
    if left is not None and len(left) == 1:
        return right
    return t.join(left, right, f"{name} pairs it")


def _added_bias(t: Trace, product: str) -> tuple[str | None, str]:
    """The constant that an Add right after a MatMul adds to every row, with what the Add makes."""
    reader = t.graph.only_reader(product)
    node = t.graph.nodes[reader] if reader is not None else None
    if node is None or node.op_type != "Add" or node.domain not in MAIN_DOMAINS:
        return None, product
    other = node.input[1] if node.input[0] == product else node.input[0]
    bias, shape = t.graph.constants.get(other), t.shape(product)
    if bias is None or not shape or bias.ndim < 1 or bias.ndim > len(shape):
        return None, product
    return (other, node.output[0]) if bias.size == bias.shape[-1] == shape[-1] else (None, product)


def _add_layer(
    t: Trace,
    i: int,
    source: str,
    source_axis: int,
    weight: str,
    bias: str | None,
    target: str,
    target_axis: int,
    groups: int,
) -> None:
    constants, readers = t.graph.constants, t.graph.readers
    own = all(len(readers[name]) == 1 for name in (weight, bias) if name)
    fixed = bias is not None and bias not in constants
    t.layers.append(
        Layer(i, source, source_axis, weight, bias, target, target_axis, groups, shared=fixed or not own)
    )


def einsum(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Letters that several operands share are one axis; letters that the output lacks are summed over."""
    equation = attribute(node, "equation", "").replace(" ", "")
    if "->" not in equation or "." in equation:
        return False
    left, out = equation.split("->")
    by_letter: dict[str, Axis] = {}
    for k, term in enumerate(left.split(",")):
        axes = t.of(node.input[k])
        if axes is None or len(axes) != len(term) or len(set(term)) < len(term):
            return False
        for position, letter in enumerate(term):
            axis: Axis = axes[position]
            if letter in by_letter:
                axis = t.join(by_letter[letter], axis, f"{label(node)} shares it")
            elif letter not in out:
                t.contractions.append(Contraction(i, k, node.input[k], position))
            by_letter[letter] = axis
    t.give(node.output[0], [by_letter[letter] for letter in out], label(node))
    return True


RULES: dict[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "Einsum": einsum,
}
