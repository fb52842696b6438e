"""What quantization shifts the mean output of each channel by, so that biases can take it back.

Rounded weights and clipped activations err in one direction, and the layers after them add it up.
Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and
bias correction", ICCV 2019, section 4.2; the inputs' means are measured here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from planner.variants.calibration import Range
from planner.variants.context import Array
from planner.variants.integers import IntegerWriter, affine, biased_by
from planner.variants.observe import observed
from planner.variants.placement import MULTIPLY_ACCUMULATE, Placement
from planner.variants.weights import value

Floats = NDArray[np.float64]


def mean_shifts(
    writer: IntegerWriter,
    placement: Placement,
    ranges: Mapping[str, Range],
    feeds: Iterable[Mapping[str, Array]],
    scratch: Path,
) -> dict[str, Floats]:
    """Of each node's outputs, one value a channel: integer minus float, both given the float model's inputs.

    So every layer answers for its own shift only. Exact but for the padding of convolutions, which counts
    like the rest of the image. Transposed convolutions, and products that no constant is added to, are left
    out.
    """
    graph = writer.source.graph
    nodes = {n.name: n for n in graph.node if n.name in placement.nodes and _can_shift(graph, n)}
    exact: dict[str, Floats] = {}
    rounded: dict[str, Floats] = {}
    grids = {n.input[0]: affine(ranges[n.input[0]]) for n in nodes.values()}
    count = 0
    for values in observed(writer.source, list(grids), feeds, scratch):
        count += 1
        for name, node in nodes.items():
            x = values[node.input[0]]
            exact[name] = exact.get(name, 0) + _channel_means(node, x)
            rounded[name] = rounded.get(name, 0) + _channel_means(node, grids[node.input[0]].rounded(x))
    weights = {i.name: i for i in graph.initializer}
    return {
        name: _times(node, writer.dequantized(node), rounded[name] / count)
        - _times(node, value(weights[node.input[1]], writer.folder), exact[name] / count)
        for name, node in nodes.items()
    }


def _can_shift(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return (
        node.op_type in MULTIPLY_ACCUMULATE
        and node.op_type != "ConvTranspose"
        and not transposed
        and biased_by(graph, node)[1] is not None
    )


def _channel_means(node: onnx.NodeProto, x: Array) -> Floats:
    axis = 1 if node.op_type == "Conv" else x.ndim - 1
    return np.asarray(x.mean(tuple(a for a in range(x.ndim) if a != axis), dtype=np.float64))


def _times(node: onnx.NodeProto, weight: Array, means: Floats) -> Floats:
    """The mean output for constant inputs, one a channel, without the bias."""
    weight = weight.astype(np.float64)
    if node.op_type == "Conv":
        kernel = weight.sum(axis=tuple(range(2, weight.ndim)))
        groups = len(means) // kernel.shape[1]
        by_group = kernel.reshape(groups, -1, kernel.shape[1])
        return np.asarray(np.einsum("goi,gi->go", by_group, means.reshape(groups, -1)).reshape(-1))
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return np.asarray(weight @ means if transposed else means @ weight)
