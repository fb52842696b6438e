"""The pruned model's twin: the whole graph, with what is to be removed counted as zero.

Pruning right means that both give the same outputs, before anything is refitted.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from planner.variants.pruning.graph import Graph
from planner.variants.pruning.groups import Kept
from planner.variants.pruning.tracing import Contraction


def masked(graph: Graph, contractions: Iterable[Contraction], kept: Kept) -> onnx.ModelProto:
    """The model of ``graph`` with a 0/1 ``Mul`` before every input that sums over removed positions."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.value_info[:]
    before: dict[int, list[onnx.NodeProto]] = {}
    for k, c in enumerate(contractions):
        if (c.tensor, c.axis) not in kept:
            continue
        shape = [1] * len(graph.shapes[c.tensor])
        length = graph.shapes[c.tensor][c.axis]
        assert isinstance(length, int)
        mask = np.zeros(length, np.float32)
        mask[kept[c.tensor, c.axis]] = 1
        shape[c.axis] = length
        dtype = graph.dtypes.get(c.tensor, np.dtype(np.float32))
        name = f"{c.tensor}.masked{k}"
        tensor = numpy_helper.from_array(mask.reshape(shape).astype(dtype), f"{name}.mask")
        model.graph.initializer.append(tensor)
        before.setdefault(c.node, []).append(helper.make_node("Mul", [c.tensor, tensor.name], [name]))
        model.graph.node[c.node].input[c.index] = name
    nodes = [n for i, node in enumerate(model.graph.node) for n in (*before.get(i, ()), node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
