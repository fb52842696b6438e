"""Latencies as profiles hold them, against those of MLPerf LoadGen and of OpenVINO's benchmark_app.

    python benchmarks/latency.py [LAUNCHES [BACKEND]]     # 8 by default: about a quarter of an hour

Two comparisons of the quickstart's model (batch 2, one thread), the same input on both sides:

onnxruntime   ours: a replica as it is profiled; theirs: LoadGen, SingleStream, around a session of its own
openvino      ours: a replica as it is profiled; theirs: benchmark_app, sync, one stream

Each side is a process of its own, warmed up as the profiler does it. The two take turns of a second,
again and again, each beginning every second round: what else goes on on the machine hits both alike. A side
that does not have the turn stands still. Both are launched anew several times, for where memory comes to lie
decides a few per cent. Of a launch's samples come the p50 and p99 of each side, and of these the ratio, ours
to theirs; told is its median over the launches, with its 95 % interval (bootstrap over launches, and rounds
within them). Not that of all samples together: their p99 would be that of the one launch in which others
disturbed most. Exit code 1 where one is not within 0.95 to 1.05.

benchmark_app is run as it is, by its own command line, but for three things: its only warm-up, a single
inference, is repeated as often as ours; its measuring loop is run once for each turn; and its latencies are
read raw, before it makes percentiles of them. They begin and end inside the library: what its Python binding
does with inputs and outputs, some tenths of a millisecond, is in ours and not in its own.

Needs mlcommons-loadgen (in planner[dev]). Where others compete for the cores, waiting for one is most of a
p99, and the interval says how little is known of it then.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from planner.domain.order_statistics import nearest_rank
from planner.profiling.environment import machine_times
from planner.profiling.measure import warm_up
from planner.profiling.replicas import running

QUICKSTART = Path(__file__).resolve().parents[1] / "examples" / "quickstart"
MODEL = QUICKSTART / "downloads" / "model.onnx"
INPUT, SHAPE = "bytes", (2, 2048)
PERCENTILES = (50.0, 99.0)
LAUNCHES = 8
ROUNDS = 24
SAMPLES = 50
RUN_IN_S = 0.05
"""A side that stood still begins its turn with inferring untimed: the other one's data are in the caches."""
THREADS = 1
WITHIN = 0.05
RESAMPLES = 1000
SEED = 0
MS = 1e6

Samples = Sequence[int]
Turn = Callable[[], Samples]
"""Latencies in ns, ``SAMPLES`` of them."""
Launch = Sequence[tuple[Samples, Samples]]
"""The rounds of two processes: ours, theirs."""


@contextmanager
def ours(backend: str, feed: Path) -> Iterator[Turn]:
    """The path that every profile takes, with one replica."""
    with running(MODEL, backend, THREADS, 1, [feed]) as replicas:
        (pid,) = replicas.pids

        def turn() -> Samples:
            # Between turns a replica keeps inferring, for the sake of its neighbours; here it would disturb.
            os.kill(pid, signal.SIGCONT)
            time.sleep(RUN_IN_S)
            taken = replicas.measure(SAMPLES, timeout_s=300).samples_ns
            os.kill(pid, signal.SIGSTOP)
            return taken

        turn()
        yield turn


@contextmanager
def theirs(tool: str, feed: Path) -> Iterator[Turn]:
    """``tool`` in a process of its own: this file again."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "stderr").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, tool, str(feed), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def turn() -> Samples:
            asked.write("turn\n")
            asked.flush()
            if line := answers.readline():
                return tuple(json.loads(line))
            errors.seek(0)
            sys.exit(f"{tool} failed:\n{errors.read()}")

        turn()
        yield turn
        asked.close()
        process.wait()


def loadgen(feed: dict[str, np.ndarray], folder: Path, answer: Callable[[Samples], None]) -> None:
    """LoadGen issues a query as soon as the one before is complete, and times from issue to completion.

    Source: https://github.com/mlcommons/inference/tree/master/loadgen, SingleStream; the latencies are those
    of its trace.
    """
    import mlperf_loadgen as lg
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])

    def issue(queries: Sequence[Any]) -> None:
        for query in queries:
            session.run(None, feed)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, 0, 0)])

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = SAMPLES
    settings.min_duration_ms = 0
    logs = lg.LogSettings()
    logs.log_output.outdir = str(folder)
    logs.enable_trace = True
    sut = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(1, 1, lambda samples: None, lambda samples: None)
    warm_up(_Warming(lambda: session.run(None, feed)), feed)
    for _ in sys.stdin:
        run_in(lambda: session.run(None, feed))
        lg.StartTestWithLogSettings(sut, library, settings, logs)
        # The trace is not always whole JSON; each query is one line.
        trace = (folder / "mlperf_log_trace.json").read_text()
        times = re.findall(r'"issue_start_ns":(\d+),"complete_ns":(\d+)', trace)
        assert len(times) == SAMPLES, f"LoadGen's trace holds {len(times)} queries"
        answer([int(end) - int(start) for start, end in times])


def benchmark_app(feed: dict[str, np.ndarray], folder: Path, answer: Callable[[Samples], None]) -> None:
    """Source: https://docs.openvino.ai, Benchmark Tool; ``openvino.tools.benchmark`` of the package."""
    from openvino.tools.benchmark.benchmark import Benchmark
    from openvino.tools.benchmark.main import main as app

    measure = Benchmark.sync_inference

    def first_infer(self: Any, requests: Any) -> float:
        given = requests[0].get_input_tensor(0).data
        assert np.array_equal(given, feed[INPUT]), "the app was to infer the same input"
        warm_up(_Warming(requests[0].infer), feed)
        return float(requests[0].latency)

    def sync_inference(self: Any, request: Any, data: Any) -> Any:
        for _ in sys.stdin:
            run_in(request.infer)
            found = measure(self, request, data)
            answer([round(ms * MS) for ms in found[0]])
        return found

    Benchmark.first_infer, Benchmark.sync_inference = first_infer, sync_inference
    np.save(folder / "input.npy", feed[INPUT])
    shape = ",".join(map(str, SHAPE))
    sys.argv = ["benchmark_app", "-m", str(MODEL), "-i", f"{INPUT}:{folder / 'input.npy'}"]
    sys.argv += ["-data_shape", f"{INPUT}[{shape}]", "-api", "sync", "-niter", str(SAMPLES)]
    # By a rule of its own it takes threads and pinning with no hint only; one stream is what the hint means.
    sys.argv += ["-hint", "none", "-nstreams", "1", "-nthreads", str(THREADS), "-pin", "NO"]
    sys.argv += ["-infer_precision", "f32"]
    app()


def run_in(run: Callable[[], object]) -> None:
    end = time.monotonic() + RUN_IN_S
    while time.monotonic() < end:
        run()


class _Warming:
    """Something to run, for the planner's warm-up."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run

    def infer(self, feed: object) -> list[np.ndarray]:
        self._run()
        return []


def launch(backend: str, tool: str, feed: Path) -> Launch:
    rounds = []
    with ours(backend, feed) as mine, theirs(tool, feed) as other:
        for number in range(ROUNDS):
            if number % 2:
                second = other()
                rounds.append((mine(), second))
            else:
                rounds.append((mine(), other()))
    return rounds


def of_side(one: Launch, side: int, percentile: float) -> int:
    return nearest_rank(sorted(ns for turns in one for ns in turns[side]), percentile)


def ratio(launches: Sequence[Launch], percentile: float) -> float:
    """The median of the launches' ratios."""
    return float(np.median([of_side(o, 0, percentile) / of_side(o, 1, percentile) for o in launches]))


def interval(launches: Sequence[Launch], percentile: float) -> tuple[float, float]:
    """95 %, by the percentile bootstrap: launches are drawn, and of each its rounds."""
    rng = np.random.default_rng(SEED)

    def drawn(things: Sequence[Any]) -> list[Any]:
        return [things[i] for i in rng.integers(len(things), size=len(things))]

    ratios = [ratio([drawn(one) for one in drawn(launches)], percentile) for _ in range(RESAMPLES)]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def compare(backend: str, tool: str, count: int, feed: Path) -> bool:
    """Measure and print; whether all ratios are within 5 % of 1."""
    before, begin = machine_times(), time.monotonic()
    launches = [launch(backend, tool, feed) for _ in range(count)]
    after, seconds = machine_times(), time.monotonic() - begin
    busy = ""
    if before and after:
        cores = (after.busy_s - before.busy_s) / seconds
        busy = f"; {cores:.1f} of {os.cpu_count()} cores busy, ours among them"
    print(
        f"{backend}, ours to {tool}: {count} launches of {ROUNDS} rounds of {SAMPLES} samples{busy}",
        flush=True,
    )
    within = True
    for percentile in PERCENTILES:
        mine, other = (
            float(np.median([of_side(one, side, percentile) for one in launches])) / MS for side in (0, 1)
        )
        found = ratio(launches, percentile)
        low, high = interval(launches, percentile)
        each = ", ".join(f"{ratio([one], percentile):.3f}" for one in launches)
        print(
            f"  p{percentile:<3g} {mine:7.3f} ms {other:7.3f} ms   ratio {found:.3f} "
            f"({low:.3f} to {high:.3f}); by launch {each}",
            flush=True,
        )
        within &= abs(found - 1) <= WITHIN
    return within


def serve(tool: str, feed: Path, folder: Path) -> None:
    """In the process of its own: stdout is for answers, whatever the tool prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def answer(samples: Samples) -> None:
        print(json.dumps(list(samples)), file=answers, flush=True)

    with np.load(feed) as arrays:
        {"loadgen": loadgen, "benchmark_app": benchmark_app}[tool](
            {name: arrays[name] for name in arrays.files}, folder, answer
        )


def main() -> None:
    if sys.argv[1:2] and not sys.argv[1].isdigit():
        serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else LAUNCHES
    subprocess.run([sys.executable, str(QUICKSTART / "fetch.py")], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        feed = Path(folder) / "feed.npz"
        array = np.random.default_rng(SEED).integers(0, 256, SHAPE).astype(np.int32)
        np.savez(feed, **{INPUT: array})  # type: ignore[arg-type]
        within = [
            compare(backend, tool, count, feed)
            for backend, tool in (("onnxruntime", "loadgen"), ("openvino", "benchmark_app"))
            if backend in (sys.argv[2:3] or [backend])
        ]
    print(f"All ratios within {1 - WITHIN:.2f} to {1 + WITHIN:.2f}: {'yes' if all(within) else 'NO'}")
    sys.exit(0 if all(within) else 1)


if __name__ == "__main__":
    main()
