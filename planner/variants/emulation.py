"""bfloat16 on a CPU without bfloat16 kernels: float32 arithmetic, rounded to bfloat16 after every operator.

Products accumulate in float32 on GPUs too, so what is left of the difference is the order of summation.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from planner.variants.graph import save
from planner.variants.narrowing import BFLOAT16, narrow_tensors
from planner.variants.opsets import element_types
from planner.variants.weights import skeleton

EVALUATION_FILE = "evaluation.onnx"
"""Where the emulation of ``model.onnx`` lies: beside it, sharing its external data."""


def emulated(made: Path, target: Path) -> bool:
    """Writes to ``target``, in the folder of ``made``, what ONNX Runtime's CPU kernels can run in its place.

    Returns False, and writes nothing, where ``made`` holds no bfloat16 and can run itself.
    """
    proto = skeleton(made)
    types = element_types(proto)
    narrow = set(narrow_tensors(types, BFLOAT16))
    if not narrow:
        return False
    _emulate(proto.graph, narrow)
    save(proto, target)
    return True


def _emulate(graph: onnx.GraphProto, narrow: set[str]) -> None:
    nodes: list[onnx.NodeProto] = []
    widened: set[str] = set()

    def widen(name: str) -> str:
        wide = name + "/f32"
        if name not in widened:
            widened.add(name)
            nodes.append(helper.make_node("Cast", [name], [wide], f"{name}/widen", to=TensorProto.FLOAT))
        return wide

    for node in list(graph.node):
        if node.op_type == "Cast":
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if name in narrow:
                node.input[i] = widen(name)
        rounded = []
        for i, name in enumerate(node.output):
            if name in narrow:
                node.output[i] = name + "/exact"
                rounded.append(
                    helper.make_node("Cast", [name + "/exact"], [name], f"{name}/round", to=BFLOAT16.element)
                )
        nodes += [node, *rounded]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
