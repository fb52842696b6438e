"""The timing loop. It owns the clock; a backend only ever runs inferences."""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns

from planner.backends.base import Feed, Session
from planner.units import NS_PER_S

Clock = Callable[[], int]

WARMUP_INFERENCES = 5
WARMUP_NS = NS_PER_S // 4
WARMUP_AT_MOST_NS = 10 * NS_PER_S
WINDOW_NS = NS_PER_S // 20
SETTLED = 0.02
"""The medians of two windows, one after the other, differ by no more than this share."""


def warm_up(session: Session, feed: Feed, clock: Clock = perf_counter_ns) -> int:
    """Run until the running median settles, for at least a quarter of a second; returns how many it took.

    First inferences allocate arenas and fault in weights, and clocks rise; they say nothing about serving.
    What has not settled after 10 s and ten inferences never will.
    """
    start = clock()
    count, before = 0, None
    while True:
        window: list[int] = []
        begin = clock()
        while len(window) < WARMUP_INFERENCES or clock() - begin < WINDOW_NS:
            window += sample(session, feed, 1, clock)
        count += len(window)
        now = median(window)
        settled = before is not None and abs(now - before) <= SETTLED * before
        spent = clock() - start
        if spent >= WARMUP_NS and (settled or spent >= WARMUP_AT_MOST_NS):
            return count
        before = now


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
