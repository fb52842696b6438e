"""Several instances of one engine, timed side by side as they would serve."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from planner.backends.base import Feed
from planner.backends.tensorrt.session import Instance, TensorRtSession, Timing


def timed_together(session: TensorRtSession, feed: Feed, count: int) -> list[list[Timing]]:
    """``count`` timings of every instance, all under load from the first to the last.

    Each instance runs in its thread (TensorRT and CUDA let go of the interpreter while they wait). Who has
    its ``count`` keeps running untimed until all have. Raises BackendError where one fails.
    """
    instances = session.instances
    left = len(instances)
    lock = threading.Lock()
    failed = threading.Event()

    def run(instance: Instance) -> list[Timing]:
        nonlocal left
        try:
            session.use_device()
            timings: list[Timing] = []
            while len(timings) < count and not failed.is_set():
                timings.append(instance.timed(feed))
            with lock:
                left -= 1
            while left and not failed.is_set():
                instance.timed(feed)
        except BaseException:
            failed.set()
            raise
        return timings

    for instance in instances:
        instance.timed(feed)  # makes its context; TensorRT wants that one after the other
    with ThreadPoolExecutor(len(instances)) as pool:
        running = [pool.submit(run, instance) for instance in instances]
    return [done.result() for done in running]
