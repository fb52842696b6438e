"""Low rank: a layer as two thinner ones in a row, where that takes fewer operations.

X W is replaced by X (W V) Vᵀ, V [m, r] the leading eigenvectors of (XW)ᵀ(XW): of all weights of rank r the
one that minimises ‖X W - X A B‖ on the calibration data. It is the singular value decomposition of W
whitened by the Gram matrix of its inputs, found without forming that matrix. Where the layer has a bias,
outputs are centred first and the bias takes up the rest.

Sources: Zhang, Zou, He, Sun, "Accelerating very deep convolutional networks for classification and
detection" (2015), section 2 (the same for convolutions); Eckart & Young (1936).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper

from planner.errors import VariantError
from planner.variants.context import ALL_BACKENDS, Array, Context, single_feeds
from planner.variants.graph import drop_unused_initializers
from planner.variants.layers import Layer, layers_of
from planner.variants.observe import observed
from planner.variants.preparation import prepare
from planner.variants.pruning.reconstruction import Matrix
from planner.variants.pruning.rows import output_rows, sample, weight_tensor
from planner.variants.session import quiet
from planner.variants.weights import Sink, deliver, skeleton, value

PERCENTS = range(5, 91)
# Ranks that kernels like.
_STEP = 8
_BISECTIONS = 60
# Directions that no calibration sample shows weigh as much as this share of the average one.
_RIDGE = 1e-3
_GRAM_BYTES_AT_ONCE = 1 << 30
# A Gram matrix is as long in the adding for one row as for many.
_ROWS_AT_ONCE = 256


@dataclass(slots=True)
class _Outputs:
    """What a layer gives on the calibration samples: ``rows`` of them, ΣY [m], YᵀY [m, m]."""

    layer: Layer
    rows: int
    total: Matrix
    gram: Matrix
    waiting: list[Matrix] = field(default_factory=list)

    def add(self, values: Array, rng: np.random.Generator) -> None:
        taken = sample(self.layer.node, values, values.size, rng)
        self.waiting.append(output_rows(self.layer.node, values, taken).astype(np.float64))
        if sum(map(len, self.waiting)) >= _ROWS_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Takes in the rows that wait to be enough for a product."""
        if self.waiting:
            rows = np.concatenate(self.waiting)
            self.waiting.clear()
            self.rows += len(rows)
            self.total += rows.sum(0)
            self.gram += rows.T @ rows


@dataclass(frozen=True, slots=True)
class Spectrum:
    """``lost[k]`` is the share of a layer's output that is lost at rank ``ranks[k]``, at ``macs[k]``.

    The last entry is the layer as it is: nothing lost, all operations.
    """

    ranks: tuple[int, ...]
    macs: Matrix
    lost: Matrix


@dataclass(frozen=True, slots=True)
class LowRank:
    """``lowrank-N``: at least N % of the multiply-accumulates of the layers that can be factored go.

    Those layers are MatMul, Gemm and ungrouped Conv with constant weights of their own. Which layer gives how
    much is chosen so that the shares of their outputs that are lost, added up, are least.
    """

    percent: int
    needs_calibration = True
    backends = ALL_BACKENDS
    min_compute_capability = None
    evaluate_unoptimized = False

    @property
    def name(self) -> str:
        return f"lowrank-{self.percent}"

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        assert context.calibration
        with TemporaryDirectory(dir=target.parent) as folder, quiet():
            scratch = Path(folder)
            notes = prepare(source, scratch / "prepared.onnx", external=True)
            proto = skeleton(scratch / "prepared.onnx")
            layers, left = layers_of(proto.graph, scratch)
            feeds = list(single_feeds(context.inputs, context.calibration))
            found = list(_found(proto, layers, feeds, scratch, np.random.default_rng(context.seed)))
            spectra = [f.spectrum for f in found]
            ranks = choose_ranks(spectra, self.percent / 100)
            if ranks is None:
                raise VariantError(f"{self.name}: {_most(spectra)}")
            chosen = {f.layer.target: (f, r) for f, r in zip(found, ranks, strict=True) if r is not None}
            _rewrite(proto.graph, chosen, Sink(scratch / "factors", external=True))
            deliver(proto, scratch, target, source)
        return (*_summary(spectra, ranks), *notes, *_left(left))


def _observe(
    proto: onnx.ModelProto,
    layers: Sequence[Layer],
    feeds: Sequence[Mapping[str, Array]],
    scratch: Path,
    rng: np.random.Generator,
) -> list[_Outputs]:
    seen = [_Outputs(x, 0, np.zeros(x.outputs), np.zeros((x.outputs, x.outputs))) for x in layers]
    for values in observed(proto, [layer.target for layer in layers], feeds, scratch):
        for outputs in seen:
            outputs.add(values[outputs.layer.target], rng)
    for outputs in seen:
        outputs.settle()
    return [o for o in seen if o.rows]


@dataclass(frozen=True, slots=True)
class _Found:
    """A layer's spectrum; ``mean`` [m] of its outputs; ``directions`` [m, m], columns, mapped from a file."""

    layer: Layer
    spectrum: Spectrum
    mean: Matrix
    directions: Matrix


def _found(
    proto: onnx.ModelProto,
    layers: Sequence[Layer],
    feeds: Sequence[Mapping[str, Array]],
    scratch: Path,
    rng: np.random.Generator,
) -> Iterator[_Found]:
    """Layer by layer; so many observed in one run over the data as have room for their Gram matrices."""
    numbers = count()
    for stage in _stages(layers):
        observed_outputs = _observe(proto, stage, feeds, scratch, rng)
        while observed_outputs:
            outputs = observed_outputs.pop(0)
            energies, directions = _eigen(outputs)
            file = scratch / f"directions-{next(numbers)}.npy"
            np.save(file, directions)
            yield _Found(
                outputs.layer,
                _spectrum(outputs, energies),
                outputs.total / outputs.rows,
                np.load(file, mmap_mode="r"),
            )


def _stages(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    stage: list[Layer] = []
    room = _GRAM_BYTES_AT_ONCE
    for layer in layers:
        needed = 8 * layer.outputs**2
        if stage and needed > room:
            yield stage
            stage, room = [], _GRAM_BYTES_AT_ONCE
        stage.append(layer)
        room -= needed
    if stage:
        yield stage


def _eigen(outputs: _Outputs) -> tuple[Matrix, Matrix]:
    """Energies of the directions of a layer's output, largest first, and the directions, as columns."""
    layer, n = outputs.layer, outputs.rows
    gram = outputs.gram / n
    if layer.bias is not None:
        mean = outputs.total / n
        gram = gram - np.outer(mean, mean)
    matrix = layer.matrix().astype(np.float64)
    own = matrix.T @ matrix
    average = np.trace(gram) / max(np.trace(own), np.finfo(np.float64).tiny)
    values, vectors = np.linalg.eigh(gram + _RIDGE * average * own)
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def _spectrum(outputs: _Outputs, energies: Matrix) -> Spectrum:
    d, m = outputs.layer.inputs, outputs.layer.outputs
    ranks = [r for r in range(_STEP, min(d, m), _STEP) if r * (d + m) < d * m]
    rest = 1 - np.cumsum(energies) / max(energies.sum(), np.finfo(np.float64).tiny)
    lost = [max(float(rest[r - 1]), 0.0) for r in ranks]
    macs = [outputs.rows * r * (d + m) for r in ranks]
    full = outputs.rows * d * m
    return Spectrum(tuple(ranks), np.array([*macs, full], float), np.array([*lost, 0.0]))


def choose_ranks(spectra: Sequence[Spectrum], share: float) -> list[int | None] | None:
    """A rank for each layer (None: left whole) so that ``share`` of the operations go; None if it cannot be.

    Minimises Σ lost_l(r_l) subject to Σ macs_l(r_l) ≤ (1 - share) Σ macs_l. For a price λ of an operation
    each layer chooses on its own, argmin lost + λ·macs; the least λ that meets the limit is found by
    bisection (Lagrangian relaxation: optimal among the solutions that some price gives).
    """
    limit = (1 - share) * sum(s.macs[-1] for s in spectra)
    if sum(s.macs.min() for s in spectra) > limit or not spectra:
        return None

    def chosen(price: float) -> list[int]:
        return [int(np.argmin(s.lost + price * s.macs)) for s in spectra]

    def total(choice: Sequence[int]) -> float:
        return float(sum(s.macs[k] for s, k in zip(spectra, choice, strict=True)))

    low, high = 0.0, 1 / min(s.macs.min() for s in spectra)
    while total(chosen(high)) > limit:
        high *= 4
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if total(chosen(middle)) <= limit else (middle, high)
    return [s.ranks[k] if k < len(s.ranks) else None for s, k in zip(spectra, chosen(high), strict=True)]


def _most(spectra: Sequence[Spectrum]) -> str:
    whole = sum(s.macs[-1] for s in spectra)
    if not whole:
        return (
            "no layer to factor: no MatMul, Gemm or ungrouped Conv with constant float32 weights of its own"
        )
    most = 1 - sum(s.macs.min() for s in spectra) / whole
    return f"at most {most:.0%} of the multiply-accumulates can go; ask for less"


@dataclass(frozen=True, slots=True)
class _Factors:
    """weight ≈ first · second, [inputs, r] and [r, outputs]; ``bias`` where the layer has one."""

    first: Matrix
    second: Matrix
    bias: Matrix | None


def _factors(layer: Layer, mean: Matrix, directions: Matrix) -> _Factors:
    """With a bias b and mean output ȳ = x̄W + b: b' = ȳ - (ȳ - b) V Vᵀ."""
    bias = None
    if layer.bias is not None:
        old = value(layer.bias, layer.folder).astype(np.float64)
        bias = mean - (mean - old) @ directions @ directions.T
    return _Factors(layer.matrix().astype(np.float64) @ directions, directions.T, bias)


def _rewrite(graph: onnx.GraphProto, chosen: Mapping[str, tuple[_Found, int]], sink: Sink) -> None:
    """``chosen``: layers and their ranks, by target."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        found, rank = chosen.get(node.output[0], (None, 0)) if node.output else (None, 0)
        if found is None:
            nodes.append(node)
        else:
            factors = _factors(found.layer, found.mean, np.array(found.directions[:, :rank]))
            pair, weights = _pair(found.layer, factors, sink)
            nodes += pair
            graph.initializer.extend(weights)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    drop_unused_initializers(graph)


def _pair(layer: Layer, factors: _Factors, sink: Sink) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The layer's own operator twice; of a convolution the second is 1x1."""
    node, stem = layer.node, layer.target
    like = layer.like()
    names = [f"{stem}/first", f"{stem}/second", f"{stem}/bias"]
    if node.op_type == "Conv":
        rank = factors.first.shape[1]
        first = weight_tensor(node, factors.first, np.empty((rank, *like.shape[1:]), like.dtype))
        second = factors.second.T.reshape(layer.outputs, rank, *[1] * (like.ndim - 2))
        attributes = list(node.attribute)
    else:
        first, second = factors.first, factors.second
        attributes = []
    arrays = [first, second] + ([] if factors.bias is None else [factors.bias])
    weights = [
        sink.tensor(n, np.ascontiguousarray(a, like.dtype)) for a, n in zip(arrays, names, strict=False)
    ]
    inner = f"{stem}/inner"
    before = helper.make_node(node.op_type, [node.input[0], names[0]], [inner], f"{node.name}/first")
    before.attribute.extend(attributes)
    last = [inner, names[1], *([] if factors.bias is None else names[2:])]
    after = helper.make_node(node.op_type, last, [node.output[0]], f"{node.name}/second")
    return [before, after], weights


def _summary(spectra: Sequence[Spectrum], ranks: Sequence[int | None]) -> tuple[str, ...]:
    whole = sum(s.macs[-1] for s in spectra)
    kept = sum(
        s.macs[s.ranks.index(r)] if r is not None else s.macs[-1] for s, r in zip(spectra, ranks, strict=True)
    )
    count = sum(r is not None for r in ranks)
    return (
        f"{count} of {len(ranks)} layers factored: {1 - kept / whole:.0%} of their multiply-accumulates gone",
    )


def _left(left: Counter[str]) -> Iterable[str]:
    return (f"{count} left whole: {reason}" for reason, count in left.items())
