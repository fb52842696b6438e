"""Copies of one engine, each in its own process, measured side by side."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.domain.conditions import NOT_TOLD, Conditions
from planner.errors import BackendError, cause_of_death
from planner.profiling.apart import environment, only_sees
from planner.profiling.environment import foreign_load, machine_times
from planner.profiling.sensors import Read, conditions, reading
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
    conditions: Conditions = NOT_TOLD


class Replicas:
    """Running worker processes, all with the same engine and inputs. Made by ``running``."""

    def __init__(self, workers: list[_Worker], cpu_s: float, read: Read) -> None:
        self._workers = workers
        self._cpu_s, self._read = cpu_s, read
        self._warm: set[int] = set()

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the worker processes."""
        return tuple(worker.pid for worker in self._workers)

    def rest(self) -> None:
        """Stand still until the next measurement."""
        for worker in self._workers:
            worker.tell({"rest": True})

    def measure(self, samples: int, timeout_s: float, feed: int = 0) -> Measurement:
        """At least ``samples`` latencies of the input number ``feed``, an equal share from each replica, all
        under load together.

        Raises BackendError where a replica fails, dies, or does not answer within ``timeout_s``.
        """
        share = -(-samples // len(self._workers))
        sensed, before = self._read(), machine_times()
        for worker in self._workers:
            worker.ask(feed, share)
        deadline = time.monotonic() + timeout_s
        answers = [worker.answer(deadline - time.monotonic()) for worker in self._workers]
        after, felt = machine_times(), self._read()
        pooled = [ns for answer in answers for ns in answer["samples_ns"]]
        own_s = sum(answer["cpu_ns"] for answer in answers) / NS_PER_S - self._cpu_s
        self._cpu_s += own_s
        # Each infers all the time, also when it has its share of samples.
        inferences = (
            (felt.seconds - sensed.seconds) * len(self._workers) * len(pooled) / sum(pooled) * NS_PER_S
        )
        under = conditions(sensed, felt, inferences)
        computed = [answer["compute_ns"] for answer in answers if answer["compute_ns"] is not None]
        if computed:
            under = replace(under, gpu_compute_ns=sum(computed) / len(computed))
        if feed not in self._warm:
            # The first time begins with warming up.
            under = replace(under, cpu_joules=None, gpu_joules=None)
            self._warm.add(feed)
        return Measurement(
            samples_ns=tuple(pooled),
            memory_bytes=max(answer["memory_bytes"] for answer in answers),
            foreign_load=foreign_load(before, after, own_s),
            conditions=under,
        )


@contextmanager
def running(
    engine: Path, backend: str, threads: int, replicas: int, feeds: Sequence[Path], gpu: str = ""
) -> Iterator[Replicas]:
    """Start ``replicas`` workers on ``engine`` and wait until all have loaded it; end them on exit.

    ``feeds``: an ``.npz`` for each input that they are to be timed with; ``gpu``: the UUID of the one to use.

    Raises BackendError where one cannot load it.
    """
    workers: list[_Worker] = []
    try:
        # Started one after the other, yet loading at the same time.
        workers.extend(_Worker(engine, backend, threads, feeds, gpu) for _ in range(replicas))
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        loaded = [worker.answer(deadline - time.monotonic()) for worker in workers]
        with reading(gpu) as read:
            yield Replicas(workers, sum(answer["cpu_ns"] for answer in loaded) / NS_PER_S, read)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    def __init__(self, engine: Path, backend: str, threads: int, feeds: Sequence[Path], gpu: str) -> None:
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
            env=environment(only_sees(gpu)),
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, feed: int, samples: int) -> None:
        self.tell({"feed": feed, "samples": samples})

    def tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None

    def answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=max(timeout_s, 0.1))
        except queue.Empty:
            raise BackendError(
                f"{self._engine}: no answer from the replica in time; it seems to hang"
            ) from None
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BackendError(answer["error"])
        return answer

    def _died(self) -> BackendError:
        """Of a process that closed its end of a pipe: most often it has not quite ended yet."""
        self._process.kill()
        cause = cause_of_death(self._process.wait())
        return BackendError(f"{self._engine}: the replica's process has died ({cause})")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # A pipe with unsent text complains when closed after the reader is gone.
                with suppress(OSError):
                    stream.close()
