"""One replica in a process of its own: loads an engine and times it when told to.

A crash or a hang of a native library ends this process and nothing else. The parent speaks JSON lines:
``{"feed": k, "samples": n}`` asks for n latencies with its k-th input; the answer holds ``samples_ns``,
``compute_ns``, ``memory_bytes`` and ``cpu_ns``, the process's CPU time so far. Having answered, the replica
keeps inferring untimed until the next line, so that its neighbours are measured under load to their last
sample; ``{"rest": true}``, which has no answer, makes it wait for that line. End of input ends the process.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from planner.backends import backend
from planner.backends.base import Feed, Session
from planner.errors import PlannerError, first_line
from planner.profiling.measure import sample, warm_up

TIMED = 10
"""Inferences of each turn that the device's own clock times."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    answers = _claim_stdout()
    job = json.loads(sys.argv[1])
    try:
        feeds = [_read(path) for path in job["feeds"]]
        with backend(job["backend"]).load(Path(job["engine"]), job["threads"]) as session:
            _answer(answers, {"cpu_ns": time.process_time_ns()})
            _serve(session, feeds, answers)
    except PlannerError as error:
        _answer(answers, {"error": str(error)})
    except Exception as error:
        _answer(answers, {"error": f"{Path(job['engine']).name}: {first_line(error)}"})


def _read(path: str) -> Feed:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _serve(session: Session, feeds: list[Feed], answers: TextIO) -> None:
    requests: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            requests.put(line)
        requests.put("")

    threading.Thread(target=read, daemon=True).start()
    warm: set[int] = set()
    while line := requests.get():
        request = json.loads(line)
        if "rest" in request:
            continue
        number, feed = request["feed"], feeds[request["feed"]]
        if number not in warm:
            warm_up(session, feed)
            warm.add(number)
        samples = sample(session, feed, request["samples"])
        answer = {
            "samples_ns": samples,
            "memory_bytes": _on_device(session) or _peak_memory_bytes(),
            "compute_ns": _compute_ns(session, feed),
            "cpu_ns": time.process_time_ns(),
        }
        _answer(answers, answer)
        while requests.empty():
            session.infer(feed)


def _compute_ns(session: Session, feed: Feed) -> float | None:
    """What the kernels alone take, the mean of a few inferences; None where the session cannot tell."""
    timed = getattr(session, "timed", None)
    if timed is None:
        return None
    total: int = sum(timed(feed).compute_ns for _ in range(TIMED))
    return total / TIMED


def _on_device(session: Session) -> int:
    """Memory of a GPU that the session takes; 0 where it runs on none, or does not tell."""
    told = getattr(session, "device_bytes", None)
    return told() if told else 0


def _claim_stdout() -> TextIO:
    """Keep stdout for answers; whatever a library prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _answer(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _peak_memory_bytes() -> int:
    """This process's high-water mark. On Linux getrusage would count the parent's, at the fork, too."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
