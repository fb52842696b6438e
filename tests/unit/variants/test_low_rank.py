"""Low rank: as few operations as asked, closer than the plain decomposition, ranks as by brute force."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import network_models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.errors import VariantError
from planner.variants import Context, bind, read_model, recipe
from planner.variants.lowrank import Spectrum, choose_ranks


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def linear(path: Path, weight: np.ndarray, bias: np.ndarray | None) -> Path:
    """A MatMul of rows [N, 4, d], or a Gemm of [N, d] where there is a bias."""
    inputs = ["x", "w"] if bias is None else ["x", "w", "b"]
    shape = ["N", 4, len(weight)] if bias is None else ["N", len(weight)]
    tensors = {"w": weight} | ({} if bias is None else {"b": bias})
    graph = helper.make_graph(
        [helper.make_node("MatMul" if bias is None else "Gemm", inputs, ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape[:-1], weight.shape[1]])],
        [numpy_helper.from_array(v, k) for k, v in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("with_bias", [False, True])
def test_activations_make_it_better_than_the_plain_decomposition(tmp_path: Path, with_bias: bool) -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((64, 64)) * np.exp(rng.normal(0, 1, 64))  # some directions matter more

    def draw(count: int) -> np.ndarray:
        rows = rng.standard_normal((4 * count, 64)) @ mixing + (3 if with_bias else 0)
        return rows.astype(np.float32) if with_bias else rows.astype(np.float32).reshape(count, 4, 64)

    weight = rng.standard_normal((64, 96)).astype(np.float32)
    bias = rng.standard_normal(96).astype(np.float32) if with_bias else None
    source = linear(tmp_path / "m.onnx", weight, bias)
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": draw(500)})
    notes = recipe("lowrank-50").apply(source, tmp_path / "out.onnx", used)
    assert notes[0].startswith("1 of 1 layers factored: 5")  # 50 % or a little more
    graph = onnx.load(tmp_path / "out.onnx").graph
    assert len(graph.node) == 2
    rank = min(t.dims[0] for t in graph.initializer if len(t.dims) == 2)
    assert rank * (64 + 96) <= 64 * 96 / 2 and rank % 8 == 0
    x = draw(200)
    expected = run(source, x)
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    plain = x @ ((u[:, :rank] * s[:rank]) @ v[:rank]) + (bias if with_bias else 0)
    off = np.square(run(tmp_path / "out.onnx", x) - expected).sum()
    assert off < 0.7 * np.square(plain - expected).sum()
    # Nothing of that rank can do better on the calibration data: the tail of the spectrum of the outputs.
    seen = run(source, used.calibration["x"]).reshape(-1, 96)
    made = run(tmp_path / "out.onnx", used.calibration["x"]).reshape(-1, 96)
    seen_spread = seen - seen.mean(0) if with_bias else seen
    least = np.square(np.linalg.svd(seen_spread, compute_uv=False)[rank:]).sum()
    assert least * 0.999 <= np.square(made - seen).sum() < least * 1.05


def test_ranks_against_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        spectra = []
        for _ in range(3):
            d, m, rows = rng.integers(3, 7, 3) * 8
            ranks = tuple(r for r in range(8, min(d, m), 8) if r * (d + m) < d * m)
            lost = np.sort(rng.uniform(0, 1, len(ranks)))[::-1]
            macs = [*(rows * r * (d + m) for r in ranks), rows * d * m]
            spectra.append(Spectrum(ranks, np.array(macs, float), np.array([*lost, 0.0])))
        share = rng.uniform(0.05, 0.5)
        limit = (1 - share) * sum(s.macs[-1] for s in spectra)
        choices = [
            (sum(s.lost[k] for s, k in zip(spectra, ks, strict=True)), ks)
            for ks in product(*(range(len(s.macs)) for s in spectra))
            if sum(s.macs[k] for s, k in zip(spectra, ks, strict=True)) <= limit
        ]
        found = choose_ranks(spectra, share)
        if found is None:
            assert not choices
            continue
        ks = [len(s.ranks) if r is None else s.ranks.index(r) for s, r in zip(spectra, found, strict=True)]
        total = sum(s.macs[k] for s, k in zip(spectra, ks, strict=True))
        mine = sum(s.lost[k] for s, k in zip(spectra, ks, strict=True))
        assert total <= limit and mine >= min(choices)[0] - 1e-12
        # Optimal for the operations it takes.
        assert mine <= min(
            lost
            for lost, other in choices
            if sum(s.macs[k] for s, k in zip(spectra, other, strict=True)) <= total
        ) + 1e-9  # fmt: skip


@pytest.mark.parametrize(("kind", "bound"), [("residual", 0.05), ("transformer", 0.15)])
def test_networks(tmp_path: Path, kind: str, bound: float) -> None:
    source = getattr(network_models, kind)(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)

    def draw(count: int) -> np.ndarray:
        if kind == "transformer":
            return rng.integers(0, 100, (count, 12))
        return rng.standard_normal((count, 3, 16, 16)).astype(np.float32)

    used = Context(bind(read_model(source), {"N": "batch"}), {"x": draw(48)})
    notes = recipe("lowrank-25").apply(source, tmp_path / "out.onnx", used)
    gone = int(notes[0].split(": ")[1].split("%")[0])
    assert 25 <= gone < 35
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    x = draw(64)
    expected = run(source, x)
    off = np.sqrt(np.square(run(tmp_path / "out.onnx", x) - expected).mean())
    assert 0 < off < bound * expected.std()
    before, after = onnx.load(source).graph, onnx.load(tmp_path / "out.onnx").graph
    assert (list(before.input), list(before.output)) == (list(after.input), list(after.output))


def test_too_much_is_refused_with_what_can_be_had(tmp_path: Path) -> None:
    source = linear(tmp_path / "m.onnx", np.ones((16, 24), np.float32), None)
    used = Context(bind(read_model(source), {"N": "batch"}), {"x": np.ones((4, 4, 16), np.float32)})
    with pytest.raises(VariantError, match="lowrank-50: at most 17% of the multiply-accumulates can go"):
        recipe("lowrank-50").apply(source, tmp_path / "out.onnx", used)
