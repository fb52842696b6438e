"""TensorRT or TensorRT-RTX: the same Python API under two names. The only module that imports either.

Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from planner.errors import MissingDependencyError

STANDARD, RTX = "tensorrt", "tensorrt-rtx"
TENSORRT = (STANDARD, RTX)
"""The backends that load engines, not ONNX files."""

_MODULES = {STANDARD: "tensorrt", RTX: "tensorrt_rtx"}
_INSTALL = {STANDARD: "pip install tensorrt", RTX: "pip install tensorrt-rtx-cu13"}
_LONGEST_MESSAGE = 400


@dataclass(frozen=True, slots=True)
class Library:
    """``name`` is the backend's, ``trt`` the imported module."""

    name: str
    trt: Any
    version: str
    timing_cache: bool
    """Whether builds time kernels. TensorRT-RTX compiles them where an engine is loaded; it has none."""

    @property
    def is_rtx(self) -> bool:
        return self.name == RTX


def import_library(name: str) -> Library:
    """Import what the backend ``name`` runs on. Raises MissingDependencyError with the install command."""
    try:
        trt = import_module(_MODULES[name])
    except (ImportError, OSError) as error:  # OSError: its shared libraries are missing
        reason = one_line(str(error))
        raise MissingDependencyError(
            f"{_MODULES[name]} cannot be imported ({reason}); install it with: {_INSTALL[name]}"
        ) from None
    return Library(name, trt, str(trt.__version__), timing_cache=name == STANDARD)


def recorder(trt: Any) -> Any:
    """A TensorRT logger that keeps errors, for the one line that a user gets, and prints nothing.

    TensorRT holds a bare pointer to it: keep it for as long as anything made with it.
    """

    class Recorder(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

        def cause(self) -> str:
            """The first error since last asked: what follows it is mostly its echo."""
            first = self.errors[0] if self.errors else "no reason given"
            self.errors.clear()
            return one_line(first)

    return Recorder()


def one_line(message: str) -> str:
    """``message`` without line breaks, cut to what one reads."""
    text = " ".join(message.split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"
