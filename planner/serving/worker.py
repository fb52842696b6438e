"""The engine's end of ``engine.EngineProcess``: loads, says so, and infers until its input ends.

Every answer is a pickled pair: whether it was done, and the outputs with the time they took in ns, or what
was wrong.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any, BinaryIO

from planner.backends import Session, backend
from planner.errors import first_line


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM):
        # Sent to all processes of a service at once; what waits is to be finished first.
        signal.signal(ignored, signal.SIG_IGN)
    answers = _claim_stdout()
    job = json.loads(sys.argv[1])
    engine = Path(job["engine"])
    try:
        if job["cores"] and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, job["cores"])
        with backend(job["backend"]).load(engine, job["threads"]) as session:
            _answer(answers, True, None)
            gc.freeze()
            _serve(session, sys.stdin.buffer, answers)
    except BrokenPipeError:
        pass
    except Exception as error:
        _answer(answers, False, _told(error, engine))


def _serve(session: Session, requests: BinaryIO, answers: BinaryIO) -> None:
    while True:
        try:
            feed = pickle.load(requests)
        except EOFError:
            return
        try:
            start = perf_counter_ns()
            outputs = session.infer(feed)
            took_ns = perf_counter_ns() - start
        except Exception as error:
            _answer(answers, False, first_line(error))
            continue
        _answer(answers, True, (outputs, took_ns))


def _told(error: Exception, engine: Path) -> str:
    text = first_line(error)
    return text if engine.name in text else f"{engine.name}: {text}"


def _claim_stdout() -> BinaryIO:
    """Keep stdout for answers; whatever a library prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _answer(answers: BinaryIO, done: bool, content: Any) -> None:
    pickle.dump((done, content), answers, protocol=5)
    answers.flush()


if __name__ == "__main__":
    main()
