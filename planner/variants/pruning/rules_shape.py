"""Tracing rules of the operators that move positions about: reshapes, slices, concatenation, sizes."""

from __future__ import annotations

import numpy as np
import onnx

from planner.variants.pruning import reshaping
from planner.variants.pruning.graph import attribute, constant_ints, given, label
from planner.variants.pruning.slicing import slice_cuts
from planner.variants.pruning.tracing import Axis, Rule, Trace

_LARGEST_FLAT = 1 << 22


def reshape(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Also Flatten. See ``reshaping`` for how axes are matched."""
    axes, before, after = t.of(node.input[0]), t.shape(node.input[0]), t.shape(node.output[0])
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
    place: dict[int, int | None] = {k: dst[k] for k in long}
    tensor = node.output[0]
    while (reader := t.graph.only_reader(tensor)) is not None:
        moved = _moved(t, t.graph.nodes[reader], place)
        if moved is None:
            break
        place, tensor = moved, t.graph.nodes[reader].output[0]
    readers = [t.graph.nodes[r] for r, _ in t.graph.readers.get(tensor, ())]
    taken = {k for k, at in place.items() if at is None or any(_takes_apart(t, r, at) for r in readers)}
    free = [k for k in long if k not in taken] or long
    if len(free) == 2 and not taken and (place[free[0]] or 0) > (place[free[1]] or 0):
        return free[1]
    return free[0]


def _moved(t: Trace, node: onnx.NodeProto, place: dict[int, int | None]) -> dict[int, int | None] | None:
    """Where a node that only moves axes puts them; None for any other node."""
    rank = len(t.shape(node.input[0]) or ())
    if node.op_type == "Transpose":
        order = attribute(node, "perm") or list(range(rank))[::-1]
    elif node.op_type in ("Squeeze", "Unsqueeze"):
        which = constant_ints(t.graph, node, 1) if given(node, 1) else attribute(node, "axes")
        if which is None:
            return None
        grown = rank + len(which) if node.op_type == "Unsqueeze" else rank
        others = [k for k in range(grown) if k not in {a % grown for a in which}]
        order = others
        if node.op_type == "Unsqueeze":
            return {k: None if at is None else others[at] for k, at in place.items()}
    else:
        return None
    return {k: order.index(at) if at in order else None for k, at in place.items()}


def _takes_apart(t: Trace, node: onnx.NodeProto, axis: int) -> bool:
    rank = len(t.shape(node.input[0]) or ())
    if node.op_type in ("Gather", "Split"):
        return bool(attribute(node, "axis", 0) % max(rank, 1) == axis)
    if node.op_type == "Slice":
        axes = constant_ints(t.graph, node, 3) if given(node, 3) else attribute(node, "axes")
        return axes is not None and axis in [a % max(rank, 1) for a in axes]
    return False


def expand(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes, shape, after = t.of(node.input[0]), t.whole(node.output[0]), t.shape(node.output[0])
    if axes is None or shape is None or after is None:
        return False
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
    if axes is None or which is None:
        return False
    gone = {a % len(axes) for a in which}
    t.give(node.output[0], [a for k, a in enumerate(axes) if k not in gone], label(node))
    return True


def unsqueeze(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes = t.of(node.input[0])
    which = constant_ints(t.graph, node, 1) if given(node, 1) else attribute(node, "axes")
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


def gather(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    axes, indices = t.of(node.input[0]), t.of(node.input[1])
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


RULES: dict[str, Rule] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": reshape,
    "Gather": gather,
    "Reshape": reshape,
    "Slice": slices,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
