"""The timing cache's file, with a stand-in whose caches are sets of names."""

from __future__ import annotations

import json
from pathlib import Path

from planner.backends.tensorrt.place import Place
from planner.backends.tensorrt.timing import attach, keep, timing_cache_path

PLACE = Place("tensorrt", "11.4.0", "NVIDIA L4", "8.9", "580.65.06", "13.0")


class Timings:
    def __init__(self, names: set[str]) -> None:
        self.names = names

    def combine(self, other: Timings, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        self.names |= other.names
        return True

    def serialize(self) -> bytes:
        return json.dumps(sorted(self.names)).encode()


class Config:
    """Refuses the blobs in ``foreign``: those of another device."""

    def __init__(self, foreign: bytes = b"") -> None:
        self.foreign = foreign
        self.attached: Timings | None = None
        self.refusing = False

    def create_timing_cache(self, blob: bytes) -> Timings:
        self.refusing = bool(blob) and blob == self.foreign
        return Timings(set(json.loads(blob)) if blob and not self.refusing else set())

    def set_timing_cache(self, timings: Timings, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if not self.refusing:
            self.attached = timings
        return not self.refusing


def build(path: Path, learns: set[str], meanwhile: set[str] | None = None, foreign: bytes = b"") -> set[str]:
    """What a build would begin with; it learns some more, while another one writes ``meanwhile``."""
    config = Config(foreign)
    timings, before = attach(config, path)
    assert config.attached is timings
    known = set(timings.names)
    timings.names |= learns
    if meanwhile is not None:
        path.write_bytes(json.dumps(sorted(meanwhile)).encode())
    keep(config, timings, before, path)
    return known


def test_a_build_begins_with_what_earlier_ones_learned(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.cache"
    assert build(path, {"conv"}) == set()
    assert build(path, {"gemm"}) == {"conv"}
    assert build(path, set()) == {"conv", "gemm"}
    assert [f.name for f in path.parent.iterdir()] == ["t.cache"]


def test_what_another_build_wrote_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.cache"
    build(path, {"conv"})
    build(path, {"gemm"}, meanwhile={"conv", "softmax"})
    assert build(path, set()) == {"conv", "gemm", "softmax"}


def test_another_devices_cache_counts_as_none_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.cache"
    path.write_bytes(b"garbage")
    assert build(path, {"conv"}, foreign=b"garbage") == set()
    assert build(path, set()) == {"conv"}


def test_nothing_is_written_where_nothing_was_learned(tmp_path: Path) -> None:
    path = tmp_path / "t.cache"
    build(path, {"conv"})
    before = path.stat().st_mtime_ns
    build(path, set())
    assert path.stat().st_mtime_ns == before


def test_each_version_and_device_has_its_file(tmp_path: Path) -> None:
    from dataclasses import replace

    places = [
        PLACE,
        replace(PLACE, library_version="10.13.3"),
        replace(PLACE, device="NVIDIA L40S"),
        replace(PLACE, compute_capability="9.0"),
    ]
    assert len({timing_cache_path(tmp_path, place) for place in places}) == len(places)
