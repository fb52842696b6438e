"""What a replica tells of a GPU: its kernels' own time and its memory, where its session can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from planner.backends.tensorrt import Timing
from planner.domain.conditions import NOT_TOLD, over
from planner.domain.profile import Configuration, Environment, Profile
from planner.profiling.worker import _compute_ns, _on_device
from planner.store import ProfileStore


class OnGpu:
    """A session as TensorRT's: the kernels take 3 ms, then 1 ms, and so on."""

    def __init__(self) -> None:
        self.count = 0

    def infer(self, feed: object) -> list[object]:
        return []

    def timed(self, feed: object) -> Timing:
        self.count += 1
        return Timing(compute_ns=3_000_000 if self.count % 2 else 1_000_000, with_transfer_ns=5_000_000)

    def device_bytes(self) -> int:
        return 123


class OnCpu:
    def infer(self, feed: object) -> list[object]:
        return []


def test_kernels_alone_and_memory_where_the_session_tells() -> None:
    assert _compute_ns(OnGpu(), {}) == 2_000_000  # type: ignore[arg-type]
    assert _on_device(OnGpu()) == 123  # type: ignore[arg-type]
    assert _compute_ns(OnCpu(), {}) is None  # type: ignore[arg-type]
    assert _on_device(OnCpu()) == 0  # type: ignore[arg-type]


def test_it_is_kept_in_the_profile(tmp_path: Path) -> None:
    turns = [(replace(NOT_TOLD, gpu_compute_ns=float(ns)), 10) for ns in (100, 300)]
    profile = Profile(
        Configuration("m", "fp16", "v", "L4", "tensorrt", 1, 1, 1, ()),
        Environment("cpu", "", (), 2, 1, "Linux", ()),
        (1_000,) * 20,
        1,
        "2026-11-22T00:00:00+00:00",
        conditions=over(turns),
    )
    assert profile.conditions.gpu_compute_ns == 200
    store = ProfileStore(tmp_path)
    store.put(profile)
    assert store.all() == [profile]
