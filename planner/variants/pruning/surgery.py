"""Cuts the removed positions out of a graph: smaller constants, and operators told their new sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from planner.variants.graph import drop_unused_initializers
from planner.variants.pruning.graph import (
    MAIN_DOMAINS,
    Graph,
    attribute,
    drop_attribute,
    input_name,
    set_attribute,
)
from planner.variants.pruning.groups import Kept
from planner.variants.pruning.labels import Labels
from planner.variants.pruning.rules_shape import slice_cuts
from planner.variants.pruning.shapes import Array


def cut(graph: Graph, kept: Kept) -> onnx.ModelProto:
    """The model of ``graph`` with only the ``kept`` positions of each axis; every tensor keeps its name."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.value_info[:]
    changed = {name for name, _ in kept}
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            array = shortened(graph.constants[tensor.name], tensor.name, kept)
            tensor.CopyFrom(graph.store.tensor(tensor.name, array))
    surgeon = _Surgeon(graph, kept)
    nodes = [made for node in model.graph.node for made in surgeon.operate(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(surgeon.new_constants)
    drop_unused_initializers(model.graph)
    return model


def shortened(array: Array, name: str, kept: Kept) -> Array:
    for axis in range(array.ndim):
        if (name, axis) in kept:
            array = np.take(array, kept[name, axis], axis)
    return np.ascontiguousarray(array)


class _Surgeon:
    def __init__(self, graph: Graph, kept: Kept) -> None:
        self._graph, self._kept = graph, kept
        self._touched = {name for name, _ in kept}
        self.new_constants: list[onnx.TensorProto] = []
        self._operations: dict[str, Callable[[onnx.NodeProto], list[onnx.NodeProto]]] = {
            "Conv": self._convolution,
            "ConvTranspose": self._convolution,
            "Split": self._split,
            "Slice": self._slice,
            "Gather": self._gather,
            "Reshape": lambda node: self._sizes(node, 1),
            "Expand": lambda node: self._sizes(node, 1),
            "Resize": lambda node: self._sizes(node, 3),
        }

    def operate(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The node or nodes that stand in for ``node`` once its tensors are shorter."""
        operation = self._operations.get(node.op_type) if node.domain in MAIN_DOMAINS else None
        if operation is None or not self._touched.intersection((*node.input, *node.output)):
            return [node]
        return operation(node)

    def _constant(self, like: str, values: Sequence[int] | Labels) -> str:
        name = f"{like}.kept"
        self.new_constants.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def _length(self, tensor: str, axis: int) -> int | None:
        if (tensor, axis) in self._kept:
            return len(self._kept[tensor, axis])
        size = self._graph.shapes[tensor][axis]
        return size if isinstance(size, int) else None

    def _convolution(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The group count is what the shorter weight implies."""
        if attribute(node, "group", 1) > 1:
            tensor = node.input[0] if node.op_type == "Conv" else node.output[0]
            channels, of_each = self._length(tensor, 1), self._length(node.input[1], 1)
            assert channels is not None and of_each is not None and channels % of_each == 0
            set_attribute(node, "group", channels // of_each)
        return [node]

    def _split(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        axis = attribute(node, "axis", 0) % len(self._graph.shapes[node.input[0]])
        sizes = [self._length(name, axis) or 0 for name in node.output]
        drop_attribute(node, "num_outputs")
        if self._graph.opset < 13:
            set_attribute(node, "split", sizes)
        else:
            source = node.input[0]
            del node.input[:]
            node.input.extend([source, self._constant(f"{node.output[0]}.split", sizes)])
        return [node]

    def _slice(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What is kept of a slice is a slice again where it is one run of positions, else a Gather."""
        source, target = node.input[0], node.output[0]
        cuts = slice_cuts(self._graph, node) or {}
        runs: dict[int, slice] = {}
        picks: dict[int, Labels] = {}
        for axis, wanted in cuts.items():
            taken = self._still_wanted(source, axis, wanted) if wanted is not None else None
            if taken is None:
                runs[axis] = wanted if wanted is not None else slice(None)
            elif len(taken) and taken[-1] - taken[0] == len(taken) - 1 and (np.diff(taken) == 1).all():
                runs[axis] = slice(int(taken[0]), int(taken[-1]) + 1, 1)
            else:
                picks[axis] = taken
        if not any((source, axis) in self._kept for axis in cuts):
            return [node]
        steps: list[onnx.NodeProto] = [self._run_of(runs, f"{target}.runs")] if runs else []
        for axis, taken in picks.items():
            indices = self._constant(f"{target}.{axis}", taken)
            steps.append(helper.make_node("Gather", ["", indices], [f"{target}.{axis}.picked"], axis=axis))
        for step in steps:
            step.input[0], source = source, step.output[0]
        steps[-1].output[0], steps[-1].name = target, node.name
        return steps

    def _still_wanted(self, source: str, axis: int, wanted: slice) -> Labels | None:
        before = self._graph.shapes[source][axis]
        if (source, axis) not in self._kept or not isinstance(before, int):
            return None
        return positions_after(self._kept[source, axis], np.arange(before)[wanted])

    def _run_of(self, runs: dict[int, slice], target: str) -> onnx.NodeProto:
        starts = [cut.start for cut in runs.values()]
        ends = [cut.stop if cut.stop is not None else -(1 << 62) for cut in runs.values()]
        if self._graph.opset < 10:
            return helper.make_node("Slice", [""], [target], starts=starts, ends=ends, axes=list(runs))
        values = {
            "starts": starts,
            "ends": ends,
            "axes": list(runs),
            "steps": [c.step or 1 for c in runs.values()],
        }
        names = [self._constant(f"{target}.{what}", given) for what, given in values.items()]
        return helper.make_node("Slice", ["", *names], [target])

    def _gather(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        source = node.input[0]
        axis = attribute(node, "axis", 0) % len(self._graph.shapes[source])
        indices = self._graph.constant(node, 1)
        if (source, axis) in self._kept and indices is not None:
            before = self._graph.shapes[source][axis]
            assert isinstance(before, int)
            taken = positions_after(self._kept[source, axis], np.arange(before)[indices.astype(np.int64)])
            node.input[1] = self._constant(f"{node.output[0]}.indices", taken)
        return [node]

    def _sizes(self, node: onnx.NodeProto, slot: int) -> list[onnx.NodeProto]:
        """Writes the known sizes of the result into the input that asks for them."""
        target, asked = node.output[0], input_name(node, slot)
        if target not in self._touched or not asked:
            return [node]
        known = [self._length(target, axis) for axis in range(len(self._graph.shapes[target]))]
        constant = self._graph.constants.get(asked)
        if constant is not None:
            sizes = [old if new is None else new for old, new in zip(constant.tolist(), known, strict=True)]
            node.input[slot] = self._constant(f"{target}.sizes", sizes)
            return [node]
        mask = self._constant(f"{target}.unknown", [int(d is None) for d in known])
        fixed = self._constant(f"{target}.known", [d or 0 for d in known])
        unknown, sizes_name = f"{target}.unknown_sizes", f"{target}.sizes"
        node.input[slot] = sizes_name
        return [
            helper.make_node("Mul", [asked, mask], [unknown], name=unknown),
            helper.make_node("Add", [unknown, fixed], [sizes_name], name=sizes_name),
            node,
        ]


def positions_after(kept: Labels, wanted: Labels) -> Labels:
    """Where the positions ``wanted`` of an axis are once only ``kept`` is left; removed ones drop out."""
    where = np.searchsorted(kept, wanted)
    inside = where < len(kept)
    found = np.zeros(len(wanted), bool)
    found[inside] = kept[where[inside]] == wanted[inside]
    return where[found]
