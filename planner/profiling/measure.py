"""The timing loop. It owns the clock; a backend only ever runs inferences."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import perf_counter_ns

from planner.backends.base import Feed, Session
from planner.units import NS_PER_S

Clock = Callable[[], int]

WARMUP_INFERENCES = 5
WARMUP_NS = NS_PER_S // 4


def warm_up(session: Session, feed: Feed, clock: Clock = perf_counter_ns) -> int:
    """Run at least ``WARMUP_INFERENCES`` and for ``WARMUP_NS``; returns how many inferences that took.

    First inferences allocate arenas and fault in weights; they say nothing about serving.
    """
    start = clock()
    count = 0
    while count < WARMUP_INFERENCES or clock() - start < WARMUP_NS:
        session.infer(feed)
        count += 1
    return count


def sample(session: Session, feed: Feed, count: int, clock: Clock = perf_counter_ns) -> list[int]:
    """``count`` latencies in ns, each from the call to the outputs on the host."""
    samples = []
    collecting = gc.isenabled()
    gc.disable()  # a collection of our own making is not the engine's latency
    try:
        for _ in range(count):
            start = clock()
            session.infer(feed)
            samples.append(clock() - start)
    finally:
        if collecting:
            gc.enable()
    return samples
