"""Where an engine was built, or is to run: all that decides whether it may."""

from __future__ import annotations

from dataclasses import dataclass, fields

from planner.backends.tensorrt.cudart import Cuda
from planner.backends.tensorrt.library import Library


@dataclass(frozen=True, slots=True)
class Place:
    """A library on a device. Built ahead of time, an engine has no device: all but two are empty."""

    backend: str
    library_version: str
    device: str
    """As CUDA names it; of a MIG slice that name holds the slice's."""
    compute_capability: str
    driver: str
    cuda: str

    @property
    def is_ahead(self) -> bool:
        return not self.device


def place_here(library: Library, cuda: Cuda) -> Place:
    """This library on the device that ``cuda`` speaks to. Raises BackendError."""
    return Place(
        backend=library.name,
        library_version=library.version,
        device=cuda.device_name(),
        compute_capability=cuda.compute_capability(),
        driver=driver_version() or f"for CUDA {cuda.driver_cuda_version()}",
        cuda=cuda.runtime_version(),
    )


def ahead_of_time(library: Library) -> Place:
    """No device: an engine for whichever GPU of the compute capabilities asked for."""
    return Place(library.name, library.version, device="", compute_capability="", driver="", cuda="")


def differences(built: Place, here: Place) -> str:
    """What differs, in one line; empty where nothing does."""
    pairs = {f.name: (getattr(built, f.name), getattr(here, f.name)) for f in fields(Place)}
    return ", ".join(
        f"{name.replace('_', ' ')} {there or 'none'} there and {found or 'none'} here"
        for name, (there, found) in pairs.items()
        if there != found
    )


def driver_version() -> str:
    """The NVIDIA driver's version by NVML (``580.65.06``); empty where NVML cannot be asked.

    CUDA itself tells only the newest CUDA version that a driver knows, which many drivers share.
    """
    try:
        import pynvml
    except ImportError:
        return ""
    try:
        pynvml.nvmlInit()
        try:
            version = pynvml.nvmlSystemGetDriverVersion()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ""
    return version.decode() if isinstance(version, bytes) else str(version)
