"""Half precision, inputs and outputs kept as they are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from planner.errors import VariantError
from planner.variants.context import ALL_BACKENDS, Context, random_samples, single_feeds
from planner.variants.narrowing import FLOAT16, count_products, narrow_tensors, narrowed
from planner.variants.opsets import element_types, tidied
from planner.variants.session import quiet, session_of
from planner.variants.weights import sink_like, skeleton, value

_LARGE = 65504 / 2
_SAMPLES = 16


class Fp16:
    """What half precision would spoil stays float32: operators known for it, squares that are summed, and,
    as far as constants and samples show, nodes whose values come within a factor of two of the largest half.
    """

    name = "fp16"
    needs_calibration = False
    backends = ALL_BACKENDS
    min_compute_capability = None
    evaluate_unoptimized = False

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        proto = tidied(skeleton(source))
        types = element_types(proto)
        sink = sink_like(proto, target)
        with quiet():
            large = _large(proto, types, source, context)
            notes = narrowed(proto, types, FLOAT16, sink, source.parent, large)
            sink.save(proto, source)
        some, all_ = count_products(proto.graph.node, set(narrow_tensors(element_types(proto), FLOAT16)))
        if not some:
            raise VariantError(f"{self.name}: nothing to do: no convolution or product of float32 tensors")
        if large:
            notes += (f"{len(large)} nodes with values above {_LARGE:.0f} kept in float32",)
        return (f"{some} of {all_} convolutions and products in float16", *notes)


def _large(proto: onnx.ModelProto, types: Mapping[str, int], source: Path, context: Context) -> set[str]:
    """Names of the nodes that read or write values above ``_LARGE``, or what is made of such a constant."""
    constants = {
        i.name
        for i in proto.graph.initializer
        if i.data_type == TensorProto.FLOAT and np.abs(value(i, source.parent)).max(initial=0) > _LARGE
    }
    reached = {t for n in proto.graph.node if constants & {*n.input} for t in n.output}
    large = constants | reached | _large_activations(types, source, context)
    return {n.name for n in proto.graph.node if large & {*n.input, *n.output}}


def _large_activations(types: Mapping[str, int], source: Path, context: Context) -> set[str]:
    """Tensors that hold values above ``_LARGE`` on the first samples.

    ONNX Runtime on a CPU computes most of a float16 graph in float32, so running the result would not tell.
    It watches the graph as it is written: its optimizations fail on 8-bit floats.
    """
    watching = tidied(skeleton(source))
    graph = watching.graph
    watched = [t for n in graph.node for t in n.output if types.get(t) == TensorProto.FLOAT]
    if not watched:
        return set()
    for tensor in watched:
        magnitude, peak = f"{tensor}_magnitude", f"{tensor}_peak"
        graph.node.append(helper.make_node("Abs", [tensor], [magnitude]))
        graph.node.append(helper.make_node("ReduceMax", [magnitude], [peak], keepdims=0))
        graph.output.append(onnx.ValueInfoProto(name=peak))
    session = session_of(watching, source.parent, optimized=False)
    samples = context.calibration or random_samples(context.inputs, _SAMPLES, context.seed)
    peaks = [
        session.run([f"{tensor}_peak" for tensor in watched], feed)
        for feed in islice(single_feeds(context.inputs, samples), _SAMPLES)
    ]
    highest = np.max(np.array(peaks, np.float64), axis=0)
    return {tensor for tensor, peak in zip(watched, highest, strict=True) if not peak <= _LARGE}
