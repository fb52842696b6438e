"""ONNX Runtime on the CPU, silent. Nothing prints below the command line."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime

_FATAL = 4


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what ONNX Runtime's Python tools print, log and warn."""
    root = logging.getLogger()
    disabled = root.manager.disable
    # logging.warning() installs a handler for good where there is none, even when disabled.
    placeholder = logging.NullHandler()
    root.addHandler(placeholder)
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(placeholder)


def load_session(path: Path, optimized: bool = True) -> Any:
    """An ``onnxruntime.InferenceSession``, or one that runs the graph as it is written.

    Raises what ONNX Runtime raises.
    """
    options = _options()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def optimize(source: Path, target: Path, external_data: bool = False) -> Path:
    """Writes ``source`` optimized with standard operators only; returns ``target``."""
    options = _options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    if external_data:
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", target.name + ".data"
        )
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return target


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    return options
