"""TensorRT behind the contract that every backend keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from planner.backends.base import NVIDIA_GPU
from planner.backends.tensorrt.cudart import cuda
from planner.backends.tensorrt.files import sha256
from planner.backends.tensorrt.keep import vouched
from planner.backends.tensorrt.library import RTX, STANDARD, import_library
from planner.backends.tensorrt.place import differences, driver_version, place_here
from planner.backends.tensorrt.record import EngineRecord, read_record
from planner.backends.tensorrt.session import TensorRtSession, opened
from planner.backends.tensorrt.trust import refusal
from planner.errors import BackendError, PlannerError


def standard() -> TensorRt:
    return TensorRt(STANDARD)


def rtx() -> TensorRt:
    return TensorRt(RTX)


@dataclass(frozen=True, slots=True)
class TensorRt:
    """Engines are files that ``engine_for`` made. Making one of these imports no library."""

    name: str
    runs_on: str = NVIDIA_GPU

    @property
    def family(self) -> str:
        return self.name

    def missing(self) -> str | None:
        """None where engines run here; otherwise one line: what is missing, and what to do about it."""
        try:
            import_library(self.name)
            cuda()
        except BackendError as error:
            return f"no NVIDIA GPU can be used here: {error}; install NVIDIA's driver"
        except PlannerError as error:
            return str(error)
        return None

    def libraries(self) -> tuple[tuple[str, str], ...]:
        """TensorRT, the driver and CUDA: each can change a latency. The last two where there is a GPU."""
        found = [(self.name, import_library(self.name).version)]
        if driver := driver_version():
            found.append(("nvidia driver", driver))
        with suppress(PlannerError):
            found.append(("cuda runtime", cuda().runtime_version()))
        return tuple(found)

    @contextmanager
    def load(
        self,
        engine: Path,
        threads: int = 1,
        optimized: bool = True,
        *,
        instances: int = 1,
        graphs: bool = True,
        device: int = 0,
        store: Path | None = None,
        trusted: bool = False,
    ) -> Iterator[TensorRtSession]:
        """Load ``engine`` for ``instances`` batches at a time, run by CUDA ``graphs`` where possible.

        ``threads`` says nothing to a GPU. ``store`` is the folder whose manifest has to vouch for the engine,
        its own if None; ``trusted`` does without. Raises BackendError for an engine that is not its record's
        or not vouched for, that was built elsewhere, that does not fit the device, and where not
        ``optimized``: TensorRT runs no graph as it is written.
        """
        if not optimized:
            raise BackendError(f"{self.name} runs no graph unoptimized; judge accuracy with onnxruntime")
        if instances < 1:
            raise ValueError(f"instances must be at least 1, got {instances}")
        lib = import_library(self.name)
        plan, record = _trusted(engine, vouched(store or engine.parent), trusted)
        card = cuda(device)
        here = place_here(lib, card)
        if record.place.is_ahead:
            _check_capability(engine, record, self.name, lib.version, here.compute_capability)
        elif unlike := differences(record.place, here):
            raise BackendError(f"{engine.name}: built elsewhere: {unlike}; build it again here")
        with opened(lib, card, plan, record, engine.name, instances, graphs) as session:
            yield session


def _trusted(engine: Path, known: Collection[str], trusted: bool) -> tuple[bytes, EngineRecord]:
    """The very bytes that were checked, to be deserialized, and their record."""
    try:
        plan = engine.read_bytes()
    except OSError as error:
        raise BackendError(f"{engine}: cannot be read ({error.strerror}); build it again") from None
    record = read_record(engine)
    if reason := refusal(sha256(plan), record, known, trusted):
        raise BackendError(f"{engine}: not loaded: {reason}")
    assert record is not None  # or it were refused
    return plan, record


def _check_capability(engine: Path, record: EngineRecord, name: str, version: str, here: str) -> None:
    built = record.place
    if (built.backend, built.library_version) != (name, version):
        raise BackendError(
            f"{engine.name}: built by {built.backend} {built.library_version}, here is {name} {version}; "
            "build it again"
        )
    if here not in record.order.options.capabilities:
        raise BackendError(
            f"{engine.name}: built for compute capability {', '.join(record.order.options.capabilities)}, "
            f"this GPU has {here}; build it again here"
        )
