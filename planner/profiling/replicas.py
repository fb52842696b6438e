"""Copies of one engine, each in its own process, measured side by side."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import BackendError
from planner.profiling.environment import foreign_load, machine_times
from planner.units import NS_PER_S

LOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Samples of all replicas, pooled; ``memory_bytes`` is the largest peak of one replica's process.

    ``foreign_load`` is the share of the machine that other processes kept busy meanwhile, None where the
    system does not tell.
    """

    samples_ns: tuple[int, ...]
    memory_bytes: int
    foreign_load: float | None


class Replicas:
    """Running worker processes, all with the same engine and inputs. Made by ``running``."""

    def __init__(self, workers: list[_Worker], cpu_s: float) -> None:
        self._workers = workers
        self._cpu_s = cpu_s

    def measure(self, samples: int, timeout_s: float, feed: int = 0) -> Measurement:
        """At least ``samples`` latencies of the input number ``feed``, an equal share from each replica, all
        under load together.

        Raises BackendError where a replica fails, dies, or does not answer within ``timeout_s``.
        """
        share = -(-samples // len(self._workers))
        before = machine_times()
        for worker in self._workers:
            worker.ask(feed, share)
        deadline = time.monotonic() + timeout_s
        answers = [worker.answer(deadline - time.monotonic()) for worker in self._workers]
        after = machine_times()
        pooled = [ns for answer in answers for ns in answer["samples_ns"]]
        own_s = sum(answer["cpu_ns"] for answer in answers) / NS_PER_S - self._cpu_s
        self._cpu_s += own_s
        return Measurement(
            samples_ns=tuple(pooled),
            memory_bytes=max(answer["memory_bytes"] for answer in answers),
            foreign_load=foreign_load(before, after, own_s),
        )


@contextmanager
def running(
    engine: Path, backend: str, threads: int, replicas: int, feeds: Sequence[Path]
) -> Iterator[Replicas]:
    """Start ``replicas`` workers on ``engine`` and wait until all have loaded it; end them on exit.

    ``feeds``: an ``.npz`` for each input that they are to be timed with.

    Raises BackendError where one cannot load it.
    """
    workers: list[_Worker] = []
    try:
        # Started one after the other, yet loading at the same time.
        workers.extend(_Worker(engine, backend, threads, feeds) for _ in range(replicas))
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        loaded = [worker.answer(deadline - time.monotonic()) for worker in workers]
        yield Replicas(workers, sum(answer["cpu_ns"] for answer in loaded) / NS_PER_S)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    def __init__(self, engine: Path, backend: str, threads: int, feeds: Sequence[Path]) -> None:
        job = {
            "engine": str(engine),
            "backend": backend,
            "threads": threads,
            "feeds": [str(feed) for feed in feeds],
        }
        self._engine = engine.name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "planner.profiling.worker", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, feed: int, samples: int) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"feed": feed, "samples": samples}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise BackendError(f"{self._engine}: the replica's process has died") from None

    def answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=max(timeout_s, 0.1))
        except queue.Empty:
            raise BackendError(
                f"{self._engine}: no answer from the replica in time; it seems to hang"
            ) from None
        if not line:
            code = self._process.wait()
            cause = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            raise BackendError(f"{self._engine}: the replica's process has died ({cause})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BackendError(answer["error"])
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # A pipe with unsent text complains when closed after the reader is gone.
                with suppress(OSError):
                    stream.close()
