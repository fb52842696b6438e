"""The contract between a backend and whoever times it or asks it for outputs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from planner.errors import SpecError

Feed = Mapping[str, np.ndarray]

CPU, NVIDIA_GPU, INTEL_GPU = "cpu", "nvidia-gpu", "intel-gpu"
"""What a backend may run on."""


class Session(Protocol):
    """A loaded engine. ``infer`` returns when the device is done, outputs in the model's order."""

    def infer(self, feed: Feed) -> list[np.ndarray]: ...


class Backend(Protocol):
    """Knows how to load an engine; never a price, never a clock. Making one imports no library."""

    name: str
    family: str
    """What recipes call it: ``onnxruntime-cuda`` runs what recipes make for ``onnxruntime``."""
    runs_on: str
    """``cpu``, ``nvidia-gpu`` or ``intel-gpu``."""

    def missing(self) -> str | None:
        """None where it can run here; otherwise one line: what is missing, and what to do about it
        (``pip install ...`` where that helps). Never raises."""
        ...

    def libraries(self) -> tuple[tuple[str, str], ...]:
        """Name and version of each library that can change a latency. Raises MissingDependencyError."""
        ...

    def load(self, engine: Path, threads: int, optimized: bool = True) -> AbstractContextManager[Session]:
        """Load ``engine`` with ``threads`` intra-op threads. Raises BackendError where it cannot, and
        MissingDependencyError where its package cannot be imported.

        Not ``optimized``: run the graph as it is written, for its accuracy; never for its latency.
        """
        ...


_MODULES = {
    "onnxruntime": "planner.backends.onnxruntime:OnnxRuntime",
    "onnxruntime-cuda": "planner.backends.onnxruntime_gpu:OnnxRuntimeCuda",
    "onnxruntime-tensorrt": "planner.backends.onnxruntime_gpu:OnnxRuntimeTensorRT",
    "openvino": "planner.backends.openvino:OpenVino",
    "openvino-throughput": "planner.backends.openvino:OpenVinoThroughput",
    "openvino-gpu": "planner.backends.openvino:OpenVinoGpu",
    "tensorrt": "planner.backends.tensorrt.backend:standard",
    "tensorrt-rtx": "planner.backends.tensorrt.backend:rtx",
}


def backend_names() -> tuple[str, ...]:
    return tuple(_MODULES)


def backend(name: str) -> Backend:
    """The backend called ``name``. Raises SpecError where there is none."""
    if name not in _MODULES:
        raise SpecError(f"{name}: no such backend; known: {', '.join(_MODULES)}")
    module, _, attribute = _MODULES[name].partition(":")
    made: Backend = getattr(import_module(module), attribute)()
    return made
