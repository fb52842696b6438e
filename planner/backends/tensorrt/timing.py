"""The timing cache: what TensorRT measured of kernels in earlier builds, kept beside the profiles.

It spares most of a build's time, and a layer that two variants share gets the same kernel in both.
Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/builder-performance.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planner.backends.tensorrt.files import replace_file, sha256
from planner.backends.tensorrt.place import Place


def timing_cache_path(folder: Path, place: Place) -> Path:
    """One file for each library version and device: TensorRT refuses another's."""
    device = sha256(f"{place.device} {place.compute_capability} {place.cuda}".encode())[:8]
    return folder / f"timing-{place.backend}-{place.library_version}-{device}.cache"


def attach(config: Any, path: Path) -> tuple[Any, bytes]:
    """Give ``config`` the cache at ``path``; returns it and the bytes read.

    What cannot be read or is another version's counts as none: a cache costs time where it is lost, no more.
    """
    kept = _read(path)
    for blob in (kept, b"") if kept else (b"",):
        timings = config.create_timing_cache(blob)
        if timings is not None and config.set_timing_cache(timings, False):
            return timings, blob
    return None, b""


def keep(config: Any, timings: Any, before: bytes, path: Path) -> None:
    """Write ``timings``, merged with what another build has written since ``before`` was read."""
    now = _read(path)
    if now and now != before:
        theirs = config.create_timing_cache(now)
        if theirs is not None and theirs.combine(timings, False):
            timings = theirs
    serialized = timings.serialize()
    if serialized is not None and (content := bytes(memoryview(serialized))) != now:
        replace_file(path, content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
