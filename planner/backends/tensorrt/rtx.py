"""What TensorRT-RTX has and TensorRT has not: builds without a GPU, and kernels compiled where they run.

Source: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/ (ComputeCapability, IRuntimeConfig)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from planner.backends.tensorrt.library import Library
from planner.errors import BackendError

# TensorRT 10.5 release notes: support for Volta has been removed.
_VOLTA = {"7.0": ", and TensorRT 10.4 is the last for that GPU"}


def why_not_ahead(library: Library, capability: str) -> str | None:
    """Why no engine for GPUs of ``capability`` (``9.0``) can be built without one; None where it can be."""
    if not library.is_rtx:
        return f"{library.name} builds engines on the GPU itself{_VOLTA.get(capability, '')}"
    known = known_capabilities(library)
    if capability in known:
        return None
    return f"{library.name} knows {', '.join(known)}{_VOLTA.get(capability, '')}"


def known_capabilities(library: Library) -> tuple[str, ...]:
    """In ascending order: ``SM89`` is 8.9, ``SM120`` is 12.0."""
    numbers = [re.fullmatch(r"SM(\d+)(\d)", name) for name in dir(library.trt.ComputeCapability)]
    versions = sorted((int(match[1]), int(match[2])) for match in numbers if match)
    return tuple(f"{major}.{minor}" for major, minor in versions)


def set_capabilities(library: Library, config: Any, capabilities: Sequence[str]) -> None:
    """Build for these only; unset, kernels for every GPU that the library knows are built in."""
    trt = library.trt
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        chosen = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}")
        if not config.set_compute_capability(chosen, index):
            raise BackendError(f"{library.name} refuses compute capability {capability}")


def execution_context(library: Library, engine: Any, graphs: bool) -> Any:
    """A context whose kernels do not change between the first and the last measurement.

    By default shape-specialized kernels replace slower ones whenever their compilation is done. CUDA graphs
    are left to the library: it alone knows when its kernels are final.
    """
    trt = library.trt
    settings = engine.create_runtime_config()
    settings.dynamic_shapes_kernel_specialization_strategy = (
        trt.DynamicShapesKernelSpecializationStrategy.EAGER
    )
    settings.cuda_graph_strategy = (
        trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE if graphs else trt.CudaGraphStrategy.DISABLED
    )
    return engine.create_execution_context(settings)
