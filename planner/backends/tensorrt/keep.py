"""Engines on disk: each with its record beside it, and a manifest that vouches for those made here.

``<key>-<sha256>.engine``, its record with ``.json`` after, ``manifest.jsonl`` and timing caches. The name
holds the content's digest, so that two processes that build the same order never mix their files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from planner.backends.tensorrt.build import build
from planner.backends.tensorrt.command import build_command
from planner.backends.tensorrt.cudart import cuda
from planner.backends.tensorrt.files import replace_file, sha256
from planner.backends.tensorrt.library import Library, import_library
from planner.backends.tensorrt.order import Order
from planner.backends.tensorrt.place import Place, ahead_of_time, place_here
from planner.backends.tensorrt.record import (
    EngineRecord,
    key,
    read_record,
    record_path,
    reusable,
    write_record,
)
from planner.backends.tensorrt.rtx import why_not_ahead
from planner.backends.tensorrt.timing import timing_cache_path
from planner.backends.tensorrt.trust import refusal
from planner.errors import BackendError

MANIFEST = "manifest.jsonl"

Now = Callable[[], datetime]


def engines_beside(profiles: Path) -> Path:
    """The folder of engines and timing caches that goes with a profile store."""
    return profiles.parent / "tensorrt"


@dataclass(frozen=True, slots=True)
class Kept:
    """An engine in its folder; ``reused`` where it was there already."""

    engine: Path
    record: EngineRecord
    reused: bool


def engine_for(
    backend: str,
    onnx: Path,
    order: Order,
    folder: Path,
    device: int = 0,
    now: Now = lambda: datetime.now(UTC),
) -> Kept:
    """The engine of ``order`` in ``folder``: the one there if all agrees, otherwise built now.

    With ``order.options.capabilities`` it is built ahead of time, which needs no GPU; otherwise on ``device``
    and for it. Raises BackendError where the graph is refused or an engine cannot be built here (the message
    then holds the command that builds it on such a GPU), MissingDependencyError without the library.
    """
    lib = import_library(backend)
    ahead = bool(order.options.capabilities)
    place = ahead_of_time(lib) if ahead else place_here(lib, cuda(device))
    capabilities = _capabilities(lib, order, place, onnx.name)
    if found := find_engine(order, place, folder):
        return found
    cache = None if ahead else timing_cache_path(folder, place)
    built = build(lib, onnx, order, capabilities, cache)
    record = EngineRecord(
        place=place,
        order=order,
        outputs=built.outputs,
        sha256=sha256(built.plan),
        size_bytes=len(built.plan),
        status="built-ahead" if ahead else "built",
        built_at=now().isoformat(timespec="seconds"),
    )
    return Kept(_write(folder, built.plan, record), record, reused=False)


def _capabilities(lib: Library, order: Order, place: Place, onnx: str) -> tuple[str, ...]:
    """What to tell the builder. Raises BackendError where it cannot build for one of them."""
    if not lib.is_rtx and not order.options.capabilities:
        return ()
    wanted = order.options.capabilities or (place.compute_capability,)
    for capability in wanted:
        if reason := why_not_ahead(lib, capability):
            command = build_command(order, onnx, f"{Path(onnx).stem}.engine")
            raise BackendError(
                f"{onnx}: no engine for compute capability {capability} can be built here: {reason}; "
                f"on such a GPU run: {command}"
            )
    return wanted


def find_engine(order: Order, place: Place, folder: Path) -> Kept | None:
    """An engine that may be reused, one that was measured before others; None where there is none."""
    known = vouched(folder)
    found = []
    for engine in sorted(folder.glob(f"{key(order, place)}-*.engine")):
        try:
            record = read_record(engine)
            content = engine.read_bytes()
        except (BackendError, OSError):
            continue  # half of a build that was killed, or not ours: built again
        if record is None or refusal(sha256(content), record, known, trusted=False):
            continue
        if reusable(record, order, place):
            found.append(Kept(engine, record, reused=True))
    return min(found, key=lambda kept: kept.record.status != "measured", default=None)


def adopt(files: Mapping[str, bytes], folder: Path) -> Path:
    """Keep an engine that a machine of ours has built and sent, with its record, and vouch for it.

    Raises BackendError where the two are not of each other.
    """
    (name,) = (name for name in files if not name.endswith(".json"))
    engine = folder / Path(name).name
    replace_file(record_path(engine), files[f"{name}.json"])
    record = read_record(engine)
    found = sha256(files[name])
    if record is None or record.sha256 != found:
        record_path(engine).unlink()
        raise BackendError(f"{name}: its sha256 is {found[:12]}…, its record says another; measure it again")
    replace_file(engine, files[name])
    _vouch(folder, engine.name, found)
    return engine


def engine_digest(engine: Path) -> str:
    """The sha256 of what the file holds. Raises BackendError where it cannot be read."""
    try:
        return sha256(engine.read_bytes())
    except OSError as error:
        raise BackendError(f"{engine}: cannot be read ({error.strerror}); build it again") from None


def engines_of(order: Order, backend: str, folder: Path) -> dict[str, Path]:
    """The engines of ``order`` in ``folder`` that were measured, wherever they were built, by sha256."""
    known, found = vouched(folder), {}
    for engine in sorted(folder.glob("*.engine")):
        try:
            record = read_record(engine)
        except BackendError:
            continue
        if record is None or record.order != order or record.place.backend != backend:
            continue
        if record.status == "measured" and record.sha256 in known:
            found[record.sha256] = engine
    return found


def mark_measured(engine: Path) -> EngineRecord:
    """Say in the record that this engine's latencies were taken. Raises BackendError without a record."""
    record = read_record(engine)
    if record is None:
        raise BackendError(f"{engine}: it has no record beside it; build it with the planner")
    measured = record.as_measured()
    write_record(engine, measured)
    return measured


def vouched(folder: Path) -> frozenset[str]:
    """The sha256 of every engine that ``folder``'s manifest vouches for; none where there is no manifest."""
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(filter(None, map(_digest, lines)))


def _digest(line: str) -> str | None:
    """None for a line that was cut off by a kill."""
    try:
        entry = json.loads(line)
        return str(entry["sha256"])
    except (ValueError, TypeError, KeyError):
        return None


def _write(folder: Path, plan: bytes, record: EngineRecord) -> Path:
    engine = folder / f"{key(record.order, record.place)}-{record.sha256[:12]}.engine"
    replace_file(engine, plan)
    write_record(engine, record)
    _vouch(folder, engine.name, record.sha256)
    return engine


def _vouch(folder: Path, engine: str, digest: str) -> None:
    """Append one line. A line is written at once and begins on its own, so that writers never mix theirs."""
    line = "\n" + json.dumps({"sha256": digest, "engine": engine}) + "\n"
    try:
        handle = os.open(folder / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise BackendError(f"{folder / MANIFEST}: cannot be written ({error.strerror})") from None
