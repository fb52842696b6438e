"""Tracing rules of the operators that move positions about: reshapes, slices, concatenation, sizes."""

from __future__ import annotations

import numpy as np
import onnx

from planner.variants.pruning import reshaping
from planner.variants.pruning.graph import Graph, attribute, constant_ints, given, input_name, label
from planner.variants.pruning.tracing import Axis, Origin, Rule, Trace, pin_origin

_LARGEST_FLAT = 1 << 22


def reshape(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Also Flatten. See ``reshaping`` for how axes are matched."""
    axes, before, after = t.of(node.input[0]), t.shape(node.input[0]), t.shape(node.output[0])
    if _carry(t, node):
        return _leave_sizes(t, node)
    if axes is None or before is None or after is None:
        return False
    made: list[Axis] = list(t.whole(node.output[0]) or [])
    unmatched = set(range(len(axes)))
    for src, dst in reshaping.blocks(before, after):
        unmatched -= set(src)
        if len(src) == len(dst) == 1:
            made[dst[0]] = axes[src[0]]
        else:
            _reshape_block(t, node, [axes[a] for a in src], dst, made)
    for a in unmatched:
        t.pin_axis(axes[a], f"{label(node)} mixes it with an axis of unknown size")
    if node.op_type == "Reshape":
        _pin_unknown_sizes(t, node, after)
    t.give(node.output[0], made, label(node))
    return True


def _reshape_block(
    t: Trace, node: onnx.NodeProto, axes: list[Axis], dst: list[int], made: list[Axis]
) -> None:
    sized = [a for a in axes if a is not None]
    assert len(sized) == len(axes), "blocks of several axes have known sizes"
    moving = [k for k, a in enumerate(sized) if not t.atoms.stays(a)]
    for k in moving[1:]:
        t.pin_axis(sized[k], f"{label(node)} merges it with another axis that could change")
    for k, a in enumerate(sized):
        if k not in moving:
            t.pin_axis(a, f"{label(node)} merges it")
    sizes = [0 if (axis := made[j]) is None else len(axis) for j in dst]
    if not moving:
        return
    if np.prod(sizes, dtype=np.int64) > _LARGEST_FLAT or not all(sizes):
        t.pin_axis(sized[moving[0]], f"{label(node)} makes too long an axis to follow")
        return
    flat = reshaping.merge(sized, moving[0])
    chosen = reshaping.constant_axis(flat, sizes)
    if chosen is None:
        chosen = _likely_axis(t, node, dst, sizes)
    first, rows = reshaping.split(flat, sizes, chosen)
    for row in rows[1:]:
        if (row != first).any():
            t.atoms.join(first, row, f"{label(node)} splits it")
    made[dst[chosen]] = first


def _likely_axis(t: Trace, node: onnx.NodeProto, dst: list[int], sizes: list[int]) -> int:
    """Which of the axes that one axis is split into may change: heads of an attention, say, not their width.

    Not one that is taken apart right after (the 3 of a fused Q, K, V). Of two that a channel shuffle
    swaps, the second, so that all its groups narrow alike. Else the first.
    """
    long = [k for k, d in enumerate(sizes) if d > 1] or [0]
    followers = [t.graph.nodes[r] for r, _ in t.graph.readers.get(node.output[0], ())]
    position = {k: dst[k] for k in long}
    if len(followers) == 1 and followers[0].op_type == "Transpose":
        perm = list(attribute(followers[0], "perm", []))
        if perm:
            position = {k: perm.index(dst[k]) for k in long}
            followers = [t.graph.nodes[r] for r, _ in t.graph.readers.get(followers[0].output[0], ())]
    taken = {k for k in long if any(_takes_apart(t, f, position[k]) for f in followers)}
    free = [k for k in long if k not in taken] or long
    if len(free) == 2 and not taken and position[free[0]] > position[free[1]]:
        return free[1]
    return free[0]


def _takes_apart(t: Trace, node: onnx.NodeProto, axis: int) -> bool:
    rank = len(t.shape(node.input[0]) or ())
    if node.op_type in ("Gather", "Split"):
        return bool(attribute(node, "axis", 0) % max(rank, 1) == axis)
    if node.op_type == "Slice":
        axes = constant_ints(t.graph, node, 3) if given(node, 3) else attribute(node, "axes")
        return axes is not None and axis in [a % max(rank, 1) for a in axes]
    return False


def _pin_unknown_sizes(t: Trace, node: onnx.NodeProto, shape: tuple[int | str, ...]) -> None:
    """Known sizes of the result are rewritten after pruning; one still taken from Shape must not change."""
    for size, origins in zip(shape, t.sizes.get(input_name(node, 1), []), strict=False):
        if not isinstance(size, int):
            for origin in origins:
                pin_origin(t, origin, f"{label(node)} computes with its size")


def expand(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes, shape, after = t.of(node.input[0]), t.whole(node.output[0]), t.shape(node.output[0])
    if axes is None or shape is None or after is None:
        return False
    _pin_unknown_sizes(t, node, after)
    lead = len(shape) - len(axes)
    made = shape[:lead]
    for before, now in zip(axes, shape[lead:], strict=True):
        same = before is not None and now is not None and len(before) == len(now)
        if not same and (before is None or len(before) != 1):
            t.pin_axis(before, f"{label(node)} stretches it")
        made.append(before if same else now)
    t.give(node.output[0], made, label(node))
    return True


def squeeze(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes = t.of(node.input[0])
    which = constant_ints(t.graph, node, 1) if given(node, 1) else attribute(node, "axes")
    if _carry(t, node):
        return _leave_sizes(t, node)
    if axes is None or which is None:
        return False
    gone = {a % len(axes) for a in which}
    t.give(node.output[0], [a for k, a in enumerate(axes) if k not in gone], label(node))
    return True


def unsqueeze(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes = t.of(node.input[0])
    which = constant_ints(t.graph, node, 1) if given(node, 1) else attribute(node, "axes")
    if _carry(t, node):
        return _leave_sizes(t, node)
    if axes is None or which is None:
        return False
    rank = len(axes) + len(which)
    new = {a % rank for a in which}
    rest = iter(axes)
    t.give(
        node.output[0], [np.zeros(1, np.int64) if k in new else next(rest) for k in range(rank)], label(node)
    )
    return True


def transpose(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes = t.of(node.input[0])
    if axes is None:
        return False
    perm = attribute(node, "perm") or list(range(len(axes)))[::-1]
    t.give(node.output[0], [axes[p] for p in perm], label(node))
    return True


def concat(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    parts = [t.of(name) for name in node.input]
    if _carry(t, node):
        return _leave_sizes(t, node)
    known = [axes for axes in parts if axes is not None]
    if len(known) < len(parts) or not known[0]:
        return False
    axis = attribute(node, "axis") % len(known[0])
    made: list[Axis] = []
    for k in range(len(known[0])):
        along = [axes[k] for axes in known]
        if k == axis:
            made.append(_concatenated(t, along, label(node)))
            continue
        joined = along[0]
        for other in along[1:]:
            joined = t.join(joined, other, f"{label(node)} meets an axis that stays")
        made.append(joined)
    t.give(node.output[0], made, label(node))
    return True


def _concatenated(t: Trace, parts: list[Axis], name: str) -> Axis:
    sized = [p for p in parts if p is not None]
    if len(sized) == len(parts):
        return np.concatenate(sized)
    for part in sized:
        t.pin_axis(part, f"{name} joins it to an axis of unknown size")
    return None


def split(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes = t.of(node.input[0])
    if axes is None:
        return False
    axis = attribute(node, "axis", 0) % len(axes)
    sizes = [(t.shape(name) or (None,) * len(axes))[axis] for name in node.output]
    along = axes[axis]
    if along is None or not all(isinstance(s, int) for s in sizes):
        return False
    start = 0
    for name, size in zip(node.output, sizes, strict=True):
        assert isinstance(size, int)
        t.give(name, [*axes[:axis], along[start : start + size], *axes[axis + 1 :]], label(node))
        start += size
    return start == len(along)


def slices(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes = t.of(node.input[0])
    if _carry(t, node):
        return _leave_sizes(t, node)
    cuts, whole = slice_cuts(t.graph, node), t.whole(node.output[0])
    if axes is None or cuts is None or whole is None:
        return False
    made = list(axes)
    for axis, cut in cuts.items():
        along = axes[axis]
        if cut is None:
            t.pin_axis(along, f"{label(node)} cuts it at a computed place")
        made[axis] = whole[axis] if along is None or cut is None else along[cut]
    t.give(node.output[0], made, label(node))
    return True


def slice_cuts(graph: Graph, node: onnx.NodeProto) -> dict[int, slice | None] | None:
    """What a Slice takes along each axis that it names (None: computed); None where the axes are computed."""
    rank = len(graph.shapes.get(node.input[0], ()))
    if graph.opset < 10:
        starts, ends, axes, steps = (
            attribute(node, "starts"),
            attribute(node, "ends"),
            attribute(node, "axes"),
            None,
        )
    else:
        starts, ends, axes, steps = (constant_ints(graph, node, k) for k in (1, 2, 3, 4))
        if axes is None and (given(node, 3) or starts is None):
            return None
    if not rank:
        return None
    axes = axes if axes is not None else list(range(len(starts)))
    if starts is None or ends is None or (steps is None and given(node, 4)):
        return {axis % rank: None for axis in axes}
    steps = steps if steps is not None else [1] * len(starts)
    return {
        axis % rank: _cut(start, end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }


def _cut(start: int, end: int, step: int) -> slice:
    """ONNX means by an end below -length, going backwards, *through the first*; Python writes None."""
    return slice(start, None if step < 0 and end < -(1 << 30) else end, step)


def gather(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes, indices = t.of(node.input[0]), t.of(node.input[1])
    if _carry(t, node):
        return _leave_sizes(t, node)
    if axes is None or indices is None:
        return False
    axis = attribute(node, "axis", 0) % len(axes)
    constant = t.graph.constant(node, 1)
    along = axes[axis]
    if constant is not None and constant.ndim == 1 and along is not None:
        t.give(
            node.output[0], [*axes[:axis], along[constant.astype(np.int64)], *axes[axis + 1 :]], label(node)
        )
        return True
    t.pin_axis(along, f"{label(node)} picks from it")
    t.pin(node.input[1], f"{label(node)} picks by it")
    t.give(node.output[0], [*axes[:axis], *indices, *axes[axis + 1 :]], label(node))
    return True


def depth_to_space(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Depth is (b, b, c) in DCR mode, (c, b, b) in CRD mode; the b·b positions of a channel go together."""
    axes, shape = t.of(node.input[0]), t.whole(node.output[0])
    if axes is None or shape is None or len(axes) != 4 or axes[1] is None:
        return False
    area = int(attribute(node, "blocksize")) ** 2
    for axis in axes[2:]:
        t.pin_axis(axis, f"{label(node)} mixes it")
    dcr = attribute(node, "mode", "DCR") == "DCR"
    rows = axes[1].reshape(area, -1) if dcr else axes[1].reshape(-1, area).T
    for row in rows[1:]:
        t.atoms.join(rows[0], row, f"{label(node)} spreads it")
    t.give(node.output[0], [axes[0], rows[0], *shape[2:]], label(node))
    return True


def space_to_depth(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes, shape = t.of(node.input[0]), t.whole(node.output[0])
    if axes is None or shape is None or len(axes) != 4 or axes[1] is None:
        return False
    for axis in axes[2:]:
        t.pin_axis(axis, f"{label(node)} mixes it")
    made = np.tile(axes[1], int(attribute(node, "blocksize")) ** 2)
    t.give(node.output[0], [axes[0], made, *shape[2:]], label(node))
    return True


def shape_of(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    rank = len(t.of(node.input[0]) or ())
    measured = list(range(rank))[attribute(node, "start", 0) : attribute(node, "end", rank)]
    t.sizes[node.output[0]] = [frozenset({(node.input[0], axis)}) for axis in measured]
    return _leave_sizes(t, node)


def carried(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Cast and Identity, of sizes or of anything else."""
    axes = t.of(node.input[0])
    if _carry(t, node):
        return _leave_sizes(t, node)
    if axes is None:
        return False
    t.give(node.output[0], list(axes), label(node))
    return True


def _carry(t: Trace, node: onnx.NodeProto) -> bool:
    """Follows sizes taken from Shape through the node; False where it handles none."""
    subjects = node.input if node.op_type == "Concat" else node.input[:1]
    if not any(name in t.sizes for name in subjects):
        return False
    t.sizes[node.output[0]] = _carried_sizes(t, node)
    return True


def _carried_sizes(t: Trace, node: onnx.NodeProto) -> list[frozenset[Origin]]:
    if node.op_type == "Concat":
        return [origin for name in node.input for origin in _sizes(t, name)]
    source = _sizes(t, node.input[0])
    everything = frozenset[Origin]().union(*source)
    if node.op_type == "Gather":
        picked = t.graph.constant(node, 1)
        return [everything] if picked is None else [source[int(k)] for k in picked.reshape(-1)]
    if node.op_type == "Slice":
        cut = (slice_cuts(t.graph, node) or {0: None}).get(0)
        return source[cut] if cut is not None else [everything] * len(source)
    return source


def _sizes(t: Trace, tensor: str) -> list[frozenset[Origin]]:
    if tensor in t.sizes:
        return t.sizes[tensor]
    shape = t.shape(tensor)
    length = shape[0] if shape and isinstance(shape[0], int) else 1
    return [frozenset()] * length


def _leave_sizes(t: Trace, node: onnx.NodeProto) -> bool:
    whole = t.whole(node.output[0])
    t.axes[node.output[0]] = [None] if whole is None else whole
    return True


SIZE_READERS: dict[str, int | None] = {
    "Cast": None,
    "Concat": None,
    "Expand": 1,
    "Gather": 0,
    "Identity": None,
    "Reshape": None,
    "Resize": 3,
    "Shape": None,
    "Slice": 0,
    "Squeeze": 0,
    "Unsqueeze": 0,
}

RULES: dict[str, Rule] = {
    "Cast": carried,
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": reshape,
    "Gather": gather,
    "Identity": carried,
    "Reshape": reshape,
    "Shape": shape_of,
    "Slice": slices,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
