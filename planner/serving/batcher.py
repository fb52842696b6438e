"""One replica: a queue, and engine instances that take batches from it, each by a thread of its own.

A batch is padded to the next batch size that was measured, as capacities are computed for; what is padded
with is the batch's last inference again, so that no engine meets values that nobody sent.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, perf_counter_ns
from typing import Protocol

import numpy as np

from planner.backends import Feed
from planner.errors import BackendError
from planner.serving.engine import EngineDied, Inferred
from planner.serving.waiting import Waiting
from planner.units import NS_PER_S

HANGS_AFTER_S = 60.0
RESTART_S = (0.0, 1.0, 5.0, 30.0)
"""How long a dead engine's restart is put off, by how often it failed in a row; then the last."""


class Overfull(Exception):
    """As many requests wait as may."""


class Unavailable(Exception):
    """No instance of the engine is there, or the replica is closed."""


class Instance(Protocol):
    """An engine that is loaded; see ``engine.EngineProcess``."""

    def infer(self, feed: Feed) -> Inferred: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Batched:
    """A batch that is done: ``requests`` with so many inferences together, run as ``padded_to``.

    ``held_ns``: from taking it to its requests' being done; ``engine_ns`` of them was the inference itself.
    """

    requests: int
    inferences: int
    padded_to: int
    held_ns: int
    engine_ns: int


Done = Callable[[list[np.ndarray] | Exception], None]
"""Gets the outputs of one request, or what went wrong; called in an instance's thread."""


@dataclass(slots=True)
class _Request:
    feed: Feed
    size: int
    done: Done


@dataclass(slots=True)
class _Busy:
    """An instance that runs now, and since when it has its batch; None: it has none."""

    engine: Instance
    since_s: float | None = None


class Batcher:
    """Starts ``instances`` engines by ``start`` and serves until it is closed.

    ``batch_sizes``: those measured, the largest is the most of a batch. Not ``batched``: the engine has no
    batch axis, and each request is an inference as it is. ``observe`` is told of every batch.

    Raises what ``start`` raises at first; an engine that dies later is started again.
    """

    def __init__(
        self,
        start: Callable[[], Instance],
        batch_sizes: Sequence[int],
        *,
        instances: int = 1,
        queue_delay_ns: int = 0,
        batched: bool = True,
        max_waiting: int,
        observe: Callable[[Batched], None] = lambda batch: None,
        hangs_after_s: float = HANGS_AFTER_S,
    ) -> None:
        self._start, self._observe = start, observe
        self._sizes = sorted(batch_sizes) if batched else [1]
        self._batched, self._max_waiting = batched, max_waiting
        self._waiting: Waiting[_Request] = Waiting(self._sizes[-1], queue_delay_ns)
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._under_way = 0
        self.restarts = 0
        self._running: list[_Busy | None] = []
        try:
            for _ in range(instances):
                self._running.append(_Busy(start()))
        except BaseException:
            self._end_engines()
            raise
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), daemon=True) for number in range(instances)
        ]
        self._threads.append(threading.Thread(target=self._watch, args=(hangs_after_s,), daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def load(self) -> int:
        """Requests that wait or are being served."""
        return len(self._waiting) + self._under_way

    @property
    def ready(self) -> bool:
        """Whether every instance is there."""
        return not self._ended.is_set() and all(running is not None for running in self._running)

    @property
    def alive(self) -> bool:
        """Whether any instance is there."""
        return not self._ended.is_set() and any(running is not None for running in self._running)

    def submit(self, feed: Feed, done: Done, size: int = 1, kind: Hashable = None) -> None:
        """Have ``done`` called with what comes of ``size`` inferences, the first axis of every input.

        ``kind`` as for ``Waiting.put``. Raises Overfull or Unavailable; ``done`` is not called then.
        """
        with self._changed:
            if not self.alive:
                raise Unavailable("no engine is running")
            if len(self._waiting) >= self._max_waiting:
                raise Overfull(f"{self._max_waiting} requests wait already")
            self._waiting.put(_Request(feed, size, done), perf_counter_ns(), size, kind)
            self._changed.notify()

    def close(self) -> None:
        """Serve nothing any more. What still waits is told so."""
        with self._changed:
            self._ended.set()
            left = self._waiting.all()
            self._changed.notify_all()
        self._fail(left, Unavailable("the replica was closed"))
        self._end_engines()
        for thread in self._threads:
            thread.join()

    def _end_engines(self) -> None:
        for running in self._running:
            if running is not None:
                running.engine.close()

    def _serve(self, number: int) -> None:
        while batch := self._take(number):
            running = self._running[number]
            assert running is not None
            try:
                self._run(running.engine, batch)
            except EngineDied:
                self._restart(number)
            finally:
                with self._changed:
                    self._under_way -= len(batch)
                    running.since_s = None

    def _take(self, number: int) -> list[_Request]:
        """The next batch; empty: closed."""
        with self._changed:
            while not self._ended.is_set():
                now_ns = perf_counter_ns()
                if batch := self._waiting.take(now_ns):
                    running = self._running[number]
                    assert running is not None
                    running.since_s = monotonic()
                    self._under_way += len(batch)
                    if self._waiting:
                        self._changed.notify()
                    return batch
                due_ns = self._waiting.due_ns()
                self._changed.wait(None if due_ns is None else max(due_ns - now_ns, 0) / NS_PER_S)
            return []

    def _run(self, engine: Instance, batch: list[_Request]) -> None:
        """Raises EngineDied, when all of them have been told."""
        start_ns = perf_counter_ns()
        size = sum(request.size for request in batch)
        padded_to = self._sizes[bisect_left(self._sizes, size)] if self._batched else 1
        try:
            inferred = engine.infer(self._joined(batch, size, padded_to))
            parts = self._parted(inferred.outputs, batch, padded_to)
        except EngineDied as error:
            self._fail(batch, error)
            raise
        except BackendError as error:
            if len(batch) == 1:
                self._fail(batch, error)
            else:
                self._run_each(engine, batch)
            return
        for request, outputs in zip(batch, parts, strict=True):
            _call(request.done, outputs)
        held_ns = perf_counter_ns() - start_ns
        self._observe(Batched(len(batch), size, padded_to, held_ns, inferred.engine_ns))

    def _run_each(self, engine: Instance, batch: list[_Request]) -> None:
        """Whichever the engine does not take, the others are not to suffer for it. Raises as ``_run``."""
        for number, request in enumerate(batch, start=1):
            try:
                self._run(engine, [request])
            except EngineDied as error:
                self._fail(batch[number:], error)
                raise

    def _joined(self, batch: list[_Request], size: int, padded_to: int) -> Feed:
        if len(batch) == 1 and size == padded_to:
            return batch[0].feed
        joined = {}
        for name in batch[0].feed:
            parts = [request.feed[name] for request in batch]
            if padded_to > size:
                parts.append(np.repeat(parts[-1][-1:], padded_to - size, axis=0))
            joined[name] = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return joined

    def _parted(
        self, outputs: list[np.ndarray], batch: list[_Request], padded_to: int
    ) -> list[list[np.ndarray]]:
        if not self._batched:
            return [outputs]
        for output in outputs:
            if output.ndim == 0 or len(output) != padded_to:
                raise BackendError("an output does not have the batch as its first axis")
        ends = np.cumsum([request.size for request in batch]).tolist()
        return [
            [output[end - request.size : end] for output in outputs]
            for request, end in zip(batch, ends, strict=True)
        ]

    def _restart(self, number: int) -> None:
        """Bring a dead instance back; what waits fails where that did not work and there is no other."""
        with self._changed:
            dead, self._running[number] = self._running[number], None
        assert dead is not None
        dead.engine.close()
        failures = 0
        while not self._ended.wait(RESTART_S[min(failures, len(RESTART_S) - 1)]):
            try:
                engine = self._start()
            except BackendError:
                failures += 1
                with self._changed:
                    left = [] if self.alive else self._waiting.all()
                self._fail(left, Unavailable("no engine is running"))
                continue
            with self._changed:
                self.restarts += 1
                self._running[number] = _Busy(engine)
                if self._ended.is_set():
                    engine.close()
            return

    def _watch(self, hangs_after_s: float) -> None:
        while not self._ended.wait(min(hangs_after_s / 4, 1.0)):
            overdue = monotonic() - hangs_after_s
            with self._changed:
                hung = [r for r in self._running if r and r.since_s is not None and r.since_s < overdue]
            for running in hung:
                running.engine.kill()

    def _fail(self, batch: Sequence[_Request], error: Exception) -> None:
        for request in batch:
            _call(request.done, error)


def _call(done: Done, outcome: list[np.ndarray] | Exception) -> None:
    # Whoever asked may be gone; that is no reason to leave the others without an answer.
    with suppress(Exception):
        done(outcome)
