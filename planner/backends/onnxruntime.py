"""ONNX Runtime, its CPU provider; ``onnxruntime_gpu`` has the others.

Source: https://onnxruntime.ai/docs/api/python/api_summary.html (SessionOptions, InferenceSession)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from planner.backends.base import CPU, Feed, Session
from planner.errors import BackendError, MissingDependencyError

CPU_PROVIDER = "CPUExecutionProvider"
INSTALL = "pip install onnxruntime-gpu"
_SILENT = 4
"""Fatal errors only: what else ORT logs to stderr, it raises too."""

Provider = tuple[str, dict[str, str]]


class _OnnxRuntimeSession:
    def __init__(self, session: Any) -> None:
        self._run = session.run

    def infer(self, feed: Feed) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self._run(None, feed)
        return outputs


class OnnxRuntime:
    """Engines are ONNX files; ONNX Runtime optimises the graph when it loads one."""

    name = "onnxruntime"
    family = "onnxruntime"
    runs_on = CPU

    def missing(self) -> str | None:
        try:
            imported()
        except MissingDependencyError as error:
            return str(error)
        return None

    def libraries(self) -> tuple[tuple[str, str], ...]:
        return (("onnxruntime", installed_version()),)

    @contextmanager
    def load(self, engine: Path, threads: int, optimized: bool = True) -> Iterator[Session]:
        try:
            made = session(engine, threads, optimized, [(CPU_PROVIDER, {})])
        except BackendError as error:
            raise BackendError(f"{engine.name}: {error}") from None
        yield _OnnxRuntimeSession(made)


def imported() -> Any:
    """The package. Raises MissingDependencyError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"onnxruntime cannot be imported ({error}); install it with: {INSTALL}"
        ) from None
    return onnxruntime


def installed_version() -> str:
    """Of the one distribution that is installed. Raises MissingDependencyError."""
    for distribution in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise MissingDependencyError(f"onnxruntime is missing; install it with: {INSTALL}")


def session(model: Path | bytes, threads: int, optimized: bool, providers: Sequence[Provider]) -> Any:
    """An InferenceSession with exactly these ``providers``, and the CPU's last. Raises BackendError, without
    the model's name, where it cannot be made or came out with others."""
    onnxruntime = imported()
    onnxruntime.set_default_logger_severity(_SILENT)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        # Fallback would start again on the CPU, and only print that it does.
        made = onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model,
            options,
            providers=list(providers),
            enable_fallback=0,
        )
    except Exception as error:
        # ONNX Runtime raises a family of classes with no common base but Exception.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendError(f"ONNX Runtime cannot load it: {reason}") from None
    asked = list(dict.fromkeys([name for name, _ in providers] + [CPU_PROVIDER]))
    if made.get_providers() != asked:
        raise BackendError(
            f"asked ONNX Runtime for {', '.join(asked)}, got {', '.join(made.get_providers())}"
        )
    return made
