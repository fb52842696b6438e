"""TensorRT and TensorRT-RTX, by one code path: an engine is built, kept with its record, loaded and timed.

``order`` says what is asked for, ``build`` makes the engine, ``keep`` stores it with its ``record`` and
vouches for it, ``backend`` loads it, ``session`` runs and times it. ``rtx`` holds what TensorRT-RTX alone
has. TensorRT is imported in ``library`` only, CUDA in ``cudart`` only, both when first used.
"""

from planner.backends.tensorrt.backend import TensorRt
from planner.backends.tensorrt.command import build_command
from planner.backends.tensorrt.keep import (
    Kept,
    adopt,
    engine_digest,
    engine_for,
    engines_beside,
    engines_of,
    mark_measured,
    vouched,
)
from planner.backends.tensorrt.library import TENSORRT, Library, import_library
from planner.backends.tensorrt.order import BuildOptions, Order
from planner.backends.tensorrt.place import Place
from planner.backends.tensorrt.record import EngineRecord, read_record, record_path, reusable
from planner.backends.tensorrt.rtx import why_not_ahead
from planner.backends.tensorrt.session import TensorRtSession, Timing
from planner.backends.tensorrt.together import timed_together
from planner.backends.tensorrt.trust import refusal

__all__ = [
    "TENSORRT",
    "BuildOptions",
    "EngineRecord",
    "Kept",
    "Library",
    "Order",
    "Place",
    "TensorRt",
    "TensorRtSession",
    "Timing",
    "adopt",
    "build_command",
    "engine_digest",
    "engine_for",
    "engines_beside",
    "engines_of",
    "import_library",
    "mark_measured",
    "read_record",
    "record_path",
    "refusal",
    "reusable",
    "timed_together",
    "vouched",
    "why_not_ahead",
]
