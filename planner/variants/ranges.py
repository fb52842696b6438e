"""Which integers an input may hold, as far as the graph tells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from planner.domain.model import Model

# Operators whose output holds the same values as their first input.
_SAME_VALUES = frozenset(
    [
        "Cast",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
UNKNOWN = (0, 2)
"""Where the graph does not tell: 0 and 1, which suit masks and token types."""


def index_ranges(model: Model) -> dict[str, tuple[int, int]]:
    """``[low, high)`` for each integer input.

    An input that indexes a table of weights (Gather) stays within the table; one that is compared with
    constants (a one-hot encoding) stays within these. Everything else gets ``UNKNOWN``.
    """
    graph = onnx.load(str(model.path), load_external_data=False).graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    ranges = {}
    for tensor in model.inputs:
        if np.dtype(tensor.dtype).kind in "iu":
            found = _uses(graph, tensor.name, initializers)
            low = max((low for low, _ in found), default=UNKNOWN[0])
            high = min((high for _, high in found), default=UNKNOWN[1])
            ranges[tensor.name] = (low, high) if low < high else UNKNOWN
    return ranges


def _uses(
    graph: onnx.GraphProto, name: str, initializers: Mapping[str, onnx.TensorProto]
) -> list[tuple[int, int]]:
    reached, found = {name}, []
    for node in graph.node:  # topologically sorted, so one pass reaches everything
        if not reached.intersection(node.input):
            continue
        indexed = node.op_type == "Gather" and node.input[1] in reached
        if indexed and node.input[0] in initializers:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            found.append((0, initializers[node.input[0]].dims[axis]))
        elif node.op_type == "Equal":
            found.extend(
                _span(initializers[other])
                for other in node.input
                if other in initializers and not _external(initializers[other])
            )
        elif node.op_type in _SAME_VALUES and node.input[0] in reached:
            reached.add(node.output[0])
    return found


def _span(tensor: onnx.TensorProto) -> tuple[int, int]:
    values = numpy_helper.to_array(tensor)
    return (int(values.min()), int(values.max()) + 1) if values.size else UNKNOWN


def _external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)
