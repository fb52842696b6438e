"""What holds for every backend in the registry, whether it can run here or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from planner.backends import backend, backend_names
from planner.backends.base import CPU, INTEL_GPU, NVIDIA_GPU
from planner.errors import MissingDependencyError, SpecError
from planner.variants.context import ALL_BACKENDS

NAMES = backend_names()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_the_registry_says(name: str) -> None:
    made = backend(name)
    assert made.name == name
    assert made.family in ALL_BACKENDS, "recipes speak of families"
    assert made.runs_on in (CPU, NVIDIA_GPU, INTEL_GPU)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_one_line_or_nothing(name: str) -> None:
    made = backend(name)
    reason = made.missing()
    if reason is None:
        assert dict(made.libraries())
        return
    assert reason.strip()
    assert "\n" not in reason


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "onnxruntime-cuda"])
def test_without_its_package_it_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = backend(name)
    monkeypatch.setitem(sys.modules, made.family, None)
    reason = made.missing()
    assert reason is not None
    assert "pip install" in reason
    with pytest.raises(MissingDependencyError, match="pip install"), made.load(Path("no.onnx"), 1):
        pass


def test_an_unknown_one_is_refused_with_those_there_are() -> None:
    with pytest.raises(SpecError, match=r"openvinno: no such backend; known: onnxruntime, .*openvino"):
        backend("openvinno")


def test_making_one_imports_no_runtime() -> None:
    code = (
        "import sys\n"
        "from planner.backends import backend, backend_names\n"
        "for name in backend_names():\n    backend(name)\n"
        "heavy = {'onnxruntime', 'openvino', 'tensorrt', 'tensorrt_rtx', 'cuda', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
