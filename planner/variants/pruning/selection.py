"""Chooses the units to remove, from weights and from what flows through the unpruned graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from planner.variants.portions import portions
from planner.variants.pruning.activations import Feed, batches
from planner.variants.pruning.groups import Group
from planner.variants.pruning.importance import Reader, Rows, least_by_activation, least_by_magnitude
from planner.variants.pruning.labels import Labels
from planner.variants.pruning.reconstruction import Matrix, few
from planner.variants.pruning.rows import input_rows, sample, token_mask, weight_matrix, window_of
from planner.variants.pruning.shapes import Array
from planner.variants.pruning.tracing import Layer, Trace

WIDEST_GRAM = 6144
"""Layers with more inputs than this are scored by energies alone; their Gram matrix would not fit."""

_GRAM_BYTES_AT_ONCE = 1 << 30
_FEWEST_ROWS = 8192
_GRAM_OPERATIONS = 200_000_000_000


def rows_for(inputs: int) -> int:
    """How many calibration rows to use for a layer: 16 an input, unless that costs too much arithmetic."""
    width = min(inputs, WIDEST_GRAM)
    return max(_FEWEST_ROWS, min(16 * width, _GRAM_OPERATIONS // width**2))


def choose(
    t: Trace, counts: Mapping[Group, int], importance: str, fed: Sequence[Feed], rng: np.random.Generator
) -> set[int]:
    """Units to remove: of each group the ``counts`` that lose least."""
    removed: set[int] = set()
    scored = {g: n for g, n in counts.items() if g.read_by and importance == "activation"}
    for group, count in counts.items():
        if group not in scored:
            least = least_by_magnitude([_norms(t, group, layer) for layer in group.made_by], count)
            removed.update(group.units[k] for k in least)
    for group, readers in _readers(t, list(scored), fed, rng):
        removed.update(group.units[k] for k in least_by_activation(readers, len(group.units), scored[group]))
    return removed


def _norms(t: Trace, group: Group, layer: Layer) -> Matrix:
    """Norm of the weights by which ``layer`` makes each unit; 0 for units that it does not make."""
    weight = t.graph.constants[layer.weight].astype(np.float64)
    axis = maker_axis(t, layer)
    energy = np.square(weight).sum(tuple(a for a in range(weight.ndim) if a != axis))
    on = _units_on(t, layer.weight, axis)
    return np.asarray(np.sqrt([energy[on == unit].sum() for unit in group.units]))


def maker_axis(t: Trace, layer: Layer) -> int:
    """The axis of the weight that carries the output channels (for a grouped ConvTranspose, its groups)."""
    node = t.graph.nodes[layer.node]
    if node.op_type == "ConvTranspose":
        return 0 if layer.groups > 1 else 1
    if node.op_type == "Conv":
        return 0
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if turned else 1


def _units_on(t: Trace, tensor: str, axis: int) -> Labels:
    labels = t.axes[tensor][axis]
    assert labels is not None
    return t.atoms.units()[labels]


def _readers(
    t: Trace, chosen: Sequence[Group], fed: Sequence[Feed], rng: np.random.Generator
) -> Iterator[tuple[Group, list[Reader]]]:
    """Groups with their readers; Gram matrices are gathered for as many groups at once as memory allows."""

    def gram_bytes(group: Group) -> int:
        return sum(8 * min(_width(t, layer), WIDEST_GRAM) ** 2 for layer in group.read_by)

    for some in portions(chosen, gram_bytes, _GRAM_BYTES_AT_ONCE):
        layers = {layer.node: layer for group in some for layer in group.read_by}
        grams = _grams(t, list(layers.values()), fed, rng)
        for group in some:
            yield group, [_reader(t, group, layer, grams[layer.node]) for layer in group.read_by]


def _matrix(t: Trace, layer: Layer) -> Matrix:
    return weight_matrix(t.graph.nodes[layer.node], t.graph.constants[layer.weight]).astype(np.float64)


def _width(t: Trace, layer: Layer) -> int:
    return len(weight_matrix(t.graph.nodes[layer.node], t.graph.constants[layer.weight]))


def _reader(t: Trace, group: Group, layer: Layer, gram: Matrix | Rows) -> Reader:
    on = np.repeat(
        _units_on(t, layer.source, layer.source_axis),
        window_of(t.graph.nodes[layer.node], t.graph.constants[layer.weight]),
    )
    blocks = np.stack([np.flatnonzero(on == unit) for unit in group.units])
    return Reader(gram, _matrix(t, layer), blocks)


def _grams(
    t: Trace, layers: Sequence[Layer], fed: Sequence[Feed], rng: np.random.Generator
) -> dict[int, Matrix | Rows]:
    """Centred XᵀX of each layer's inputs as a ``Reader`` wants it, by node."""
    sums = {layer.node: _Sums(_width(t, layer)) for layer in layers}
    tensors = [name for layer in layers for name in (layer.source, t.graph.nodes[layer.node].output[0])]
    mask = token_mask(t.graph)
    for values in batches(t.graph, [*tensors, mask] if mask else tensors, fed):
        for layer in layers:
            node, weight = t.graph.nodes[layer.node], t.graph.constants[layer.weight]
            quota = -(-rows_for(sums[layer.node].inputs) // len(fed))
            taken = sample(node, values[node.output[0]], quota, rng, values.get(mask or ""))
            sums[layer.node].add(input_rows(node, values[layer.source], weight, taken))
    return {node: sums.pop(node).centred() for node in list(sums)}


class _Sums:
    """ΣX and XᵀX, or only its diagonal; as long as rows are few, these themselves."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self._rows, self._x = 0, np.zeros(inputs)
        self._xx = np.zeros(inputs if inputs > WIDEST_GRAM else (inputs, inputs))
        self._few: list[Matrix] = []

    def add(self, rows: Array) -> None:
        x = rows.astype(np.float64)
        self._rows += len(x)
        self._x += x.sum(0)
        self._few.append(x)
        if self._xx.ndim == 1 or not few(self._rows, self.inputs):
            while self._few:
                self._sum(self._few.pop(0))

    def _sum(self, x: Matrix) -> None:
        self._xx += (x * x).sum(0) if self._xx.ndim == 1 else x.T @ x

    def centred(self) -> Matrix | Rows:
        if self._few:
            return Rows(np.concatenate(self._few) - self._x / self._rows)
        square = self._x * self._x if self._xx.ndim == 1 else np.outer(self._x, self._x)
        return np.asarray(self._xx - square / max(self._rows, 1))
