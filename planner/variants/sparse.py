"""2:4 sparsity: of every four weights that meet in a sum, two are zero, and sparse tensor cores skip them.

Four *inputs of one output* make a group: consecutive channels at one position of a convolution's window,
consecutive rows of a product's matrix. That is the direction that tensor cores (and TensorRT's check) want.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from planner.errors import VariantError
from planner.variants.context import Array, Context, single_feeds
from planner.variants.layers import Layer, layers_of
from planner.variants.observe import observed
from planner.variants.preparation import prepare
from planner.variants.pruning.reconstruction import Moments
from planner.variants.pruning.rows import input_rows, output_rows, sample, weight_tensor
from planner.variants.pruning.selection import rows_for
from planner.variants.session import quiet
from planner.variants.two_of_four import by_magnitude, sparsified
from planner.variants.weights import Sink, deliver, skeleton

RIDGE = 1e-2
# Sparse tensor cores take 16 to 64 inputs at once; below this sparsity costs accuracy and gains nothing.
_FEWEST_CHANNELS = 32
_FEWEST_OUTPUTS = 16
# Wider layers are cut by magnitude alone: their Gram matrix would not fit.
_WIDEST = 6144
_GRAM_BYTES_AT_ONCE = 1 << 30
_PASSES = 8
# A Gram matrix is as long in the adding for one row as for many.
_ROWS_AT_ONCE = 256


class Sparse:
    """Layer after layer, the weights that stay make up for those that go (see ``two_of_four``).

    Each layer's inputs are those of the graph with the layers before it already sparse, its target what
    the dense graph gives: errors are corrected where they arise and do not pile up.
    """

    name = "sparse-2:4"
    needs_calibration = True
    backends = frozenset(["tensorrt", "tensorrt-rtx"])
    min_compute_capability = (8, 0)
    evaluate_unoptimized = False

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        assert context.calibration
        with TemporaryDirectory(dir=target.parent) as folder, quiet():
            scratch = Path(folder)
            notes = prepare(source, scratch / "prepared.onnx", external=True)
            dense = skeleton(scratch / "prepared.onnx")
            proto = skeleton(scratch / "prepared.onnx")
            sink = Sink(scratch / "sparse", external=True)
            layers, left = layers_of(proto.graph, scratch)
            chosen = [layer for layer in layers if not _count_refusal(layer, left)]
            if not chosen:
                why = f" ({next(iter(left))})" if left else ""
                raise VariantError(f"{self.name}: no layer to make sparse{why}")
            feeds = list(single_feeds(context.inputs, context.calibration))
            rng = np.random.default_rng(context.seed)
            for stage in _stages(chosen):
                moments = _moments(dense, proto, stage, feeds, scratch, rng)
                for layer in stage:
                    _replace(layer, moments.pop(layer.target, None), sink)
            deliver(proto, scratch, target, source)
        wide = sum(layer.inputs > _WIDEST for layer in chosen)
        if wide:
            notes += (f"{wide} layers of more than {_WIDEST} inputs by magnitude alone",)
        return (
            f"{len(chosen)} of {len(chosen) + left.total()} layers 2:4 sparse",
            *notes,
            *(f"{count} left dense: {reason}" for reason, count in left.items()),
        )


def _count_refusal(layer: Layer, left: Counter[str]) -> bool:
    channels = layer.inputs // layer.window
    reason = ""
    if channels % 4:
        reason = f"{layer.node.op_type} whose input channels are no multiple of 4"
    elif channels < _FEWEST_CHANNELS or layer.outputs < _FEWEST_OUTPUTS:
        reason = f"{layer.node.op_type} too narrow to gain"
    left.update([reason] if reason else [])
    return bool(reason)


def _stages(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Runs of layers that are cut after one look at the data: at most ``_PASSES``, if memory allows."""
    size = -(-len(layers) // _PASSES)
    stage: list[Layer] = []
    room = _GRAM_BYTES_AT_ONCE
    for layer in layers:
        needed = 8 * layer.inputs * (layer.inputs + layer.outputs) if layer.inputs <= _WIDEST else 0
        if stage and (len(stage) == size or needed > room):
            yield stage
            stage, room = [], _GRAM_BYTES_AT_ONCE
        stage.append(layer)
        room -= needed
    yield stage


def _moments(
    dense: onnx.ModelProto,
    proto: onnx.ModelProto,
    stage: Sequence[Layer],
    feeds: Sequence[Mapping[str, Array]],
    scratch: Path,
    rng: np.random.Generator,
) -> dict[str, Moments]:
    """For each layer, by target: its inputs in ``proto`` as it is now, its outputs in ``dense``."""
    seen = [layer for layer in stage if layer.inputs <= _WIDEST]
    moments = {layer.target: Moments.zeros(layer.inputs, layer.outputs) for layer in seen}
    waiting: dict[str, list[tuple[Array, Array]]] = {target: [] for target in moments}
    goals = observed(dense, [layer.target for layer in seen], feeds, scratch)
    given = observed(proto, [layer.source for layer in seen], feeds, scratch)
    for wanted, now in zip(goals, given, strict=True):
        for layer in seen:
            quota = -(-rows_for(layer.inputs) // len(feeds))
            goal = wanted[layer.target]
            taken = sample(layer.node, goal, quota, rng)
            x = input_rows(layer.node, now[layer.source], layer.like(), taken)
            rows = waiting[layer.target]
            rows.append((x, output_rows(layer.node, goal, taken)))
            if sum(len(x) for x, _ in rows) >= _ROWS_AT_ONCE:
                _add(moments[layer.target], rows)
    for target, rows in waiting.items():
        _add(moments[target], rows)
    return moments


def _add(moments: Moments, rows: list[tuple[Array, Array]]) -> None:
    """Takes in the rows and empties the list."""
    if rows:
        moments.add(np.concatenate([x for x, _ in rows]), np.concatenate([y for _, y in rows]))
        rows.clear()


def _replace(layer: Layer, moments: Moments | None, sink: Sink) -> None:
    """Writes the sparse weight (and the bias, where there is one) into the layer's initializers."""
    like = layer.like()
    dense = layer.matrix().astype(np.float64)
    order = grouped_order(layer)
    back = np.argsort(order)
    if moments is None or not moments.rows:
        made = by_magnitude(dense[order])
    else:
        sums = moments.centered() if layer.bias is not None else moments
        made = sparsified(sums.xx[np.ix_(order, order)], sums.xy[order], dense[order], RIDGE)
        if layer.bias is not None:
            bias = (moments.y - moments.x[order] @ made) / moments.rows
            layer.bias.CopyFrom(sink.tensor(layer.bias.name, bias.astype(like.dtype)))
    layer.weight.CopyFrom(sink.tensor(layer.weight.name, weight_tensor(layer.node, made[back], like)))


def grouped_order(layer: Layer) -> Array:
    """Inputs in the order of positions of the window, channels within: every four that follow are a group."""
    channels = layer.inputs // layer.window
    return np.arange(layer.inputs).reshape(channels, layer.window).T.reshape(-1)
