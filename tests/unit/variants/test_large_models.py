"""A model of 302 MB of external weights: how much memory recipes take, and what they make of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from planner.variants import Context, bind, read_model, recipe
from planner.variants.dynamic_products import integer_products
from planner.variants.int8_dynamic import _quantized
from planner.variants.session import load_session, session_of
from planner.variants.weights import Sink, skeleton

WIDTH, COUNT = 2048, 18
# Peaks without what Python and its libraries take, which the model's size does not change.
MEMORY = """
import sys
import numpy as np
from pathlib import Path
from planner.variants import Context, bind, make_variant, read_model, recipe
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
name, path, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
model = read_model(path)
samples = np.random.default_rng(1).standard_normal((6, 2048), dtype=np.float32)
context = Context(bind(model, {"N": "batch"}), {"x": samples})
if sys.argv[4] == "apply":
    recipe(name).apply(path, folder / "model.onnx", context)
else:
    make_variant(model, name, context, folder)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "how", "most"),
    [
        # Weight after weight.
        ("int4", "apply", 1 / 3),
        ("bf16", "apply", 1 / 3),
        # With the checks of what was made, in ONNX Runtime.
        ("bf16", "make", 1.5),
        ("int8-dynamic", "make", 1.5),
        ("int8", "make", 3.5),
    ],
)
def test_weights_are_held_no_more_often_than_promised(
    large: tuple[Path, int], tmp_path: Path, name: str, how: str, most: float
) -> None:
    path, size = large
    command = [sys.executable, "-c", MEMORY, name, str(path), str(tmp_path), how]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert taken < most * size


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pruning_holds_weights_no_more_often_than_promised(tmp_path: Path) -> None:
    path, size = chain(tmp_path, WIDTH, 6)
    command = [sys.executable, "-c", MEMORY, "prune-30", str(path), str(tmp_path), "make"]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert taken < 3.5 * size


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    return chain(tmp_path_factory.mktemp("large"), WIDTH, COUNT)


def chain(folder: Path, width: int, count: int) -> tuple[Path, int]:
    """A chain of products with the same weights in as many places of one file, and its size."""
    values = np.random.default_rng(0).standard_normal((width, width), dtype=np.float32)
    block = (values / np.float32(width**0.5)).tobytes()
    with (folder / "weights.bin").open("wb") as file:
        for _ in range(count):
            file.write(block)
    tensors, nodes = [], []
    for i in range(count):
        tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[width, width])
        tensor.data_location = TensorProto.EXTERNAL
        extent = {"location": "weights.bin", "offset": str(i * len(block)), "length": str(len(block))}
        for key, entry in extent.items():
            tensor.external_data.add(key=key, value=entry)
        tensors.append(tensor)
        output = "y" if i == count - 1 else f"h{i}"
        nodes.append(helper.make_node("MatMul", [f"h{i - 1}" if i else "x", f"w{i}"], [output]))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", width]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path, len(block) * count


def test_a_large_model_computes_the_same_where_its_weights_stay_in_the_file(
    large: tuple[Path, int],
) -> None:
    path, _ = large
    x = {"x": np.random.default_rng(2).standard_normal((1, WIDTH), dtype=np.float32)}
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = plain.run(None, x)
    del plain
    for session in (load_session(path), session_of(skeleton(path), path.parent, optimized=False)):
        assert session.run(None, x)[0] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("narrow", [False, True])
def test_products_one_by_one_are_those_of_the_tool(tmp_path: Path, narrow: bool) -> None:
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        values = rng.standard_normal(shape).astype(np.float32) * rng.uniform(0.1, 3, shape[-1])
        return onnx.numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"], "p"),
        helper.make_node("MatMul", ["x", "b"], ["q"], "q"),  # reads what p reads
        helper.make_node("Add", ["p", "q"], ["r"], "r"),
        helper.make_node("Gemm", ["r", "c", "d"], ["s"], "s", transB=1),
        helper.make_node("MatMul", ["s", "a"], ["y"], "y"),  # shares its weight
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 64]) for n in "xy"]
    weights = [weight("a", 64, 64), weight("b", 64, 64), weight("c", 64, 64), weight("d", 64)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    source = tmp_path / "model.onnx"
    onnx.save(model, source)
    tool = _quantized(source, tmp_path / "tool.onnx", narrow)
    integer_products(model, tmp_path, Sink(tmp_path / "own.onnx", external=True), narrow)
    onnx.save(model, tmp_path / "own.onnx")
    x = {"x": rng.standard_normal((9, 64)).astype(np.float32)}
    exact, wanted, made = (
        load_session(tmp_path / f"{name}.onnx").run(None, x)[0] for name in ("model", "tool", "own")
    )
    assert made == pytest.approx(wanted, rel=1e-5, abs=1e-4 * float(np.abs(exact).max()))
    assert 0 < np.abs(made - exact).max() < 0.2 * np.abs(exact).max()
    kinds = [sorted(n.op_type for n in m.graph.node) for m in (model, tool)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize(
    "name", ["int8", "int8-tensorrt", "fp8", "sparse-2:4", "lowrank-30", "prune-30", "int8-dynamic"]
)
def test_what_lies_beside_a_model_lies_beside_its_variant(tmp_path: Path, name: str) -> None:
    """Alone: no file of the search is left, and what is made does not need the source."""
    (tmp_path / "source").mkdir()
    path, _ = chain(tmp_path / "source", 128, 3)
    samples = np.random.default_rng(1).standard_normal((40, 128), dtype=np.float32)
    target = tmp_path / "made" / "model.onnx"
    target.parent.mkdir()
    recipe(name).apply(path, target, Context(bind(read_model(path), {"N": "batch"}), {"x": samples}))
    files = {p.name for p in target.parent.iterdir()}
    expected = {"model.onnx"} if name == "int8-dynamic" else {"model.onnx", "model.onnx.weights"}
    assert files == expected
    path.with_name("weights.bin").unlink()
    assert np.isfinite(load_session(target, optimized=False).run(None, {"x": samples[:1]})[0]).all()
