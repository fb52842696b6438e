"""What an engine is asked to be: of which graph, for which batch sizes, built with which options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.domain.model import BoundInput

BUILDER_LEVELS = range(6)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How hard TensorRT looks for fast kernels, and with how much memory.

    Source: IBuilderConfig.builder_optimization_level, MemoryPoolType.WORKSPACE, BuilderFlag.SPARSE_WEIGHTS.
    """

    workspace_bytes: int | None = None
    """Scratch memory that a kernel may use; None: all of the device's."""
    builder_level: int = 3
    """0 builds fastest, 5 runs fastest; 3 is TensorRT's own default."""
    sparse_weights: bool = False
    """Let kernels for 2:4 sparse weights compete; only for variants that have such weights."""
    capabilities: tuple[str, ...] = ()
    """Compute capabilities (``8.9``) to build ahead of time for; empty: the GPU at hand."""

    def __post_init__(self) -> None:
        if self.builder_level not in BUILDER_LEVELS:
            raise ValueError(f"builder_level is 0 to 5, got {self.builder_level}")
        if self.workspace_bytes is not None and self.workspace_bytes < 0:
            raise ValueError(f"workspace_bytes must not be negative, got {self.workspace_bytes}")


@dataclass(frozen=True, slots=True)
class Order:
    """``onnx_sha256`` covers external data too; ``batch_sizes`` ascend."""

    onnx_sha256: str
    inputs: tuple[BoundInput, ...]
    batch_sizes: tuple[int, ...]
    options: BuildOptions = BuildOptions()

    def __post_init__(self) -> None:
        ascending = tuple(sorted(set(self.batch_sizes)))
        if not ascending or ascending[0] < 1 or ascending != self.batch_sizes:
            raise ValueError(f"batch sizes must be ascending and at least 1, got {self.batch_sizes}")

    @property
    def ranges(self) -> tuple[Range, ...]:
        return ranges(self.batch_sizes)

    def profile_of(self, batch_size: int) -> int | None:
        """Which optimization profile serves ``batch_size``; None where it is larger than all."""
        return next((i for i, r in enumerate(self.ranges) if batch_size <= r.most), None)


@dataclass(frozen=True, slots=True)
class Range:
    """The batch sizes of one optimization profile, ``least`` to ``most``; kernels are chosen for ``most``."""

    least: int
    most: int


def ranges(batch_sizes: Sequence[int]) -> tuple[Range, ...]:
    """One optimization profile for each batch size considered: from above the next smaller one up to it.

    TensorRT chooses kernels for a profile's optimum, so one wide profile would be measured at sizes that it
    was not tuned for. Profiles of one size only would leave a batcher's sizes in between without any. This
    way every batch up to the largest runs, and runs as capacity assumes: as the smallest measured size that
    holds it.
    """
    floors = (0, *batch_sizes[:-1])
    return tuple(Range(floor + 1, size) for floor, size in zip(floors, batch_sizes, strict=True))
