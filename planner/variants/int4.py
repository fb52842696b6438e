"""Weights in 4 bits, arithmetic in floats: for models that wait for their weights to arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from planner.errors import VariantError
from planner.variants.blocks import Blocks, asymmetric, packed, symmetric
from planner.variants.context import Array, Context
from planner.variants.graph import drop_unused_initializers
from planner.variants.opsets import MAIN_DOMAINS, raised, tidied
from planner.variants.session import quiet
from planner.variants.weights import Sink, sink_like, skeleton, value

_BLOCK = 32
_TENSORRT_BLOCKS = (128, 64, 32)
# Blocked DequantizeLinear and 4-bit tensors begin here.
_QDQ_OPSET = 21
# Products computed in int8, activations quantized block by block on the fly: the fastest kernels on CPUs.
_INT8_ACCURACY = 4
# Smaller weights are not what a model waits for.
_FEWEST_WEIGHTS = 1 << 12


@dataclass(slots=True)
class _Work:
    """A graph whose products are replaced one by one; ``nodes`` is the new list."""

    graph: onnx.GraphProto
    sink: Sink
    folder: Path
    nodes: list[onnx.NodeProto]
    made: set[str]

    def matrix(self, node: onnx.NodeProto, weight: onnx.TensorProto) -> Array:
        """[inputs, outputs]."""
        values = value(weight, self.folder)
        return values.T if _flag(node, "transB") else values

    def store(self, name: str, array: Array) -> None:
        self.graph.initializer.append(self.sink.tensor(name, array))


class Int4:
    """MatMulNBits of ONNX Runtime: blocks of 32 with zero points, activations in int8 inside the kernel."""

    name = "int4"
    needs_calibration = False
    backends = frozenset(["onnxruntime", "openvino"])
    min_compute_capability = None
    evaluate_unoptimized = False

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        proto = tidied(skeleton(source))
        return _apply(self.name, proto, source, target, _n_bits, lambda node, weight: "")


class Int4TensorRT:
    """A blocked DequantizeLinear before each product: symmetric, the largest of 128, 64 and 32 that divides
    the inputs."""

    name = "int4-tensorrt"
    needs_calibration = False
    backends = frozenset(["tensorrt", "tensorrt-rtx"])
    min_compute_capability = (8, 0)
    # ONNX Runtime may turn the pattern into MatMulNBits with int8 arithmetic, which TensorRT does not do.
    evaluate_unoptimized = True

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        with quiet():
            proto, notes = raised(skeleton(source), _QDQ_OPSET, self.name)
        return (*notes, *_apply(self.name, tidied(proto), source, target, _blocked_qdq, _indivisible))


def _apply(
    name: str,
    proto: onnx.ModelProto,
    source: Path,
    target: Path,
    replace: Callable[[_Work, onnx.NodeProto, onnx.TensorProto], None],
    refuses: Callable[[onnx.NodeProto, onnx.TensorProto], str],
) -> tuple[str, ...]:
    graph = proto.graph
    weights = {i.name: i for i in graph.initializer}
    work = _Work(graph, sink_like(proto, target), source.parent, [], set())
    left: Counter[str] = Counter()
    count = 0
    for node in list(graph.node):
        weight = weights.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type not in ("MatMul", "Gemm") or node.domain not in MAIN_DOMAINS:
            work.nodes.append(node)
        elif reason := _why_float(node, weight) or (weight is not None and refuses(node, weight)):
            left[str(reason)] += 1
            work.nodes.append(node)
        elif weight is not None:
            replace(work, node, weight)
            count += 1
    if not count:
        why = f" ({next(iter(left))})" if left else ""
        raise VariantError(f"{name}: nothing to quantize: no MatMul or Gemm with large constant weights{why}")
    del graph.node[:], graph.value_info[:]
    graph.node.extend(work.nodes)
    drop_unused_initializers(graph)
    work.sink.save(proto, source)
    return (f"weights of {count} products in 4 bits", *(f"{n} left float: {r}" for r, n in left.items()))


def _why_float(node: onnx.NodeProto, weight: onnx.TensorProto | None) -> str:
    if weight is None:
        return f"{node.op_type} of two activations"
    if weight.data_type != TensorProto.FLOAT or len(weight.dims) != 2:
        return f"{node.op_type} whose weights are not a float32 matrix"
    if np.prod(weight.dims) < _FEWEST_WEIGHTS or min(weight.dims) < _BLOCK:
        return f"{node.op_type} with few weights"
    if node.op_type == "Gemm" and (_flag(node, "transA") or not _is_plain(node)):
        return "Gemm with a factor or a transposed input"
    return ""


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(a.name == name and a.i for a in node.attribute)


def _is_plain(node: onnx.NodeProto) -> bool:
    return all(a.f == 1.0 for a in node.attribute if a.name in ("alpha", "beta"))


def _indivisible(node: onnx.NodeProto, weight: onnx.TensorProto) -> str:
    inputs = weight.dims[1 if _flag(node, "transB") else 0]
    if inputs % _TENSORRT_BLOCKS[-1]:
        return f"{node.op_type} whose inputs do not divide into blocks of {_TENSORRT_BLOCKS[-1]}"
    return ""


def _n_bits(work: _Work, node: onnx.NodeProto, weight: onnx.TensorProto) -> None:
    """B [outputs, blocks, bytes a block], scales and zero points output by output, an Add for a bias."""
    stem = f"{weight.name}/{'t' if _flag(node, 'transB') else 'n'}"
    inputs, outputs = weight.dims[::-1] if _flag(node, "transB") else weight.dims
    if stem not in work.made:
        work.made.add(stem)
        blocks = asymmetric(work.matrix(node, weight), _BLOCK)
        _store_n_bits(work, stem, blocks)
    has_bias = len(node.input) > 2 and bool(node.input[2])
    output = f"{node.output[0]}/product" if has_bias else node.output[0]
    work.nodes.append(
        helper.make_node(
            "MatMulNBits",
            [node.input[0], f"{stem}/q", f"{stem}/scales", f"{stem}/zeros"],
            [output],
            node.name,
            domain="com.microsoft",
            K=inputs,
            N=outputs,
            bits=4,
            block_size=_BLOCK,
            accuracy_level=_INT8_ACCURACY,
        )
    )
    if has_bias:
        work.nodes.append(
            helper.make_node("Add", [output, node.input[2]], [node.output[0]], f"{node.name}/bias")
        )


def _store_n_bits(work: _Work, stem: str, blocks: Blocks) -> None:
    count, outputs = blocks.scales.shape
    codes = np.zeros((count * blocks.size, outputs), np.int8)
    codes[: len(blocks.codes)] = blocks.codes
    zeros = np.zeros((outputs, count + count % 2), np.int8)
    zeros[:, :count] = blocks.zeros.T
    work.store(f"{stem}/q", packed(codes.T).reshape(outputs, count, blocks.size // 2))
    work.store(f"{stem}/scales", blocks.scales.T.reshape(-1))
    work.store(f"{stem}/zeros", packed(zeros).reshape(-1))


def _blocked_qdq(work: _Work, node: onnx.NodeProto, weight: onnx.TensorProto) -> None:
    """DequantizeLinear along the inputs; the product stays the node it is, without transB."""
    stem = f"{weight.name}/{'t' if _flag(node, 'transB') else 'n'}"
    if stem not in work.made:
        work.made.add(stem)
        matrix = work.matrix(node, weight)
        size = next(b for b in _TENSORRT_BLOCKS if len(matrix) % b == 0)
        blocks = symmetric(matrix, size)
        work.store(f"{stem}/q", blocks.codes.astype(ml_dtypes.int4))
        work.store(f"{stem}/scales", blocks.scales)
        work.nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{stem}/q", f"{stem}/scales"],
                [f"{stem}/dq"],
                f"{stem}/dq",
                axis=0,
                block_size=size,
            )
        )
    node.input[1] = f"{stem}/dq"
    kept = [a for a in node.attribute if a.name != "transB"]
    del node.attribute[:]
    node.attribute.extend(kept)
    work.nodes.append(node)
