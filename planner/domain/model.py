"""An ONNX model, and how its dynamic dimensions are bound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output. A dimension is a size, or the name of a dynamic one.

    A dynamic dimension that the model leaves unnamed is called ``<tensor>.<axis>``.
    ``dtype`` is NumPy's name for the element type (``float32``, ``int64``, ...).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """``sha256`` covers the file and its external data, ``size_bytes`` likewise."""

    path: Path
    sha256: str
    size_bytes: int
    opset: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[tuple[str, int], ...]

    def dynamic_dimensions(self) -> tuple[str, ...]:
        """Names of the dynamic dimensions of the inputs, in order of appearance."""
        names = [d for tensor in self.inputs for d in tensor.shape if isinstance(d, str)]
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class BoundInput:
    """An input whose dimensions are all sizes, but for the batch axis where there is one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """Sizes; the entry at ``batch_axis`` is 1 and stands for any batch size."""
    batch_axis: int | None

    def shape_at(self, batch_size: int) -> tuple[int, ...]:
        return tuple(batch_size if axis == self.batch_axis else d for axis, d in enumerate(self.shape))
