"""What a recipe may need, and what one is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from planner.domain.model import BoundInput

Array = NDArray[Any]

ALL_BACKENDS = frozenset(["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"])


class Judge(Protocol):
    """The drop of the metric from fp32 (0.01 = one point of a share, positive = worse) of a model's outputs.

    ``optimized``: whether ONNX Runtime may fuse the graph; otherwise it runs as it is written.
    """

    def __call__(self, path: Path, /, optimized: bool = True) -> float: ...


@dataclass(frozen=True, slots=True)
class Context:
    """``calibration`` maps each input's name to its samples, first axis = sample.

    A sample is the input without its batch axis. Where the model has no batch axis it is either the whole
    input, or, when the array has as many axes as the input, one row of its first, fixed axis.

    ``judge`` judges the model in an ONNX file on data to search with: never those that the variant's quality
    is reported on. The file may be gone after the call. ``tolerated_drop``: to search for, None: one point.
    Without a judge a search goes by the outputs' error on calibration samples.
    ``search_digest`` tells judges apart, data included; variants made with another are not reused.
    """

    inputs: tuple[BoundInput, ...]
    calibration: Mapping[str, Array] | None
    seed: int = 0
    judge: Judge | None = None
    tolerated_drop: float | None = None
    search_digest: str = ""


class Recipe(Protocol):
    """Reads ``source``, writes ``target`` (and its external data beside it), returns notes.

    A note is one line on what was left alone or decided. Raises VariantError; never touches ``source``.
    One that ``needs_calibration`` is only applied with samples.
    ``backends`` can run what it makes, on NVIDIA GPUs from ``min_compute_capability`` on (None: on all).
    ``evaluate_unoptimized``: ONNX Runtime shows its accuracy only with graph optimizations off, because they
    fail on it, or put in arithmetic that its backends do not have.
    """

    @property
    def name(self) -> str: ...
    @property
    def needs_calibration(self) -> bool: ...
    @property
    def backends(self) -> frozenset[str]: ...
    @property
    def min_compute_capability(self) -> tuple[int, int] | None: ...
    @property
    def evaluate_unoptimized(self) -> bool: ...
    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]: ...


def single_feeds(inputs: tuple[BoundInput, ...], samples: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Feeds of one sample each, or of as many rows as a fixed first axis takes (the last row repeated).

    One at a time keeps memory at that of one inference, and is no slower on a CPU.
    """
    count = len(next(iter(samples.values())))
    step = max((_rows(tensor, samples[tensor.name]) for tensor in inputs), default=1)
    for start in range(0, count, step):
        yield {t.name: _feed(t, samples[t.name], start) for t in inputs}


def _rows(tensor: BoundInput, array: Array) -> int:
    by_row = tensor.batch_axis is None and 0 < array.ndim == len(tensor.shape)
    return max(tensor.shape[0], 1) if by_row else 1


def _feed(tensor: BoundInput, array: Array, start: int) -> Array:
    if tensor.batch_axis is not None:
        return np.ascontiguousarray(np.expand_dims(array[start], tensor.batch_axis), dtype=tensor.dtype)
    if array.ndim == len(tensor.shape) > 0:
        indices = np.minimum(np.arange(start, start + tensor.shape[0]), len(array) - 1)
        return np.ascontiguousarray(array[indices], dtype=tensor.dtype)
    return np.asarray(array[start], dtype=tensor.dtype)


def random_samples(inputs: tuple[BoundInput, ...], count: int, seed: int) -> dict[str, Array]:
    """Standard normal floats; 0 and 1 for integers, the only values that every vocabulary has."""
    rng = np.random.default_rng(seed)
    samples: dict[str, Array] = {}
    for tensor in inputs:
        shape = (count, *(d for axis, d in enumerate(tensor.shape) if axis != tensor.batch_axis))
        kind = np.dtype(tensor.dtype).kind
        values = rng.integers(0, 2, shape) if kind in "iub" else rng.standard_normal(shape)
        samples[tensor.name] = np.asarray(values, dtype=tensor.dtype)
    return samples
