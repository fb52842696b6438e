"""TensorRT and TensorRT-RTX on a real GPU: built, run, compared with ONNX Runtime, timed.

``pytest -m gpu``, with one of them installed; the other is skipped. Without a GPU it fails: who asks for this
suite wants to know that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import network_models
import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from planner.backends import backend
from planner.backends.tensorrt import (
    BuildOptions,
    Kept,
    Order,
    TensorRt,
    TensorRtSession,
    engine_for,
    import_library,
    mark_measured,
    read_record,
    timed_together,
    why_not_ahead,
)
from planner.backends.tensorrt.cudart import cuda
from planner.backends.tensorrt.record import record_path
from planner.errors import BackendError, MissingDependencyError
from planner.variants import Context, bind, read_model, recipe

pytestmark = pytest.mark.gpu

SIZES = (1, 4, 8)
MIB = 1024**2
DEFAULT = BuildOptions()

# The largest difference from ONNX Runtime on the same graph, as a share of the largest output. TensorRT
# multiplies float32 as TF32 (10 bits of mantissa); quantized graphs may round the other way at a tie.
TOLERANCE = {
    "fp32": 0.01,
    "fp16": 0.02,
    "bf16": 0.05,
    "int8-tensorrt": 0.08,
    "int8-tensorrt+fp16": 0.08,
    "fp8": 0.12,
    "sparse-2:4": 0.01,
    "prune-30": 0.01,
    "lowrank-25": 0.01,
}


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def tensorrt(request: pytest.FixtureRequest) -> TensorRt:
    made = backend(request.param)
    assert isinstance(made, TensorRt)
    try:
        lib = import_library(made.name)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert made.missing() is None, made.missing()
    if lib.is_rtx and (reason := why_not_ahead(lib, cuda().compute_capability())):
        pytest.skip(reason)
    return made


def order(path: Path, sizes: tuple[int, ...] = SIZES, options: BuildOptions = DEFAULT) -> Order:
    model = read_model(path)
    return Order(model.sha256, bind(model, {"N": "batch"}), sizes, options)


def images(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((count, 3, 16, 16)).astype(np.float32)}


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network_models.residual(tmp_path_factory.mktemp("residual") / "residual.onnx")


@pytest.fixture(scope="module")
def kept(tensorrt: TensorRt, residual: Path, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return engine_for(tensorrt.name, residual, order(residual), tmp_path_factory.mktemp("engines"))


@pytest.fixture
def session(tensorrt: TensorRt, kept: Kept) -> Iterator[TensorRtSession]:
    with tensorrt.load(kept.engine, 1, instances=2) as loaded:
        yield loaded


def reference(path: Path, feed: dict[str, np.ndarray], optimized: bool = True) -> list[np.ndarray]:
    with backend("onnxruntime").load(path, 1, optimized) as onnxruntime:
        return onnxruntime.infer(feed)


def assert_close(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> None:
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        assert f.shape == w.shape and f.dtype == w.dtype
        difference = np.abs(f.astype(np.float64) - w.astype(np.float64)).max()
        assert difference <= tolerance * np.abs(w.astype(np.float64)).max()


def test_every_batch_size_up_to_the_largest_agrees_with_onnxruntime(
    session: TensorRtSession, residual: Path
) -> None:
    for count in range(1, SIZES[-1] + 1):
        feed = images(count, count)
        assert_close(session.infer(feed), reference(residual, feed), TOLERANCE["fp32"])
    with pytest.raises(BackendError, match="built for batches up to 8, got 9"):
        session.infer(images(9))


@pytest.mark.parametrize("name", TOLERANCE)
@pytest.mark.parametrize("kind", ["residual", "transformer"])
def test_every_variant_agrees_with_onnxruntime(
    tensorrt: TensorRt, tmp_path: Path, kind: str, name: str
) -> None:
    chosen = recipe(name)
    here = tuple(int(part) for part in cuda().compute_capability().split("."))
    if chosen.min_compute_capability is not None and here < chosen.min_compute_capability:
        pytest.skip(f"{name} needs compute capability {chosen.min_compute_capability}")
    source, samples = tmp_path / "source.onnx", images(16)["x"]
    if kind == "residual":
        network_models.residual(source)
    else:
        network_models.transformer(source, layers=1)
        samples = np.random.default_rng(0).integers(0, 100, (16, 12))
    variant = tmp_path / "variant.onnx"
    chosen.apply(source, variant, Context(bind(read_model(source), {"N": "batch"}), {"x": samples}))
    wanted = order(variant, options=BuildOptions(sparse_weights="sparse" in name))
    kept = engine_for(tensorrt.name, variant, wanted, tmp_path / "engines")
    feed = {"x": samples[:4]}
    with tensorrt.load(kept.engine, 1) as loaded:
        found = loaded.infer(feed)
    # ONNX Runtime's CPU has no kernels for bfloat16.
    judged = source if name == "bf16" else variant
    assert_close(found, reference(judged, feed, not chosen.evaluate_unoptimized), TOLERANCE[name])


def test_with_and_without_cuda_graphs_the_outputs_are_the_same(tensorrt: TensorRt, kept: Kept) -> None:
    outputs = []
    for graphs in (True, False):
        with tensorrt.load(kept.engine, 1, graphs=graphs) as loaded:
            loaded.infer(images(4, 1))
            outputs.append(loaded.infer(images(4, 2)))
            assert loaded.notes == (), "this network can be captured"
    assert_close(outputs[0], outputs[1], 1e-6)


def test_event_times_lie_within_the_wall_clocks(session: TensorRtSession) -> None:
    feed = images(8)
    for _ in range(50):
        session.timed(feed)
    timings, walls = [], []
    for _ in range(300):
        start = perf_counter_ns()
        timings.append(session.timed(feed))
        walls.append(perf_counter_ns() - start)
    # CUDA rounds event times to about half a microsecond.
    assert all(0 < t.compute_ns <= t.with_transfer_ns + 1_000 for t in timings)
    assert all(t.with_transfer_ns <= wall + 1_000 for t, wall in zip(timings, walls, strict=True))
    compute, transfer = (median(getattr(t, f) for t in timings) for f in ("compute_ns", "with_transfer_ns"))
    print(f"compute {compute / 1e3:.1f} us, with transfers {transfer / 1e3:.1f} us, "
          f"wall {median(walls) / 1e3:.1f} us")  # fmt: skip


def test_a_larger_batch_takes_longer_but_not_in_proportion(tensorrt: TensorRt, tmp_path: Path) -> None:
    """Events see the device's work: a thousand times the arithmetic has to show, and that batching pays."""
    path = onnx_models.mlp(tmp_path / "mlp.onnx").model
    kept = engine_for(tensorrt.name, path, order(path, (1, 1024)), tmp_path / "engines")
    times = {}
    with tensorrt.load(kept.engine, 1) as loaded:
        for size in (1, 1024):
            feed = {"x": np.zeros((size, 1024), np.float32)}
            times[size] = median(loaded.timed(feed).compute_ns for _ in range(100))
    assert times[1] < times[1024] < 1024 * times[1]


def test_two_contexts_run_side_by_side(session: TensorRtSession, residual: Path) -> None:
    feeds = [images(8, 1), images(4, 2)]
    wanted = [reference(residual, feed) for feed in feeds]

    def run(index: int) -> list[list[np.ndarray]]:
        session.use_device()
        return [session.instances[index].infer(feeds[index]) for _ in range(200)]

    for index in (0, 1):
        session.instances[index].infer(feeds[index])
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, (0, 1)))
    for index in (0, 1):
        for outputs in found[index]:
            assert_close(outputs, wanted[index], TOLERANCE["fp32"])
    timings = timed_together(session, feeds[0], 200)
    assert [len(t) for t in timings] == [200, 200]


def test_device_memory_is_counted_and_given_back(tensorrt: TensorRt, kept: Kept) -> None:
    card = cuda()
    with tensorrt.load(kept.engine, 1) as loaded:  # CUDA keeps some memory from the first engine on
        loaded.infer(images(8))
        assert loaded.device_bytes() > 0
    before = card.free_bytes()
    for _ in range(5):
        with tensorrt.load(kept.engine, 1, instances=4) as loaded:
            for instance in loaded.instances:
                instance.infer(images(8))
    assert card.free_bytes() >= before - 64 * MIB


def test_out_of_memory_is_an_error_after_which_engines_run(tensorrt: TensorRt, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", MIB]) for name in "xy"]
    path = tmp_path / "relu.onnx"
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    kept = engine_for(tensorrt.name, path, order(path, (1, 256)), tmp_path / "engines")
    card = cuda()
    taken: list[int] = []
    try:
        while card.free_bytes() > 1024 * MIB:
            taken.append(card.allocate(max(card.free_bytes() - 1024 * MIB, MIB)))
        with tensorrt.load(kept.engine, 1) as loaded:
            with pytest.raises(BackendError) as caught:  # two buffers of 1 GiB
                loaded.infer({"x": np.zeros((256, MIB), np.float32)})
            assert "\n" not in str(caught.value)
            (y,) = loaded.infer({"x": np.full((1, MIB), 2, np.float32)})
            assert (y == 2).all()
    finally:
        for address in taken:
            card.free(address)


def test_engines_are_reused_and_refused_as_their_records_say(
    tensorrt: TensorRt, residual: Path, tmp_path: Path
) -> None:
    first = engine_for(tensorrt.name, residual, order(residual, (1,)), tmp_path)
    assert first.record.status == "built" and not first.reused
    assert first.record.place.device and first.record.place.driver and first.record.place.compute_capability
    if tensorrt.name == "tensorrt":
        assert list(tmp_path.glob("timing-*.cache"))
    mark_measured(first.engine)
    again = engine_for(tensorrt.name, residual, order(residual, (1,)), tmp_path)
    assert again.reused and again.engine == first.engine and again.record.status == "measured"
    assert read_record(first.engine) == again.record
    record_path(first.engine).write_text(
        record_path(first.engine).read_text().replace(again.record.place.driver, "0.0")
    )
    with pytest.raises(BackendError, match=r"driver 0\.0 there"), tensorrt.load(first.engine, 1):
        pass
    first.engine.write_bytes(first.engine.read_bytes() + b"\0")
    with pytest.raises(BackendError, match="sha256"), tensorrt.load(first.engine, 1):
        pass


def test_an_engine_built_ahead_runs_here(tensorrt: TensorRt, residual: Path, tmp_path: Path) -> None:
    capability = cuda().compute_capability()
    if why_not_ahead(import_library(tensorrt.name), capability):
        pytest.skip(f"{tensorrt.name} builds on the GPU itself")
    wanted = order(residual, options=BuildOptions(capabilities=(capability,)))
    kept = engine_for(tensorrt.name, residual, wanted, tmp_path)
    assert kept.record.status == "built-ahead"
    with tensorrt.load(kept.engine, 1) as loaded:
        assert_close(loaded.infer(images(4)), reference(residual, images(4)), TOLERANCE["fp32"])


def mig_slices() -> list[str]:
    """UUIDs of the MIG slices here; places for slices may be empty."""
    pynvml = pytest.importorskip("pynvml", reason="slices are found by NVML: pip install nvidia-ml-py")
    pynvml.nvmlInit()
    found = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        with suppress(pynvml.NVMLError):
            for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
                with suppress(pynvml.NVMLError):
                    handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)
                    found.append(pynvml.nvmlDeviceGetUUID(handle))
    pynvml.nvmlShutdown()
    return [uuid.decode() if isinstance(uuid, bytes) else uuid for uuid in found]


def test_a_mig_slice_is_a_device_of_its_own(tensorrt: TensorRt, residual: Path, tmp_path: Path) -> None:
    slices = mig_slices()
    if not slices:
        pytest.skip("this GPU is not divided into MIG slices")
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from planner.backends import backend\n"
        "from planner.backends.tensorrt import Order, engine_for\n"
        "from planner.variants import bind, read_model\n"
        "path = Path(sys.argv[2]); model = read_model(path)\n"
        "order = Order(model.sha256, bind(model, {'N': 'batch'}), (4,))\n"
        "kept = engine_for(sys.argv[1], path, order, Path(sys.argv[3]))\n"
        "with backend(sys.argv[1]).load(kept.engine, 1) as session:\n"
        "    session.infer({'x': np.zeros((4, 3, 16, 16), np.float32)})\n"
        "print(kept.record.place.device)\n"
    )
    for uuid in slices:
        run = subprocess.run(
            [sys.executable, "-c", code, tensorrt.name, str(residual), str(tmp_path / uuid)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": uuid},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        assert "MIG" in run.stdout
