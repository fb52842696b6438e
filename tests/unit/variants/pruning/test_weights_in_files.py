"""A model whose weights lie in files is pruned as the same model in memory is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.domain.model import BoundInput
from planner.variants import Context
from planner.variants import prune as recipes
from planner.variants.prune import Prune
from planner.variants.pruning import prune
from planner.variants.pruning.graph import index
from planner.variants.pruning.store import Store
from planner.variants.weights import is_external, skeleton

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 8, 6, 6)).astype(np.float32)


def net() -> onnx.ModelProto:
    """Two convolutions, one normalized, one grouped; a product with a turned weight and one without."""
    shapes = {
        "c1": (48, 8, 3, 3),
        "c2": (48, 24, 3, 3),
        "turned": (64, 48),
        "w": (64, 32),
        "scale": (48,),
        "shift": (48,),
        "mean": (48,),
    }
    arrays = {n: (RNG.normal(size=s) / max(s[-1], 9) ** 0.5).astype(np.float32) for n, s in shapes.items()}
    arrays["variance"] = np.ones(48, np.float32)
    wide = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(arrays.pop("w"), "k"))
    nodes = [
        wide,
        helper.make_node("Conv", ["x", "c1"], ["a"], "first"),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"], "norm"),
        helper.make_node("Relu", ["b"], ["r"]),
        helper.make_node("Conv", ["r", "c2"], ["d"], "grouped", group=2),
        helper.make_node("GlobalAveragePool", ["d"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Transpose", ["turned"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["f", "t"], ["h"], "hidden"),
        helper.make_node("Relu", ["h"], ["s"]),
        helper.make_node("MatMul", ["s", "k"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_files(model: onnx.ModelProto, folder: Path) -> Path:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    path = folder / "model.onnx"
    onnx.save(
        copy, path, save_as_external_data=True, location="w.bin", size_threshold=0, convert_attribute=True
    )
    return path


def values(model: onnx.ModelProto, folder: Path) -> dict[str, np.ndarray]:
    onnx.load_external_data_for_model(model, str(folder))
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [48, 5])
def test_weights_in_files_are_cut_and_refitted_as_those_in_memory(tmp_path: Path, count: int) -> None:
    model = net()
    whole = prune(model, 0.4, {"x": X[:count]})
    split = prune(skeleton(in_files(model, tmp_path)), 0.4, {"x": X[:count]}, folder=tmp_path)
    assert whole.removed == split.removed and whole.removed
    assert whole.notes == split.notes
    assert [n.op_type for n in whole.model.graph.node] == [n.op_type for n in split.model.graph.node]
    large = [t for t in split.model.graph.initializer if np.prod(t.dims) > 1024]
    assert large and all(is_external(t) for t in large)
    same(values(whole.model, tmp_path), values(split.model, tmp_path))


@pytest.mark.parametrize("external", [True, False])
def test_a_recipe_gives_weights_back_as_it_got_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool
) -> None:
    """Pruned in files: a model that came so, and one file too large for copies in memory."""
    model = net()
    (tmp_path / "made").mkdir()
    source, target = tmp_path / "one.onnx", tmp_path / "made" / "model.onnx"
    if external:
        source = in_files(model, tmp_path)
    else:
        onnx.save(model, source)
        monkeypatch.setattr(recipes, "_IN_MEMORY_BYTES", 1)
    context = Context((BoundInput("x", "float32", (1, 8, 6, 6), 0),), {"x": X})
    Prune(40).apply(source, target, context)
    files = {"model.onnx", "model.onnx.weights"} if external else {"model.onnx"}
    assert {p.name for p in target.parent.iterdir()} == files
    made = onnx.load(target, load_external_data=False)
    same(values(prune(model, 0.4, {"x": X}).model, tmp_path), values(made, target.parent))


def test_constants_are_read_where_they_lie_each_time(tmp_path: Path) -> None:
    model = net()
    graph = index(skeleton(in_files(model, tmp_path)), Store(tmp_path))
    assert graph.shapes["g"] == ("batch", 48, 1, 1)
    assert "c1" in graph.constants and "x" not in graph.constants
    first = graph.constants["c1"]
    np.testing.assert_array_equal(first, index(model).constants["c1"])
    assert graph.constants["c1"] is not first
