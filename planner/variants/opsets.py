"""Newer opsets for graphs that need them, and graphs in the plain form that rewriting wants."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import inliner

from planner.errors import VariantError
from planner.variants.weights import without_weights

MAIN_DOMAINS = ("", "ai.onnx")
_IR_OF_OPSET_21 = 10
"""The first IR version with 4-bit integers; 8-bit floats came with 9."""


def opset_of(proto: onnx.ModelProto) -> int:
    return next((int(o.version) for o in proto.opset_import if o.domain in MAIN_DOMAINS), 1)


def raised(proto: onnx.ModelProto, opset: int, who: str) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """``proto`` at ``opset`` or later, with a note where it was converted. Raises VariantError."""
    before = opset_of(proto)
    if before >= opset:
        proto.ir_version = max(proto.ir_version, _IR_OF_OPSET_21)
        return proto, ()
    try:
        made = without_weights(proto, lambda bare: _converted(bare, opset))
    except Exception as error:  # the converter raises RuntimeError and its own errors
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise VariantError(
            f"{who}: needs opset {opset}, and the model (opset {before}) does not convert: {reason}"
        ) from error
    made.ir_version = max(made.ir_version, _IR_OF_OPSET_21)
    return made, (f"converted from opset {before} to {opset}",)


def _converted(bare: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    if bare.functions:
        bare = inliner.inline_local_functions(bare)
    return onnx.version_converter.convert_version(bare, opset)


def tidied(proto: onnx.ModelProto) -> onnx.ModelProto:
    """In place: constants are initializers, every node of the main graph has a name of its own."""
    graph = proto.graph
    outputs = {value.name for value in graph.output}
    for node in [n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]:
        if node.output[0] not in outputs:
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.node.remove(node)
    taken = Counter(node.name for node in graph.node)
    for index, node in enumerate(graph.node):
        if not node.name or taken[node.name] > 1:
            node.name = f"{node.op_type}_{index}_{node.output[0]}"
    return proto


def element_types(proto: onnx.ModelProto) -> dict[str, int]:
    """ONNX element type of every tensor of the main graph whose type can be inferred."""
    graph = without_weights(proto, onnx.shape_inference.infer_shapes).graph
    types = {i.name: i.data_type for i in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.HasField("tensor_type") and info.type.tensor_type.elem_type:
            types[info.name] = info.type.tensor_type.elem_type
    return types
