"""One run of MLPerf LoadGen's Server scenario: against a batcher with its engines, or an endpoint.

LoadGen schedules Poisson arrivals, times each request from when it was to come until it is answered, and
judges the run by rules of its own: the latency bound at its percentile, a least duration and number of
queries, and early stopping, which asks for so few late ones that chance cannot explain them away.

Everything here is for a process of its own (``apart``): it pins itself to hardware threads that the engines
do not get, since whoever makes the load must not take the time of whoever serves it.

Source: https://github.com/mlcommons/inference/tree/master/loadgen (README, docs/src) and its detail log.
"""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np

from planner.backends import Feed
from planner.errors import BackendError, InputError, MissingDependencyError
from planner.serving.batcher import Batched, Batcher
from planner.serving.engine import EngineProcess
from planner.serving.protocol import HEADER_LENGTH, OCTETS
from planner.serving.tensors import DTYPES, to_raw
from planner.units import NS_PER_S

LEAST_QUERIES = 100
"""LoadGen's own; how many it really takes early stopping decides."""
WAIT_S = 60.0
CONNECTIONS = 64
UNLOADED = 100
"""Requests one by one that the overhead is measured by, and as many batches of each size."""
PAUSE, LONGEST_PAUSE_S = 2.0, 0.01
"""The mean pause between requests where they are few: in inferences, and at most; longer ones slow an engine
down no further."""
WARM = 20
"""Batches of one request at the start."""


@dataclass(frozen=True, slots=True)
class Engines:
    """One replica, as the plan has it; ``rows``: an ``.npz`` whose arrays hold requests along their first
    axis, each as it is sent: without the batch axis where there is one, which ``batched`` tells."""

    engine: Path
    backend: str
    threads: int
    instances: int
    batch_sizes: tuple[int, ...]
    queue_delay_ns: int
    batched: bool
    rows: Path


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service that speaks the Open Inference Protocol over HTTP. ``rows`` and ``batched`` as in
    ``Engines``; ``datatypes``: of each input."""

    url: str
    model: str
    batched: bool
    rows: Path
    datatypes: tuple[tuple[str, str], ...]


Target = Engines | Endpoint


@dataclass(frozen=True, slots=True)
class Load:
    """What LoadGen is told: the rate, its latency bound, how long at least, and the seed of the arrivals."""

    rate_rps: float
    percentile: float
    latency_ns: int
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Run:
    """``valid`` and ``percentile_ns`` are LoadGen's, ``reasons`` its words. ``sojourn_ns``: of each request,
    in the order in which they came; ``batches``: of an endpoint unknown. ``pinned``: the engines had hardware
    threads that nothing of the load generator ran on. ``foreign_load``: the share of the machine that others
    kept busy meanwhile, or that its host withheld; None where that is not known."""

    load: Load
    valid: bool
    reasons: str
    percentile_ns: float
    came_ns: np.ndarray
    sojourn_ns: np.ndarray
    batches: tuple[Batched, ...]
    failed: int
    pinned: bool
    foreign_load: float | None = None

    @property
    def arrival_cv(self) -> float:
        """Of the times between requests."""
        gaps = np.diff(self.came_ns)
        return float(gaps.std() / gaps.mean())

    @property
    def rate_rps(self) -> float:
        return float((len(self.came_ns) - 1) / (self.came_ns[-1] - self.came_ns[0]) * NS_PER_S)


@dataclass(frozen=True, slots=True)
class Overhead:
    """Of an unloaded replica, by batch size: ``held_ns`` is how long a batch occupied an instance, ``hop_ns``
    what of it was not the inference; ``wake_ns``: of each request, what came before and after."""

    held_ns: dict[int, tuple[int, ...]]
    hop_ns: dict[int, tuple[int, ...]]
    wake_ns: tuple[int, ...]
    pinned: bool


Answered = Callable[[bool], None]
"""Told whether the answer was one."""


class _Served(Protocol):
    rows: int
    """How many different requests there are."""
    batches: list[Batched]
    pinned: bool

    def ask(self, row: int, answered: Answered) -> None: ...


def drive(target: Target, load: Load) -> Run:
    """Raises BackendError where an engine cannot be loaded, InputError where an endpoint cannot be reached,
    MissingDependencyError without LoadGen."""
    lg = _loadgen()
    came: list[int] = []
    sojourn: list[int] = []
    failed = 0

    with _serving(target) as served, tempfile.TemporaryDirectory(prefix="planner-") as folder:

        def issue(queries: Sequence[Any]) -> None:
            for query in queries:
                now = perf_counter_ns()
                number = len(came)
                came.append(now)
                sojourn.append(-1)
                served.ask(query.index, completes(query.id, number, now))

        def completes(identity: int, number: int, now: int) -> Answered:
            def answered(right: bool) -> None:
                nonlocal failed
                lg.QuerySamplesComplete([lg.QuerySampleResponse(identity, 0, 0)])
                sojourn[number] = perf_counter_ns() - now
                failed += not right

            return answered

        sut = lg.ConstructSUT(issue, lambda: None)
        library = lg.ConstructQSL(served.rows, served.rows, lambda samples: None, lambda samples: None)
        try:
            lg.StartTestWithLogSettings(sut, library, _settings(lg, load), _logs(lg, folder))
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(sut)
        # The last batch is told of after its requests are answered.
        time.sleep(0.05)
        told = _detail(Path(folder) / "mlperf_log_detail.txt")
        batches, pinned = tuple(served.batches), served.pinned
    return Run(
        load=load,
        valid=told["result_validity"] == "VALID" and not failed,
        reasons=f"{failed} requests failed" if failed else str(told.get("result_invalid_reason", "")).strip(),
        percentile_ns=float(told[f"result_{load.percentile:.2f}_percentile_latency_ns"]),
        came_ns=np.array(came, np.int64),
        sojourn_ns=np.array(sojourn, np.int64),
        batches=batches,
        failed=failed,
        pinned=pinned,
    )


def overhead(target: Engines, count: int = UNLOADED) -> Overhead:
    """What the batcher and the way to the engine's process add, measured without any load.

    Half of the batches of each size come right after the one before, half after a pause, as when requests
    are few: an engine that stood still is not as fast at once. Each is of other requests.
    """
    rng = np.random.default_rng(0)
    with _serving(target) as served:
        assert isinstance(served, _Replica)
        for size in target.batch_sizes:
            served.full(size, 10)
        first = served.told(10 * len(target.batch_sizes))[:10]
        inference_s = float(np.median([batch.held_ns for batch in first])) / NS_PER_S
        gap_s = min(PAUSE * inference_s, LONGEST_PAUSE_S)
        for turn in range(count):
            for size in target.batch_sizes:
                if turn % 2:
                    time.sleep(rng.exponential(gap_s))
                served.full(size, 1)
        batches = served.told(count * len(target.batch_sizes))
        sojourns = []
        for _ in range(count):
            time.sleep(gap_s)
            sojourns.append(served.full(1, 1))
        alone = [batch.held_ns for batch in served.told(count)]
        pinned = served.pinned
    held = {size: [b for b in batches if b.padded_to == size] for size in target.batch_sizes}
    return Overhead(
        held_ns={size: tuple(b.held_ns for b in its) for size, its in held.items()},
        hop_ns={size: tuple(b.held_ns - b.engine_ns for b in its) for size, its in held.items()},
        wake_ns=tuple(max(s - h, 0) for s, h in zip(sojourns, alone, strict=True)),
        pinned=pinned,
    )


@contextmanager
def _serving(target: Target) -> Iterator[_Served]:
    if isinstance(target, Endpoint):
        yield _Remote(target)
        return
    replica = _Replica(target)
    try:
        yield replica
    finally:
        replica.close()


class _Replica:
    """The plan's engines behind its batcher, in this process and its children."""

    def __init__(self, target: Engines) -> None:
        stacked, self.rows = _stacked(target.rows)
        self._feeds: list[Feed] = [
            {name: array[k : k + 1] if target.batched else array[k] for name, array in stacked.items()}
            for k in range(self.rows)
        ]
        self._batched = target.batched
        self._at = 0
        self.batches: list[Batched] = []
        own, engines = split_cores(_cores(), target.threads * target.instances)
        self.pinned = bool(own)
        if own:
            os.sched_setaffinity(0, own)
        shares = [engines[k * target.threads : (k + 1) * target.threads] for k in range(target.instances)]
        left = list(shares)

        def start() -> EngineProcess:
            # A restarted engine may have any of them.
            cores = left.pop(0) if left else engines
            return EngineProcess(target.engine, target.backend, target.threads, cores=cores)

        self._batcher = Batcher(
            start,
            target.batch_sizes,
            instances=target.instances,
            queue_delay_ns=target.queue_delay_ns,
            batched=target.batched,
            max_waiting=1 << 30,
            observe=self.batches.append,
        )
        self.full(1, WARM)
        self.told(WARM)

    def told(self, count: int) -> list[Batched]:
        """The batches since the last call, as soon as they are ``count``: one is told of after it is done."""
        until = time.monotonic() + WAIT_S
        while len(self.batches) < count and time.monotonic() < until:
            time.sleep(0.001)
        found = list(self.batches)
        self.batches.clear()
        return found

    def ask(self, row: int, answered: Answered) -> None:
        self._batcher.submit(self._feeds[row], lambda got: answered(not isinstance(got, Exception)))

    def full(self, size: int, count: int) -> int:
        """``count`` batches of ``size``, one after the other; ns from asking the last to its answer."""
        return [self._once(*self._next(size if self._batched else 1)) for _ in range(count)][-1]

    def _next(self, size: int) -> tuple[Feed, int]:
        feeds = [self._feeds[(self._at + k) % self.rows] for k in range(size)]
        self._at += size
        if size == 1:
            return feeds[0], 1
        return {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}, size

    def _once(self, feed: Feed, size: int) -> int:
        done: SimpleQueue[tuple[int, list[np.ndarray] | Exception]] = SimpleQueue()
        begin = perf_counter_ns()
        self._batcher.submit(feed, lambda got: done.put((perf_counter_ns(), got)), size)
        at, got = done.get()
        if isinstance(got, Exception):
            raise BackendError(str(got))
        return at - begin

    def close(self) -> None:
        self._batcher.close()


class _Remote:
    """Connections to an endpoint that stay open, each with a thread."""

    def __init__(self, target: Endpoint) -> None:
        self.batches: list[Batched] = []
        self.pinned = False
        self._target = target
        self._asked: SimpleQueue[tuple[int, Answered]] = SimpleQueue()
        stacked, self.rows = _stacked(target.rows)
        self._bodies = [_body(target, stacked, k) for k in range(self.rows)]
        connection = self._connect()
        for k in range(min(self.rows, 20)):
            status, answer = self._post(connection, k)
            if status != 200:
                raise InputError(
                    f"{target.url}: {target.model}: {status}: {answer[:200].decode(errors='replace')}"
                )
        connection.close()
        for _ in range(CONNECTIONS):
            threading.Thread(target=self._serve, daemon=True).start()

    def ask(self, row: int, answered: Answered) -> None:
        self._asked.put((row, answered))

    def _serve(self) -> None:
        connection = self._connect()
        while True:
            row, answered = self._asked.get()
            try:
                right = self._post(connection, row)[0] == 200
            except (OSError, InputError, http.client.HTTPException):
                connection.close()
                right = False
            answered(right)

    def _post(self, connection: http.client.HTTPConnection, row: int) -> tuple[int, bytes]:
        head, raw = self._bodies[row]
        path = f"{urlsplit(self._target.url).path.rstrip('/')}/v2/models/{self._target.model}/infer"
        headers = {HEADER_LENGTH: str(len(head)), "Content-Type": OCTETS}
        try:
            connection.request("POST", path, head + raw, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"{self._target.url}: cannot be reached ({reason})") from None

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._target.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=WAIT_S)


def _body(target: Endpoint, stacked: dict[str, np.ndarray], row: int) -> tuple[bytes, bytes]:
    """The JSON and the raw tensors of one request."""
    inputs, raws = [], []
    for name, datatype in target.datatypes:
        array = stacked[name][row : row + 1] if target.batched else stacked[name][row]
        if datatype in DTYPES:
            array = array.astype(DTYPES[datatype], copy=False)
        raws.append(to_raw(array, datatype))
        parameters = {"binary_data_size": len(raws[-1])}
        inputs.append(
            {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": parameters}
        )
    content = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    return json.dumps(content).encode(), b"".join(raws)


def split_cores(cores: Sequence[int], wanted: int) -> tuple[list[int], list[int]]:
    """Hardware threads for whoever makes the load, and ``wanted`` for the engines; both empty where there are
    not enough for both."""
    if len(cores) <= wanted:
        return [], []
    return list(cores[: len(cores) - wanted]), list(cores[len(cores) - wanted :])


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _stacked(rows: Path) -> tuple[dict[str, np.ndarray], int]:
    """The arrays of an ``.npz``, and how many requests they hold."""
    with np.load(rows, allow_pickle=False) as arrays:
        stacked = {name: arrays[name] for name in arrays.files}
    return stacked, len(next(iter(stacked.values())))


def _loadgen() -> Any:
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise MissingDependencyError(
            f"--live needs MLPerf LoadGen ({error}); install it with: pip install 'planner[live]'"
        ) from None
    return mlperf_loadgen


def _settings(lg: Any, load: Load) -> Any:
    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.Server
    settings.mode = lg.TestMode.PerformanceOnly
    settings.server_target_qps = load.rate_rps
    settings.server_target_latency_ns = load.latency_ns
    settings.server_target_latency_percentile = load.percentile / 100
    settings.min_duration_ms = round(load.seconds * 1000)
    settings.min_query_count = LEAST_QUERIES
    # Each run has arrivals of its own.
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = load.seed
    return settings


def _logs(lg: Any, folder: str) -> Any:
    logs = lg.LogSettings()
    logs.log_output.outdir = folder
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    return logs


def _detail(path: Path) -> dict[str, Any]:
    """Key and value of every line of LoadGen's detail log."""
    told: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        _, found, content = line.partition(":::MLLOG ")
        if found:
            entry = json.loads(content)
            told[entry["key"]] = entry["value"]
    if "result_validity" not in told:
        raise BackendError("LoadGen's log holds no result; the run did not end")
    return told
