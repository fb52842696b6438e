"""Engines ordered, built, kept and found again, for real: by TensorRT-RTX ahead of time, with no GPU.

TensorRT-RTX has TensorRT's Python API, so it also stands in for TensorRT where only the builder's side of
that API is asked for.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import network_models
import onnx
import onnx_models
import pytest
from onnx import helper

from planner.backends import backend
from planner.backends.tensorrt import (
    BuildOptions,
    Kept,
    Library,
    Order,
    engine_for,
    import_library,
    mark_measured,
    vouched,
    why_not_ahead,
)
from planner.backends.tensorrt.build import build
from planner.backends.tensorrt.files import sha256
from planner.backends.tensorrt.keep import MANIFEST
from planner.backends.tensorrt.record import record_path
from planner.backends.tensorrt.rtx import known_capabilities
from planner.domain.model import BoundInput
from planner.errors import BackendError
from planner.variants import bind, read_model

pytest.importorskip("tensorrt_rtx")

RTX = "tensorrt-rtx"
AHEAD = BuildOptions(capabilities=("8.9",))
X = BoundInput("x", "float32", (1, 3, 12, 12), 0)


@pytest.fixture
def conv(tmp_path: Path) -> Path:
    return onnx_models.tiny_conv(tmp_path / "conv.onnx")


def order(path: Path, sizes: Sequence[int] = (1, 4, 8), options: BuildOptions = AHEAD) -> Order:
    model = read_model(path)
    return Order(model.sha256, bind(model, {"N": "batch"}), tuple(sizes), options)


def folder_of(kept: Kept) -> Path:
    return kept.engine.parent


def test_an_engine_is_kept_with_all_that_is_known_of_it(conv: Path, tmp_path: Path) -> None:
    kept = engine_for(RTX, conv, order(conv), tmp_path / "engines")
    record = kept.record
    assert not kept.reused
    assert record.status == "built-ahead" and record.place.is_ahead
    assert record.place.library_version == import_library(RTX).version
    assert record.outputs == ("logits",)
    assert kept.engine.stat().st_size == record.size_bytes > 10_000
    assert sha256(kept.engine.read_bytes()) == record.sha256
    assert vouched(folder_of(kept)) == {record.sha256}
    with pytest.raises(ValueError, match="unmeasured"):
        mark_measured(kept.engine)


def test_it_is_reused_only_for_the_same_order(conv: Path, tmp_path: Path) -> None:
    first = engine_for(RTX, conv, order(conv), tmp_path)
    again = engine_for(RTX, conv, order(conv), tmp_path)
    assert again == replace(first, reused=True)
    others = [
        order(conv, (1, 4)),
        order(conv, options=replace(AHEAD, capabilities=("8.6",))),
        order(conv, options=replace(AHEAD, builder_level=1, workspace_bytes=1 << 26)),
        order(conv, options=replace(AHEAD, sparse_weights=True)),
        replace(order(conv), onnx_sha256="0" * 64),
    ]
    built = [engine_for(RTX, conv, other, tmp_path) for other in others]
    assert not any(kept.reused for kept in built)
    assert len({kept.engine for kept in [first, *built]}) == len(others) + 1


@pytest.mark.parametrize("spoil", ["engine", "record", "manifest"])
def test_what_was_spoiled_is_built_again(conv: Path, tmp_path: Path, spoil: str) -> None:
    first = engine_for(RTX, conv, order(conv), tmp_path)
    paths = {"engine": first.engine, "record": record_path(first.engine), "manifest": tmp_path / MANIFEST}
    path = paths[spoil]
    path.write_bytes(path.read_bytes()[:-20])
    assert not engine_for(RTX, conv, order(conv), tmp_path).reused
    assert engine_for(RTX, conv, order(conv), tmp_path).reused


def test_processes_that_build_the_same_engine_do_not_disturb_each_other(conv: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from planner.backends.tensorrt import BuildOptions, Order, engine_for\n"
        "from planner.domain.model import BoundInput\n"
        "order = Order('0' * 64, (BoundInput('x', 'float32', (1, 3, 12, 12), 0),), (1, 4),"
        " BuildOptions(capabilities=('8.9',)))\n"
        "engine_for('tensorrt-rtx', Path(sys.argv[1]), order, Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", code, str(conv), str(tmp_path / "engines")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    wanted = Order("0" * 64, (X,), (1, 4), AHEAD)
    assert engine_for(RTX, conv, wanted, tmp_path / "engines").reused
    assert not [p for p in (tmp_path / "engines").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("sizes", [(1,), (8,), (1, 2, 4, 8, 16, 32)])
def test_any_set_of_batch_sizes_builds(conv: Path, sizes: tuple[int, ...]) -> None:
    assert build(import_library(RTX), conv, order(conv, sizes), ("8.9",)).plan


def test_one_engine_for_several_capabilities_is_larger(conv: Path) -> None:
    one, two = (
        len(build(import_library(RTX), conv, order(conv), c).plan) for c in (("8.9",), ("8.9", "12.0"))
    )
    assert two > one


def test_every_capability_it_knows_is_accepted(tmp_path: Path) -> None:
    """In float16, as SM 7.5 takes no product of float32."""
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, ["N", 8]) for name in "xy"]
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    known = known_capabilities(import_library(RTX))
    assert {"7.5", "8.0", "8.6", "8.9", "12.0"} <= set(known)
    for capability in known:
        assert why_not_ahead(import_library(RTX), capability) is None
        assert build(import_library(RTX), path, order(path), (capability,)).plan


def test_external_data_are_read_from_beside_the_model(tmp_path: Path) -> None:
    source = network_models.residual(tmp_path / "residual.onnx")
    whole = build(import_library(RTX), source, order(source), ("8.9",))
    split = tmp_path / "split" / "split.onnx"
    split.parent.mkdir()
    onnx.save(onnx.load(source), split, save_as_external_data=True, location="weights.bin", size_threshold=64)
    assert len(build(import_library(RTX), split, order(split), ("8.9",)).plan) == pytest.approx(
        len(whole.plan), rel=0.05
    )
    wanted = order(split)
    (split.parent / "weights.bin").unlink()
    with pytest.raises(BackendError, match=r"split\.onnx: tensorrt-rtx cannot parse it: .*initializer"):
        build(import_library(RTX), split, wanted, ("8.9",))


def test_dimensions_that_are_bound_to_a_size_are_fixed(tmp_path: Path) -> None:
    path = onnx_models.two_dynamic_dimensions(tmp_path / "m.onnx")
    model = read_model(path)
    bound = bind(model, {"N": "batch", "length": 7})
    assert build(import_library(RTX), path, Order(model.sha256, bound, (1, 8)), ("8.9",)).plan


def test_a_model_without_a_batch_axis_builds(tmp_path: Path, conv: Path) -> None:
    model = onnx.load(conv)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    fixed = tmp_path / "fixed.onnx"
    onnx.save(model, fixed)
    x = BoundInput("x", "float32", (2, 3, 12, 12), None)
    assert build(import_library(RTX), fixed, Order("", (x,), (1,)), ("8.9",)).plan


def failure(path: Path, wanted: Order, *, options: Sequence[str] = ("8.9",)) -> str:
    with pytest.raises(BackendError) as caught:
        build(import_library(RTX), path, wanted, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_operator_it_does_not_know_is_named_with_its_node(conv: Path, tmp_path: Path) -> None:
    model = onnx.load(conv)
    model.graph.node[2].op_type, model.graph.node[2].domain = "Mystery", "my.own"
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    onnx.save(model, tmp_path / "m.onnx")
    assert failure(tmp_path / "m.onnx", Order("", (X,), (1, 4))).startswith(
        "m.onnx: tensorrt-rtx cannot parse node 'conv2' (Mystery): "
    )


def test_a_layer_that_the_builder_refuses_is_one_line(conv: Path) -> None:
    reason = failure(conv, order(conv), options=("7.5",))
    assert reason.startswith("conv.onnx: tensorrt-rtx builds no engine: ")
    assert "FP32 GEMM is not supported" in reason


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"xx")
    assert failure(path, Order("", (X,), (1,))) == (
        "m.onnx: tensorrt-rtx finds no graph in it; is it an ONNX file?"
    )
    path.unlink()
    assert "cannot be found" in failure(path, Order("", (X,), (1,)))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (BoundInput("z", "float32", (1, 3, 12, 12), 0), "its inputs are x; shapes were given for z"),
        (
            BoundInput("x", "float32", (1, 4, 12, 12), 0),
            "input x is [?, 3, 12, 12], [4, 4, 12, 12]",
        ),
        (BoundInput("x", "float32", (1, 3, 12), 0), "input x is [?, 3, 12, 12], [4, 3, 12]"),
    ],
)
def test_shapes_that_the_graph_does_not_take_are_refused(conv: Path, given: BoundInput, reason: str) -> None:
    assert reason in failure(conv, Order("", (given,), (4,)))


@pytest.mark.parametrize("capability", ["7.0", "9.0", "10.0"])
def test_where_no_engine_can_be_built_ahead_there_is_the_command(
    conv: Path, tmp_path: Path, capability: str
) -> None:
    options = BuildOptions(capabilities=("8.9", capability), sparse_weights=True)
    with pytest.raises(BackendError) as caught:
        engine_for(RTX, conv, order(conv, (1, 8), options), tmp_path / "engines")
    message = str(caught.value)
    assert f"compute capability {capability}" in message and "\n" not in message
    assert "trtexec --onnx=conv.onnx --saveEngine=conv.engine --stronglyTyped" in message
    assert "--sparsity=enable" in message and "--maxShapes=x:8x3x12x12" in message
    assert ("TensorRT 10.4" in message) == (capability == "7.0")
    assert not (tmp_path / "engines").exists()


def test_without_a_gpu_an_engine_for_the_gpu_at_hand_is_an_error(conv: Path, tmp_path: Path) -> None:
    if backend(RTX).missing() is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendError, match="CUDA failed using device 0"):
        engine_for(RTX, conv, order(conv, options=BuildOptions()), tmp_path)
    kept = engine_for(RTX, conv, order(conv), tmp_path)
    with pytest.raises(BackendError, match="CUDA failed using device 0"), backend(RTX).load(kept.engine, 1):
        pass


@pytest.fixture
def standard() -> Library:
    """What the code does with TensorRT, done to TensorRT-RTX: no capabilities, but a timing cache."""
    return replace(import_library(RTX), name="tensorrt", timing_cache=True)


def test_the_standard_path_builds_with_a_timing_cache(conv: Path, tmp_path: Path, standard: Library) -> None:
    cache = tmp_path / "profiles" / "timing.cache"
    with warnings.catch_warnings():
        # TensorRT-RTX takes the calls and has no use for them.
        warnings.filterwarnings("ignore", "Use Deprecated in TensorRT-RTX", DeprecationWarning)
        plans = [build(standard, conv, order(conv), (), cache).plan for _ in range(2)]
    assert all(plans)
    assert cache.stat().st_size > 0
    assert [p.name for p in cache.parent.iterdir()] == ["timing.cache"]
    assert build(standard, conv, order(conv)).plan


def test_a_library_without_the_flag_for_strong_types_builds_too(conv: Path, standard: Library) -> None:
    """TensorRT 11 has no other kind of network and may drop the flag."""

    class Without:
        class NetworkDefinitionCreationFlag: ...

        def __getattr__(self, name: str) -> object:
            return getattr(standard.trt, name)

    assert build(replace(standard, trt=Without()), conv, order(conv)).plan


def test_a_builder_that_cannot_be_made_says_that_it_needs_a_gpu(conv: Path, standard: Library) -> None:
    class Without:
        def __getattr__(self, name: str) -> object:
            return getattr(standard.trt, name)

        def Builder(self, log: object) -> None:
            log.log(standard.trt.ILogger.ERROR, "CUDA initialization failure\nwith error: 35")  # type: ignore
            raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(BackendError) as caught:
        build(replace(standard, trt=Without()), conv, order(conv))
    assert str(caught.value) == (
        "tensorrt cannot build here: CUDA initialization failure with error: 35; "
        "it needs an NVIDIA GPU and its driver, tensorrt-rtx builds without them"
    )


def test_building_does_not_change_the_model(conv: Path, tmp_path: Path) -> None:
    before = conv.read_bytes()
    engine_for(RTX, conv, order(conv), tmp_path / "engines")
    assert conv.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conv.onnx", "engines"]
