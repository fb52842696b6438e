"""Brings a graph into the plain form that tracing reads, without changing what it computes.

Constants become initializers, whatever depends on constants alone is folded, and a BatchNormalization
goes into the convolution before it (engines do that at load time anyway; here it gives the convolution
the bias that reconstruction refits). Vectors that exporters store once for many layers are copied apart.
"""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from planner.variants.graph import drop_unused_initializers
from planner.variants.portions import portions
from planner.variants.pruning.activations import evaluate
from planner.variants.pruning.graph import MAIN_DOMAINS, attribute, has_subgraph, input_name, outer_names
from planner.variants.pruning.shapes import Array
from planner.variants.pruning.store import Store
from planner.variants.weights import is_external

_NEVER_FOLDED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Dropout", "Multinomial"}
_LARGEST_FOLDED_BYTES = 1 << 24
_LARGEST_COPIED_BYTES = 1 << 16
_FOLDED_AT_ONCE_BYTES = 1 << 28
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def normalized(model: onnx.ModelProto, store: Store | None = None) -> onnx.ModelProto:
    """A normalized copy of ``model``; tensors that survive keep their names.

    ``store`` has the external weights, where there are some, and takes those made here.
    """
    store = store or Store()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    _constants_to_initializers(copy.graph)
    _hide_initializers(copy)
    _inline_constant_aliases(copy.graph)
    _fold_constants(copy, store)
    _fold_batch_normalizations(copy.graph, store)
    _give_own_vectors(copy.graph)
    drop_unused_initializers(copy.graph)
    return copy


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        tensor = _constant_value(node) if node.op_type == "Constant" else None
        if tensor is None:
            kept.append(node)
        else:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = node.output[0]
    _replace_nodes(graph, kept)


def _constant_value(node: onnx.NodeProto) -> TensorProto | None:
    entry = node.attribute[0]
    value = helper.get_attribute_value(entry)
    if entry.name == "value":
        made: TensorProto = value
        return made
    if entry.name in ("value_float", "value_floats"):
        return numpy_helper.from_array(np.asarray(value, np.float32))
    if entry.name in ("value_int", "value_ints"):
        return numpy_helper.from_array(np.asarray(value, np.int64))
    return None


def _hide_initializers(model: onnx.ModelProto) -> None:
    """Initializers listed as inputs too (IR 3 style) become constants; IR 4 allows to leave them unlisted."""
    names = {t.name for t in model.graph.initializer}
    if any(i.name in names for i in model.graph.input):
        kept = [i for i in model.graph.input if i.name not in names]
        del model.graph.input[:]
        model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)


def _inline_constant_aliases(graph: onnx.GraphProto) -> None:
    """Reads through ``Identity(constant)``, so that a shared weight is seen as the one tensor it is."""
    alias = {t.name: t.name for t in graph.initializer}
    outputs = {o.name for o in graph.output}
    captured = {name for node in graph.node for name in outer_names(node)}
    kept = []
    for node in graph.node:
        plain = node.op_type == "Identity" and node.domain in MAIN_DOMAINS
        if plain and node.input[0] in alias and node.output[0] not in outputs | captured:
            alias[node.output[0]] = alias[node.input[0]]
        else:
            kept.append(node)
    for node in kept:
        for k, name in enumerate(node.input):
            if name in alias:
                node.input[k] = alias[name]
    _replace_nodes(graph, kept)


def _fold_constants(model: onnx.ModelProto, store: Store) -> None:
    graph = model.graph
    known = {t.name for t in graph.initializer}
    outputs = {o.name for o in graph.output}
    folded = []
    for node in graph.node:
        if _foldable(node, known, outputs):
            folded.append(node)
            known.update(o for o in node.output if o)
    small: dict[str, TensorProto] = {}
    external = {t.name: _bytes(t) for t in graph.initializer if is_external(t)}

    def read(node: onnx.NodeProto) -> int:
        return sum(external.get(name, 0) for name in node.input)

    for some in portions(folded, read, _FOLDED_AT_ONCE_BYTES):
        values = evaluate(model, [o for node in some for o in node.output if o], store)
        small |= {
            name: store.tensor(name, v)
            for name, v in values.items()
            if v.nbytes <= _LARGEST_FOLDED_BYTES or _shrinks(name, graph, v)
        }
    done = [node for node in folded if all(o in small for o in node.output if o)]
    graph.initializer.extend(small[o] for node in done for o in node.output if o)
    replaced = {o for node in done for o in node.output if o}
    _replace_nodes(graph, [node for node in graph.node if not replaced.intersection(node.output)])


def _bytes(tensor: TensorProto) -> int:
    if not is_external(tensor):
        return int(tensor.ByteSize())
    return int(prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _foldable(node: onnx.NodeProto, known: set[str], outputs: set[str]) -> bool:
    return (
        node.domain in MAIN_DOMAINS
        and node.op_type not in _NEVER_FOLDED
        and not node.op_type.startswith("Random")
        and not has_subgraph(node)
        and bool(node.input)
        and all(name in known for name in node.input if name)
        and not outputs.intersection(node.output)
    )


def _shrinks(name: str, graph: onnx.GraphProto, value: Array) -> bool:
    """Whether a folded value is no larger than the constants it came from (a transposed weight, say)."""
    node = next(n for n in graph.node if name in n.output)
    sources = {t.name: t for t in graph.initializer if t.name in set(node.input)}
    return bool(value.nbytes <= sum(_bytes(t) for t in sources.values()) + 1024)


def _fold_batch_normalizations(graph: onnx.GraphProto, store: Store) -> None:
    constants = {t.name: t for t in graph.initializer}
    reads = Counter(name for node in graph.node for name in (*node.input, *outer_names(node)))
    reads.update(o.name for o in graph.output)
    makers = {node.output[0]: node for node in graph.node}
    kept = []
    for node in graph.node:
        conv = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or not _absorbs(conv, node, constants, reads):
            kept.append(node)
            continue
        weight, bias = _absorbed(conv, node, constants, store)
        for name, array in ((f"{node.output[0]}.weight", weight), (f"{node.output[0]}.bias", bias)):
            tensor = store.tensor(name, array)
            graph.initializer.append(tensor)
            constants[name] = tensor
            reads[name] = 1
        source = conv.input[0]
        del conv.input[:]
        conv.input.extend([source, f"{node.output[0]}.weight", f"{node.output[0]}.bias"])
        makers[node.output[0]] = conv
        conv.output[0] = node.output[0]
    _replace_nodes(graph, kept)


def _give_own_vectors(graph: onnx.GraphProto) -> None:
    """Gives each reader of a small float vector (a bias, the scale of a normalization) a copy of its own.

    Exporters store equal constants once: the zero biases of many layers, say. Layers that share nothing else
    would then have to lose the same channels. A weight that layers share is shared by design and stays so.
    """
    vectors = {t.name: t for t in graph.initializer if _is_small_vector(t)}
    taken = {name for node in graph.node for name in outer_names(node)} | {o.name for o in graph.output}
    for node in graph.node:
        for k, name in enumerate(node.input):
            if name not in vectors:
                continue
            if name in taken and not _is_weight(node, k):
                own = graph.initializer.add()
                own.CopyFrom(vectors[name])
                own.name = node.input[k] = f"{name}.{node.output[0]}.{k}"
            taken.add(name)


def _is_small_vector(tensor: TensorProto) -> bool:
    """At most one axis is longer than 1; a scalar ties no widths together."""
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return (
        np.issubdtype(dtype, np.floating)
        and sum(d > 1 for d in tensor.dims) == 1
        and prod(tensor.dims) * dtype.itemsize <= _LARGEST_COPIED_BYTES
    )


def _is_weight(node: onnx.NodeProto, index: int) -> bool:
    return node.op_type in _WEIGHTED and index < 2


def _absorbs(
    conv: onnx.NodeProto, norm: onnx.NodeProto, constants: dict[str, TensorProto], reads: Counter[str]
) -> bool:
    grouped = attribute(conv, "group", 1) > 1
    return (
        (conv.op_type == "Conv" or (conv.op_type == "ConvTranspose" and not grouped))
        and conv.domain in MAIN_DOMAINS
        and reads[conv.output[0]] == 1
        and len([o for o in norm.output if o]) == 1
        and not attribute(norm, "training_mode", 0)
        and all(name in constants for name in (*conv.input[1:], *norm.input[1:]))
    )


def _absorbed(
    conv: onnx.NodeProto, norm: onnx.NodeProto, constants: dict[str, TensorProto], store: Store
) -> tuple[Array, Array]:
    """Weight and bias of the convolution that does both: w·s and (b - mean)·s + shift, s = scale/√(var+ε)."""
    scale, shift, mean, variance = (
        store.read(constants[name]).astype(np.float64) for name in norm.input[1:5]
    )
    weight = store.read(constants[conv.input[1]])
    name = input_name(conv, 2)
    bias = store.read(constants[name]).astype(np.float64) if name else np.zeros_like(mean)
    gain = scale / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    out_axis = 0 if conv.op_type == "Conv" else 1
    along = [1] * weight.ndim
    along[out_axis] = -1
    folded = (weight * gain.reshape(along)).astype(weight.dtype)
    return folded, ((bias - mean) * gain + shift).astype(weight.dtype)
