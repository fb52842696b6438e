"""ONNX Runtime's GPU providers: what they lack is named, and nothing falls back to the CPU unseen."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from planner.backends import backend, onnxruntime_gpu
from planner.backends.onnxruntime import CPU_PROVIDER, session
from planner.backends.onnxruntime_gpu import (
    CUDA_PROVIDER,
    GpuSession,
    OnnxRuntimeTensorRT,
    unloadable,
    without_gpu,
)
from planner.errors import BackendError

if TYPE_CHECKING:
    from onnx_models import LabelledModel

CUDA = ((CUDA_PROVIDER, {}),)
TENSORRT = OnnxRuntimeTensorRT.providers


def without(*absent: str, of: str = "onnxruntime_providers_") -> Callable[[str], object]:
    """A loader that, asked for a provider's library, finds the first of ``absent`` missing."""

    def dlopen(library: str) -> object:
        for name in absent:
            if library == name or (of in library and "shared" not in library):
                raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return object()

    return dlopen


@pytest.mark.parametrize(
    ("providers", "absent", "cuda", "expected"),
    [
        (CUDA, "libcublasLt.so.13", "13.0", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        (CUDA, "libcudart.so.12", "12.8", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        (CUDA, "libcuda.so.1", "13.0", "install the NVIDIA driver"),
        (TENSORRT, "libnvinfer.so.10", "13.0", "pip install 'tensorrt-cu13<11'"),
        (TENSORRT, "libnvonnxparser.so.11", "12.8", "pip install tensorrt-cu12"),
    ],
)
def test_a_missing_library_is_named_with_its_remedy(
    providers: Any, absent: str, cuda: str, expected: str
) -> None:
    reason = unloadable(providers, Path("capi"), cuda, without(absent))
    assert reason is not None
    assert reason.startswith(f"{absent}: cannot open")
    assert reason.endswith(expected)


def test_cudnn_is_looked_for_too() -> None:
    asked: list[str] = []
    assert unloadable(TENSORRT, Path("capi"), "13.0", asked.append) is None
    opened = [Path(library).name for library in asked]
    assert "shared" in opened[0], "the others need its symbols"
    assert [("tensorrt" in name, "cuda" in name) for name in opened[1:3]] == [(True, False), (False, True)]
    reason = unloadable(CUDA, Path("capi"), "13.0", without("libcudnn.so.9", of="nothing"))
    assert reason is not None
    assert "libcudnn.so.9" in reason


@pytest.mark.parametrize(
    ("init", "count", "expected"),
    [(0, 1, None), (0, 0, "sees no GPU"), (100, 0, "sees no GPU"), (803, 0, "CUDA error 803")],
)
def test_the_driver_is_asked_for_gpus(init: int, count: int, expected: str | None) -> None:
    def device_count(target: Any) -> int:
        ctypes.cast(target, ctypes.POINTER(ctypes.c_int))[0] = count
        return 0

    driver = SimpleNamespace(cuInit=lambda flags: init, cuDeviceGetCount=device_count)
    reason = without_gpu(lambda name: driver)
    assert reason is None if expected is None else expected in (reason or "")


def test_no_driver_is_said() -> None:
    assert "install the NVIDIA driver" in (without_gpu(without("libcuda.so.1")) or "")


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_no_silent_fallback_here(name: str, tiny_model: LabelledModel) -> None:
    """With the real ONNX Runtime: where the provider cannot start, loading fails and says why."""
    made = backend(name)
    reason = made.missing()
    if reason is None:
        pytest.skip("it can run here")
    with pytest.raises(BackendError) as raised, made.load(tiny_model.model, 1):
        pass
    assert str(raised.value) == f"{tiny_model.model.name}: {name}: {reason}"
    assert "install" in reason or "driver" in reason


def test_a_build_without_the_provider_is_said(
    monkeypatch: pytest.MonkeyPatch, tiny_model: LabelledModel
) -> None:
    cpu_only = SimpleNamespace(get_available_providers=lambda: [CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime_gpu, "imported", lambda: cpu_only)
    made = backend("onnxruntime-cuda")
    assert f"built without {CUDA_PROVIDER}" in (made.missing() or "")
    with pytest.raises(BackendError, match="pip install onnxruntime-gpu"), made.load(tiny_model.model, 1):
        pass


def test_other_providers_than_asked_for_are_an_error(
    monkeypatch: pytest.MonkeyPatch, tiny_model: LabelledModel
) -> None:
    import onnxruntime

    fallen_back = SimpleNamespace(get_providers=lambda: [CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: fallen_back)
    with pytest.raises(BackendError, match=f"asked ONNX Runtime for {CUDA_PROVIDER}, .* got {CPU_PROVIDER}"):
        session(tiny_model.model, 1, True, CUDA)


def test_binding_gives_the_outputs_of_a_plain_run(tiny_model: LabelledModel) -> None:
    """On the CPU's memory, where the same calls need no GPU."""
    made = session(tiny_model.model, 1, True, [(CPU_PROVIDER, {})])
    x = np.random.default_rng(0).standard_normal((6, 16), dtype=np.float32)
    bound = GpuSession(made, "cpu")
    first = bound.infer({"x": x})
    second = bound.infer({"x": -x[:2]})
    np.testing.assert_array_equal(first[0], made.run(None, {"x": x})[0])
    np.testing.assert_array_equal(second[0], made.run(None, {"x": -x[:2]})[0])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_on_a_gpu_the_outputs_are_the_cpus(name: str, tiny_model: LabelledModel) -> None:
    if reason := without_gpu():
        pytest.skip(reason)
    x = np.random.default_rng(0).standard_normal((6, 16), dtype=np.float32)
    expected = session(tiny_model.model, 1, True, [(CPU_PROVIDER, {})]).run(None, {"x": x})
    with backend(name).load(tiny_model.model, 1) as running:
        np.testing.assert_allclose(running.infer({"x": x})[0], expected[0], rtol=1e-3, atol=1e-4)
