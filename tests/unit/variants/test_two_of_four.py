"""2:4 sparsity: the pattern where tensor cores want it, and outputs closer than by the largest weights."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import network_models
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from planner.errors import VariantError
from planner.variants import Context, bind, read_model, recipe
from planner.variants.layers import layers_of
from planner.variants.two_of_four import by_magnitude, sparsified


def correlated(rng: np.random.Generator, rows: int, inputs: int) -> np.ndarray:
    return rng.standard_normal((rows, inputs)) @ rng.standard_normal((inputs, inputs))


def error(x: np.ndarray, weight: np.ndarray, made: np.ndarray) -> float:
    return float(np.square(x @ (made - weight)).sum())


def holds(matrix: np.ndarray) -> bool:
    return bool(((matrix.reshape(-1, 4, matrix.shape[1]) != 0).sum(1) <= 2).all())


@settings(max_examples=15, deadline=None)
@given(groups=st.integers(1, 20), outputs=st.integers(1, 12), seed=st.integers(0, 1000))
def test_the_pattern_holds_and_outputs_are_nearer_than_by_magnitude(groups, outputs, seed) -> None:
    rng = np.random.default_rng(seed)
    x, weight = correlated(rng, 300, 4 * groups), rng.standard_normal((4 * groups, outputs))
    made = sparsified(x.T @ x, x.T @ x @ weight, weight, 1e-4)
    assert holds(made) and holds(by_magnitude(weight))
    assert error(x, weight, made) <= error(x, weight, by_magnitude(weight)) * 1.001


def test_it_comes_close_to_the_best_of_all_patterns() -> None:
    """Oracle: least squares for each of the 6^3 patterns of 12 inputs."""
    pairs = list(combinations(range(4), 2))
    ratios = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, weight = correlated(rng, 100, 12), rng.standard_normal((12, 1))
        made = sparsified(x.T @ x, x.T @ x @ weight, weight, 1e-9)
        best = np.inf
        for choice in product(pairs, repeat=3):
            kept = [4 * group + i for group, pair in enumerate(choice) for i in pair]
            fitted = np.zeros_like(weight)
            fitted[kept] = np.linalg.lstsq(x[:, kept], x @ weight, rcond=None)[0]
            best = min(best, error(x, weight, fitted))
        ratios.append(error(x, weight, made) / best)
    assert min(ratios) > 1 - 1e-6 and np.median(ratios) < 1.5


def test_a_weight_that_is_sparse_already_stays() -> None:
    rng = np.random.default_rng(0)
    x, weight = correlated(rng, 200, 32), by_magnitude(rng.standard_normal((32, 8)))
    made = sparsified(x.T @ x, x.T @ x @ weight, weight, 1e-6)
    assert made == pytest.approx(weight, abs=1e-4)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((100, 16)), rng.standard_normal((16, 4))
    x[:, ::3] = 0
    made = sparsified(x.T @ x, x.T @ x @ weight, weight, 1e-2)
    assert np.isfinite(made).all() and holds(made)
    nothing = sparsified(np.zeros((16, 16)), np.zeros((16, 4)), weight, 1e-2)
    assert nothing == pytest.approx(by_magnitude(weight))


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def samples(kind: str, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "transformer":
        return rng.integers(0, 100, (count, 12))
    return rng.standard_normal((count, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize(("kind", "count", "left"), [("residual", 3, 3), ("transformer", 12, 5)])
def test_networks(tmp_path: Path, kind: str, count: int, left: int) -> None:
    source = getattr(network_models, kind)(tmp_path / "m.onnx")
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": samples(kind, 24, 0)})
    made = tmp_path / "out.onnx"
    notes = recipe("sparse-2:4").apply(source, made, used)
    assert notes[0] == f"{count} of {count + left} layers 2:4 sparse"
    assert sum(int(note.split()[0]) for note in notes[1:] if "left dense" in note) == left
    proto = onnx.load(made)
    sparse = 0
    for layer in layers_of(proto.graph, tmp_path)[0]:
        weight = numpy_helper.to_array(layer.weight)
        # As TensorRT checks: four input channels in a row, for each output and each pixel of the kernel.
        lanes = np.moveaxis(weight, 1, -1) if layer.node.op_type == "Conv" else layer.matrix().T
        if lanes.shape[-1] % 4 == 0:
            sparse += bool(((lanes.reshape(-1, 4) != 0).sum(1) <= 2).all())
    assert sparse == count
    x = samples(kind, 64, 1)
    expected = run(source, x)
    off = np.square(run(made, x) - expected).mean()
    assert off < 0.6 * np.square(run(cut_by_magnitude(proto, source, tmp_path), x) - expected).mean()
    before = onnx.load(source).graph
    assert (list(before.input), list(before.output)) == (list(proto.graph.input), list(proto.graph.output))


def cut_by_magnitude(sparse: onnx.ModelProto, source: Path, folder: Path) -> Path:
    """The network with the same layers sparse, each by its largest weights."""
    from planner.variants.preparation import prepare
    from planner.variants.sparse import _replace
    from planner.variants.weights import Sink

    prepare(source, folder / "prepared.onnx")
    proto = onnx.load(folder / "prepared.onnx")
    chosen = {
        layer.target for layer in layers_of(sparse.graph, folder)[0] if (layer.matrix() == 0).mean() > 0.4
    }
    for layer in layers_of(proto.graph, folder)[0]:
        if layer.target in chosen:
            _replace(layer, None, Sink(folder / "magnitude", external=False))
    onnx.save(proto, folder / "magnitude.onnx")
    return folder / "magnitude.onnx"


def test_nothing_to_make_sparse_is_said(tmp_path: Path) -> None:
    source = network_models.residual(tmp_path / "m.onnx", channels=16)
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": samples("residual", 2, 0)})
    with pytest.raises(VariantError, match="sparse-2:4: no layer to make sparse"):
        recipe("sparse-2:4").apply(source, tmp_path / "out.onnx", used)
