"""The sequence of CUDA and TensorRT calls, against stand-ins that keep the rules a GPU would enforce."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from planner.backends.tensorrt import TensorRtSession, timed_together
from planner.backends.tensorrt.cudart import Cuda
from planner.backends.tensorrt.session import opened
from planner.errors import BackendError

COPY_NS, KERNEL_NS, GRAPH_NS = 1_000, 20_000, 10_000


@contextmanager
def opening(bench: Any, instances: int = 1, graphs: bool = True) -> Iterator[TensorRtSession]:
    with opened(
        bench.library, bench.cuda, bench.plan, bench.record, "m.engine", instances, graphs
    ) as session:
        yield session


def feed(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((rows, 3)).astype(np.float32)}


def is_clean(bench: Any) -> bool:
    return not bench.rt.leaks and not bench.trt.living


@pytest.mark.parametrize("graphs", [True, False])
def test_outputs_follow_the_feed_whatever_its_batch_size(bench: Any, graphs: bool) -> None:
    with opening(bench, graphs=graphs) as session:
        for seed, rows in enumerate([1, 1, 3, 4, 8, 5, 3, 1]):
            given = feed(rows, seed)
            (y,) = session.infer(given)
            np.testing.assert_array_equal(y, 2 * given["x"])
        assert session.notes == ()
    assert is_clean(bench)


def test_outputs_stay_what_they_were_when_the_next_batch_runs(bench: Any) -> None:
    with opening(bench) as session:
        (first,) = session.infer(feed(4, 0))
        session.infer(feed(4, 1))
        np.testing.assert_array_equal(first, 2 * feed(4, 0)["x"])


def test_calls_of_one_inference_are_copy_launch_copy_wait(bench: Any) -> None:
    with opening(bench) as session:
        session.infer(feed(4))
        bench.rt.calls.clear()
        session.infer(feed(4, 1))
        assert bench.rt.calls == [
            "cudaMemcpyAsync",
            "cudaGraphLaunch",
            "cudaMemcpyAsync",
            "cudaStreamSynchronize",
        ]


def test_a_graph_is_captured_once_for_each_shape_and_after_a_plain_run(bench: Any) -> None:
    with opening(bench) as session:
        for rows in (4, 4, 4):
            session.infer(feed(rows))
        calls = bench.rt.calls
        assert calls.count("cudaStreamBeginCapture") == 1
        assert (
            "cudaStreamSynchronize"
            in calls[calls.index("cudaMemcpyAsync") : calls.index("cudaStreamBeginCapture")]
        )
        session.infer(feed(3))  # same profile, other shape: the old graph has the old shape in it
        assert calls.count("cudaStreamBeginCapture") == 2
        assert calls.count("cudaGraphExecDestroy") == 1


@pytest.mark.parametrize(("graphs", "compute_ns"), [(True, GRAPH_NS), (False, KERNEL_NS)])
def test_times_with_and_without_transfers_are_the_devices(bench: Any, graphs: bool, compute_ns: int) -> None:
    with opening(bench, graphs=graphs) as session:
        session.infer(feed(8))
        timing = session.timed(feed(8))
        assert timing.compute_ns == compute_ns
        assert timing.with_transfer_ns == compute_ns + 2 * COPY_NS


def test_without_graphs_nothing_is_captured(bench: Any) -> None:
    with opening(bench, graphs=False) as session:
        session.infer(feed(4))
    assert not any("Graph" in call or "Capture" in call for call in bench.rt.calls)


@pytest.mark.parametrize("call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_where_cuda_captures_no_graph_it_runs_without_one_and_says_so(bench: Any, call: str) -> None:
    bench.rt.fail[call] = [bench.rt.cudaError_t.cudaErrorStreamCaptureUnsupported]
    with opening(bench) as session:
        given = feed(4)
        (y,) = session.infer(given)
        (again,) = session.infer(given)
        np.testing.assert_array_equal(y, 2 * given["x"])
        np.testing.assert_array_equal(again, y)
        (note,) = session.notes
        assert note.startswith("no CUDA graph: ") and "cudaErrorStreamCaptureUnsupported" in note
        assert session.timed(given).compute_ns == KERNEL_NS
    assert is_clean(bench)


@pytest.mark.parametrize("ended", ["cudaSuccess", "cudaErrorStreamCaptureUnsupported"])
def test_where_tensorrt_cannot_be_captured_the_capture_is_ended_before_it_runs_on(
    bench: Any, ended: str
) -> None:
    bench.trt.refuse["capture"] = "a loop\nneeds the host"
    bench.rt.fail["cudaStreamEndCapture"] = [bench.rt.cudaError_t[ended]]
    with opening(bench) as session:
        given = feed(4)
        np.testing.assert_array_equal(session.infer(given)[0], 2 * given["x"])
        assert session.notes == ("no CUDA graph: m.engine: tensorrt cannot run it: a loop needs the host",)
    assert is_clean(bench)


def test_each_profile_has_a_context_of_its_own_made_when_first_used(bench: Any) -> None:
    with opening(bench) as session:
        assert bench.trt.living.count("Context") == 0
        session.infer(feed(1))
        assert bench.trt.living.count("Context") == 1
        session.infer(feed(8))
        session.infer(feed(1))
        assert bench.trt.living.count("Context") == 2
    assert is_clean(bench)


def test_contexts_go_before_the_engine_and_the_engine_before_the_runtime(bench: Any) -> None:
    with opening(bench, instances=2) as session:
        for instance in session.instances:
            instance.infer(feed(1))
    assert bench.trt.freed == ["Context", "Context", "Engine", "Runtime"]


def test_instances_have_streams_and_buffers_of_their_own(bench: Any) -> None:
    with opening(bench, instances=2) as session:
        before = session.device_bytes()
        one, two = session.instances
        one.infer(feed(4))
        alone = session.device_bytes()
        two.infer(feed(4))
        assert before == 0 and session.device_bytes() == 2 * alone > 0
        assert len(bench.rt.live["stream"]) == 2
        timings = timed_together(session, feed(4), 20)
        assert [len(t) for t in timings] == [20, 20]
    assert is_clean(bench)


def test_a_failing_instance_ends_the_others(bench: Any) -> None:
    with pytest.raises(BackendError, match="cudaErrorIllegalAddress"), opening(bench, instances=3) as session:
        for instance in session.instances:
            instance.timed(feed(1))
        status = bench.rt.cudaError_t
        bench.rt.fail["cudaGraphLaunch"] = [status.cudaSuccess] * 10 + [status.cudaErrorIllegalAddress]
        timed_together(session, feed(1), 10_000)
    assert is_clean(bench)


CALLS = [
    "cudaStreamCreateWithFlags",
    "cudaEventCreateWithFlags",
    "cudaMalloc",
    "cudaHostAlloc",
    "cudaMemcpyAsync",
    "cudaStreamSynchronize",
    "cudaEventRecord",
    "cudaEventElapsedTime",
    "cudaGraphLaunch",
]


@pytest.mark.parametrize("nth", [0, 1, 2])
@pytest.mark.parametrize("call", CALLS)
def test_any_failing_call_is_an_error_that_names_it_and_everything_is_freed(
    bench: Any, call: str, nth: int
) -> None:
    status = bench.rt.cudaError_t
    bench.rt.fail[call] = [status.cudaSuccess] * nth + [status.cudaErrorIllegalAddress]
    with (
        pytest.raises(BackendError, match=r"CUDA failed .*: cudaErrorIllegalAddress \(as scripted\)$"),
        opening(bench) as session,
    ):
        for rows in (1, 4, 8, 3):
            session.timed(feed(rows))
    assert is_clean(bench)


@pytest.mark.parametrize(
    "call", ["cudaFree", "cudaFreeHost", "cudaEventDestroy", "cudaStreamDestroy", "cudaGraphExecDestroy"]
)
def test_a_failing_free_is_reported_after_all_others_are_freed(bench: Any, call: str) -> None:
    with pytest.raises(BackendError, match="CUDA failed"), opening(bench, instances=2) as session:
        for instance in session.instances:
            instance.infer(feed(4))
        bench.rt.fail[call] = [bench.rt.cudaError_t.cudaErrorIllegalAddress]
    assert len(bench.rt.leaks) == 1
    assert not bench.trt.living


def test_the_first_error_is_the_one_reported_even_where_freeing_fails_too(bench: Any) -> None:
    with pytest.raises(RuntimeError, match="the user's own"), opening(bench) as session:
        session.infer(feed(4))
        bench.rt.fail["cudaFree"] = [bench.rt.cudaError_t.cudaErrorIllegalAddress] * 9
        raise RuntimeError("the user's own")


def test_out_of_memory_is_one_line_that_says_how_much_there_is(bench: Any) -> None:
    bench.rt.memory_bytes = 100
    with pytest.raises(BackendError) as caught, opening(bench) as session:
        session.infer(feed(8))
    assert str(caught.value) == (
        "out of device memory: 96 B wanted, 4 B free; use a smaller batch or fewer instances"
    )
    assert is_clean(bench)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("deserialize", "m.engine: tensorrt cannot load it: bad plan"),
        ("context", "m.engine: tensorrt makes no execution context (too little device memory?): bad plan"),
        ("profile", "m.engine: tensorrt refuses optimization profile 1: bad plan"),
        ("shape", "m.engine: tensorrt refuses [4, 3] for x: bad plan"),
        ("address", "m.engine: tensorrt refuses a buffer for x: bad plan"),
        ("execute", "m.engine: tensorrt cannot run it: bad plan"),
    ],
)
def test_what_tensorrt_refuses_is_one_line_with_its_reason(bench: Any, refused: str, message: str) -> None:
    bench.trt.refuse[refused] = "bad\nplan"
    with pytest.raises(BackendError) as caught, opening(bench) as session:
        session.infer(feed(4))
    assert str(caught.value) == message
    assert is_clean(bench)


def test_an_output_whose_shape_depends_on_values_is_refused(bench: Any) -> None:
    bench.trt.refuse["data-dependent"] = ""
    with (
        pytest.raises(BackendError, match="shape of y depends on the input's values"),
        opening(bench) as session,
    ):
        session.infer(feed(4))
    assert not bench.rt.leaks


def test_after_a_failed_shape_the_next_feed_runs(bench: Any) -> None:
    with opening(bench) as session:
        bench.rt.fail["cudaHostAlloc"] = [bench.rt.cudaError_t.cudaErrorMemoryAllocation]
        with pytest.raises(BackendError, match="pinned"):
            session.infer(feed(4))
        assert session.device_bytes() == 0, "what was allocated before it failed is free again"
        np.testing.assert_array_equal(session.infer(feed(4))[0], 2 * feed(4)["x"])
    assert is_clean(bench)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": np.zeros((9, 3), np.float32)}, "built for batches up to 8, got 9"),
        ({"x": np.zeros((0, 3), np.float32)}, "the batch is empty"),
        ({"x": np.zeros((4, 2), np.float32)}, "input x is float32 [4, 2], float32 [4, 3] is wanted"),
        ({"x": np.zeros((4, 3), np.float64)}, "input x is float64 [4, 3], float32 [4, 3] is wanted"),
        ({"x": np.zeros((), np.float32)}, "input x is float32 [], float32 [1, 3] is wanted"),
        ({"z": np.zeros((4, 3), np.float32)}, "takes x, got z"),
        ({}, "takes x, got nothing"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused(bench: Any, given: dict[str, np.ndarray], message: str) -> None:
    with opening(bench) as session, pytest.raises(BackendError) as caught:
        session.infer(given)
    assert str(caught.value) == f"m.engine: {message}"


def test_a_slice_of_a_larger_array_is_read_right(bench: Any) -> None:
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    with opening(bench) as session:
        np.testing.assert_array_equal(session.infer({"x": wide[:, ::2]})[0], 2 * wide[:, ::2])


def test_bfloat16_outputs_are_ml_dtypes(bench: Any) -> None:
    bench.trt.output_kind = "BF16"
    with opening(bench) as session:
        assert session.infer(feed(4))[0].dtype == ml_dtypes.bfloat16


def test_types_without_a_layout_on_the_host_are_refused(bench: Any) -> None:
    bench.trt.output_kind = "INT4"
    with pytest.raises(BackendError, match="y is INT4, which has no type on the host"), opening(bench):
        pass
    assert is_clean(bench)


def test_an_engine_that_is_not_its_records_is_refused(bench: Any) -> None:
    bench.record = replace(bench.record, outputs=("logits",))
    with pytest.raises(BackendError, match=r"it has tensors y, x, its record x, logits"), opening(bench):
        pass


@pytest.mark.parametrize(("graphs", "strategy"), [(True, "whole"), (False, "disabled")])
def test_rtx_compiles_kernels_at_once_and_captures_its_own_graphs(
    rtx_bench: Any, graphs: bool, strategy: str
) -> None:
    with opening(rtx_bench, graphs=graphs) as session:
        np.testing.assert_array_equal(session.infer(feed(4))[0], 2 * feed(4)["x"])
    (settings,) = rtx_bench.trt.settings
    assert settings.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert settings.cuda_graph_strategy == strategy
    assert "cudaStreamBeginCapture" not in rtx_bench.rt.calls
    assert is_clean(rtx_bench)


def test_a_device_that_is_not_there_is_an_error(bench: Any) -> None:
    with pytest.raises(BackendError, match=r"CUDA failed using device 3: cudaErrorInvalidValue"):
        Cuda(bench.rt, 3)
