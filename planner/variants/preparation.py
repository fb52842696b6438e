"""The clean-up that every quantization needs first; weights stay on disk where they can."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import numpy_helper

from planner.variants.graph import graphs_in, name_nodes, needs_external_data, write
from planner.variants.opsets import opset_of
from planner.variants.session import load_session, optimize
from planner.variants.weights import Sink, is_external, skeleton, tensors_in, value, without_weights

_QDQ_OPSET = 13
"""Per-channel DequantizeLinear begins here; ONNX Runtime writes invalid ones into older models."""
_LARGE_BYTES = 1 << 10


def prepare(source: Path, target: Path, external: bool | None = None) -> tuple[str, ...]:
    """``source`` made ready for quantization: same inputs, outputs and meaning. Returns notes.

    Opset 13 or later; batch normalizations folded and biases fused (ONNX Runtime's *basic* level, which
    keeps to standard operators); every node named; constants as initializers; each bias a vector of one
    owner; shapes inferred. Where ONNX Runtime cannot optimize the model, the rest still holds.
    ``external``: weights beside ``target`` rather than in it; None: where they are too large for one file.
    """
    notes: list[str] = []
    with TemporaryDirectory(dir=target.parent) as folder:
        scratch = Path(folder)
        step = _detached(source, scratch / "detached.onnx")
        proto = skeleton(step)
        if (opset := opset_of(proto)) < _QDQ_OPSET:
            proto = without_weights(proto, _converted)
            Sink(scratch / "converted.onnx", external=True).save(proto, step)
            step = scratch / "converted.onnx"
            load_session(step)
            notes.append(f"converted from opset {opset} to {_QDQ_OPSET}")
        try:
            optimized = optimize(step, scratch / "basic.onnx", external_data=True)
            load_session(optimized)
            step = optimized
        except Exception as error:
            notes.append(
                f"quantized as exported: ONNX Runtime could not optimize it ({type(error).__name__})"
            )
        proto = skeleton(step)
        _tidy(proto, step.parent)
        try:
            proto = without_weights(proto, _with_shapes)
        except Exception as error:
            notes.append(f"shapes could not be inferred ({type(error).__name__})")
        if external is None:
            external = needs_external_data(proto)
        if external:
            Sink(target, external=True).save(proto, source, step.parent)
        else:
            onnx.load_external_data_for_model(proto, str(step.parent))
            write(proto, target, source)
    return tuple(notes)


def _detached(source: Path, path: Path) -> Path:
    """The same model with its weights beside it: ``source`` if it is like that, else a copy at ``path``."""
    proto = onnx.load(source, load_external_data=False)
    if all(is_external(t) or t.ByteSize() <= _LARGE_BYTES for t in tensors_in(proto)):
        return source
    onnx.load_external_data_for_model(proto, str(source.parent))
    location = path.name + ".data"
    onnx.save(proto, path, save_as_external_data=True, location=location, size_threshold=_LARGE_BYTES)
    return path


def _converted(bare: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.version_converter.convert_version(bare, _QDQ_OPSET)


def _with_shapes(bare: onnx.ModelProto) -> onnx.ModelProto:
    for graph in graphs_in(bare.graph):
        del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(bare)


def _tidy(proto: onnx.ModelProto, folder: Path) -> None:
    graph = proto.graph
    name_nodes(graph)
    constants = [n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]
    outputs = {v.name for v in graph.output}
    for node in constants:
        if node.output[0] not in outputs:
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
            graph.node.remove(node)
    _own_biases(graph, folder)


def _own_biases(graph: onnx.GraphProto, folder: Path) -> None:
    """A vector for each bias, used once.

    ``quantize_static`` scales a bias by its node's weights: one shared by two nodes gets two scales, and a
    row ``[1, n]``, which ONNX Runtime leaves when it fuses MatMul and Add, breaks it.
    """
    weights = {i.name: i for i in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.input) < 3:
            continue
        bias = weights.get(node.input[2])
        if bias is None:
            continue
        is_row = len(bias.dims) == 2 and bias.dims[0] == 1
        if uses[bias.name] > 1 or is_row:
            values = value(bias, folder)
            name = f"{node.name}_bias"
            graph.initializer.append(numpy_helper.from_array(values[0] if is_row else values, name))
            node.input[2] = name
    used = {name for inner in graphs_in(graph) for node in inner.node for name in node.input}
    used |= {v.name for v in graph.output}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
