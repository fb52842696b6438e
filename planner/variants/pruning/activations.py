"""What flows through a graph on calibration data, batch by batch, as ONNX Runtime computes it on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from planner.errors import DataError, ModelError
from planner.variants.pruning.graph import Graph, index, live_nodes
from planner.variants.pruning.shapes import Array
from planner.variants.pruning.store import Store
from planner.variants.session import session_of
from planner.variants.weights import has_external

Feed = dict[str, Array]
_SILENT = 4


def feeds(graph: Graph, calibration: Mapping[str, Array] | Sequence[Feed], batch_size: int) -> list[Feed]:
    """Calibration samples cut into batches; a model with a fixed batch gets batches of exactly that size.

    ``calibration`` maps every input to an array with samples on its first axis, or is a list of feeds.
    """
    if not isinstance(calibration, Mapping):
        return list(calibration)
    missing = [name for name in graph.inputs if name not in calibration]
    if missing:
        raise DataError(f"calibration: no samples for input {missing[0]!r}; give an array with samples first")
    arrays = {name: np.asarray(calibration[name]) for name in graph.inputs}
    counts = {name: len(a) if a.ndim else 0 for name, a in arrays.items()}
    count = min(counts.values(), default=0)
    if not count or len(set(counts.values())) > 1:
        raise DataError(
            f"calibration: every input needs the same number of samples, at least 1; got {counts}"
        )
    fixed = {d for name in graph.inputs if isinstance(d := graph.shapes.get(name, ("?",))[0], int)}
    if len(fixed) > 1:
        raise ModelError(
            f"inputs fix different batch sizes {sorted(fixed)}; export the model with one batch size"
        )
    size = fixed.pop() if fixed else min(batch_size, count)
    if count < size:
        raise DataError(f"calibration: the model takes batches of {size}, there are only {count} samples")
    stop = count - size + 1 if graph_is_fixed(graph) else count
    return [{n: a[i : i + size] for n, a in arrays.items()} for i in range(0, stop, size)]


def graph_is_fixed(graph: Graph) -> bool:
    """Whether the first axis of an input, the batch, has a fixed size."""
    return any(isinstance(graph.shapes.get(name, ("?",))[0], int) for name in graph.inputs)


class Probe:
    """A session over just the part of a graph that computes ``tensors``; call it with a feed."""

    def __init__(self, graph: Graph, tensors: Sequence[str]) -> None:
        self._given = [t for t in tensors if t in graph.inputs]
        self._asked = [
            t for t in dict.fromkeys(tensors) if t not in graph.inputs and t not in graph.constants
        ]
        self._constants = {t: graph.constants[t] for t in tensors if t in graph.constants}
        part = _part(graph, self._asked)
        self._inputs = [i.name for i in part.graph.input]
        self._session = session(part, graph.store) if self._asked else None

    def __call__(self, feed: Feed) -> Feed:
        found = {t: feed[t] for t in self._given} | self._constants
        if self._session is not None:
            made = self._session.run(self._asked, {n: feed[n] for n in self._inputs})
            found |= dict(zip(self._asked, made, strict=True))
        return found


def session(model: onnx.ModelProto, store: Store) -> onnxruntime.InferenceSession:
    if store.folder and has_external(model):
        return session_of(model, store.folder)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    # Waiting threads sleep: many short runs beside NumPy's own threads otherwise fight for the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def evaluate(model: onnx.ModelProto, tensors: Sequence[str], store: Store) -> Feed:
    """Values of ``tensors`` that depend on no input."""
    return Probe(index(model, store), tensors)({})


def batches(graph: Graph, tensors: Sequence[str], fed: Sequence[Feed]) -> Iterator[Feed]:
    probe = Probe(graph, tensors)
    for feed in fed:
        yield probe(feed)


def _part(graph: Graph, tensors: Sequence[str]) -> onnx.ModelProto:
    nodes = [graph.nodes[i] for i in live_nodes(graph, set(tensors))]
    read = {name for node in nodes for name in node.input}
    for i in live_nodes(graph, set(tensors)):
        read |= graph.captured.get(i, frozenset())
    source = graph.model.graph
    part = helper.make_graph(
        nodes,
        "part",
        [i for i in source.input if i.name in read],
        [onnx.ValueInfoProto(name=t) for t in tensors],
        [t for t in source.initializer if t.name in read],
        sparse_initializer=[t for t in source.sparse_initializer if t.values.name in read],
    )
    made = helper.make_model(part, opset_imports=list(graph.model.opset_import))
    made.ir_version = graph.model.ir_version
    made.functions.extend(graph.model.functions)
    return made
