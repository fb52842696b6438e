"""ONNX Runtime on the CPU, silent. Nothing prints below the command line."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from planner.variants.weights import external_bytes

_FATAL = 4
_LARGE_BYTES = 1 << 28
_UNPACKED = "session.disable_prepacking"


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
    spared = []
    if path.stat().st_size < _LARGE_BYTES:  # otherwise the weights lie in it, and reading it takes memory
        spared = _spare_memory(options, onnx.load(path, load_external_data=False))
    return _session(str(path), options, optimized, spared)


def session_of(proto: onnx.ModelProto, folder: Path, optimized: bool = True) -> Any:
    """The same for a model in memory whose external weights lie in ``folder``: nothing is written."""
    options = _options()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder.resolve())
    )
    return _session(proto.SerializeToString(), options, optimized, _spare_memory(options, proto))


def _session(model: str | bytes, options: Any, optimized: bool, spared: list[str]) -> Any:
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=spared
    )


def _spare_memory(options: Any, proto: onnx.ModelProto) -> list[str]:
    """Keeps a large model's weights from being held twice; returns the optimizers to leave out for that.

    External files are mapped. Kernels read them there instead of from packed copies (of 8-bit weights copies
    are small, and doing without takes several times as long), and what is cast or dequantized lives only
    while it is used. MatMulNBits would compute in other arithmetic, and takes little anyway.
    """
    if external_bytes(proto) <= _LARGE_BYTES or any(n.op_type == "MatMulNBits" for n in proto.graph.node):
        return []
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    if external_bytes(proto, wider_than=1) > _LARGE_BYTES:
        options.add_session_config_entry(_UNPACKED, "1")
    return ["ConstantFolding"]


def optimize(source: Path, target: Path, external_data: bool = False) -> Path:
    """Writes ``source`` optimized with standard operators only; returns ``target``."""
    options = _options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry(_UNPACKED, "1")  # it will not run
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
