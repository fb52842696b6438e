"""ONNX Runtime's CPU provider.

Source: https://onnxruntime.ai/docs/api/python/api_summary.html (SessionOptions, InferenceSession)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from planner.backends.base import Feed, Session
from planner.errors import BackendError, MissingDependencyError

PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3


class _OnnxRuntimeSession:
    def __init__(self, session: object) -> None:
        self._run = session.run  # type: ignore[attr-defined]

    def infer(self, feed: Feed) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self._run(None, feed)
        return outputs


class OnnxRuntimeCpu:
    """Engines are ONNX files; ONNX Runtime optimises the graph when it loads one."""

    name = "onnxruntime"

    def libraries(self) -> tuple[tuple[str, str], ...]:
        for distribution in ("onnxruntime-gpu", "onnxruntime"):
            try:
                return (("onnxruntime", version(distribution)),)
            except PackageNotFoundError:
                continue
        raise MissingDependencyError("onnxruntime is missing; install it with: pip install onnxruntime-gpu")

    @contextmanager
    def load(self, engine: Path, threads: int, optimized: bool = True) -> Iterator[Session]:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                f"onnxruntime cannot be imported ({error}); install it with: pip install onnxruntime-gpu"
            ) from None
        onnxruntime.set_default_logger_severity(_ERRORS_ONLY + 1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY + 1
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = onnxruntime.InferenceSession(str(engine), options, providers=[PROVIDER])
        except Exception as error:
            # ONNX Runtime raises a family of classes with no common base but Exception.
            reason = str(error).strip().splitlines()[0]
            raise BackendError(f"{engine.name}: ONNX Runtime cannot load it: {reason}") from None
        if session.get_providers() != [PROVIDER]:
            raise BackendError(f"{engine.name}: asked for {PROVIDER}, got {session.get_providers()}")
        yield _OnnxRuntimeSession(session)
