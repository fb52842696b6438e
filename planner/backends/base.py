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


class Session(Protocol):
    """A loaded engine. ``infer`` returns when the device is done, outputs in the model's order."""

    def infer(self, feed: Feed) -> list[np.ndarray]: ...


class Backend(Protocol):
    """Knows how to load an engine; never a price, never a clock."""

    name: str

    def libraries(self) -> tuple[tuple[str, str], ...]:
        """Name and version of each library that can change a latency."""
        ...

    def load(self, engine: Path, threads: int, optimized: bool = True) -> AbstractContextManager[Session]:
        """Load ``engine`` with ``threads`` intra-op threads. Raises BackendError where it cannot.

        Not ``optimized``: run the graph as it is written, for its accuracy; never for its latency.
        """
        ...


_MODULES = {"onnxruntime": "planner.backends.onnxruntime_cpu:OnnxRuntimeCpu"}


def backend_names() -> tuple[str, ...]:
    return tuple(_MODULES)


def backend(name: str) -> Backend:
    """The backend called ``name``; its library is imported here, not before."""
    if name not in _MODULES:
        raise SpecError(f"{name}: no such backend; known: {', '.join(_MODULES)}")
    module, _, attribute = _MODULES[name].partition(":")
    made: Backend = getattr(import_module(module), attribute)()
    return made
