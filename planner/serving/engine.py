"""An engine in a process of its own: a crash or a hang of a native library ends that process and no more.

Both ends speak pickle over the process's pipes: each of them is the planner.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.backends import Feed
from planner.errors import BackendError, cause_of_death
from planner.profiling.apart import environment, only_sees

LOAD_TIMEOUT_S = 300.0


class EngineDied(BackendError):
    """The engine's process has ended, or was ended because it hung."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """Outputs in the model's order; ``engine_ns``: the inference alone, by the engine's process's clock."""

    outputs: list[np.ndarray]
    engine_ns: int


class EngineProcess:
    """Loaded once it is made. ``cores``: the hardware threads that it is to run on; none: any.

    Not for several threads at once, but for ``kill``. Raises BackendError where it cannot be loaded.
    """

    def __init__(
        self,
        engine: Path,
        backend: str,
        threads: int,
        gpu: str = "",
        cores: Sequence[int] = (),
        load_timeout_s: float = LOAD_TIMEOUT_S,
    ) -> None:
        self._name = engine.name
        job = {"engine": str(engine), "backend": backend, "threads": threads, "cores": list(cores)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "planner.serving.worker", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(only_sees(gpu)),
        )
        overdue = threading.Timer(load_timeout_s, self._process.kill)
        overdue.daemon = True
        overdue.start()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise
        finally:
            overdue.cancel()

    @property
    def pid(self) -> int:
        return self._process.pid

    def infer(self, feed: Feed) -> Inferred:
        """One inference. Raises BackendError where the engine refuses it, EngineDied where it is no more."""
        assert self._process.stdin is not None
        try:
            pickle.dump(dict(feed), self._process.stdin, protocol=5)
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._died() from None
        outputs, engine_ns = self._answer()
        return Inferred(outputs, engine_ns)

    def kill(self) -> None:
        """End it at once, also from another thread; an inference under way raises EngineDied."""
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # A pipe with unsent bytes complains when closed after the reader is gone.
                with suppress(OSError):
                    stream.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            done, answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            raise self._died() from None
        if not done:
            raise BackendError(answer)
        return answer

    def _died(self) -> EngineDied:
        self._process.kill()
        cause = cause_of_death(self._process.wait())
        return EngineDied(f"{self._name}: the engine's process has died ({cause})")
