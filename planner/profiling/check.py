"""Whether a backend can run here, found out in a process of its own: a crash or a hang is an answer too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.backends import backend
from planner.backends.base import Backend, Feed
from planner.domain.model import BoundInput
from planner.errors import PlannerError, cause_of_death

TIMEOUT_S = 300.0
"""Long: a TensorRT backend builds its engine first."""


@dataclass(frozen=True, slots=True)
class Check:
    """What came of asking ``backend``.

    ``missing``: what it lacks here, and how to get it. ``failure``: it lacks nothing, and yet failed.
    ``outputs`` of the model that it was to run, where it did.
    """

    backend: str
    runs_on: str
    libraries: tuple[tuple[str, str], ...] = ()
    missing: str | None = None
    failure: str | None = None
    outputs: tuple[np.ndarray, ...] = ()

    @property
    def can_run(self) -> bool:
        return self.missing is None and self.failure is None


def check(name: str, engine: Path | None = None, feed: Feed | None = None) -> Check:
    """Ask ``name`` whether it can run and, with an ``engine``, for its outputs on ``feed``."""
    runs_on = backend(name).runs_on
    with tempfile.TemporaryDirectory(prefix="planner-") as scratch:
        job = {"backend": name, "folder": scratch, "engine": str(engine) if engine else None}
        if feed is not None:
            _write(Path(scratch) / "feed.npz", list(feed.items()))
        try:
            run = subprocess.run(
                [sys.executable, "-m", "planner.profiling.check", json.dumps(job)],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        except subprocess.TimeoutExpired:
            return Check(name, runs_on, failure=f"no answer within {TIMEOUT_S:.0f} s; it seems to hang")
        answer = Path(scratch) / "answer.json"
        if not answer.is_file():
            return Check(name, runs_on, failure=f"its process died ({cause_of_death(run.returncode)})")
        told = json.loads(answer.read_text(encoding="utf-8"))
        return Check(
            backend=name,
            runs_on=runs_on,
            libraries=tuple((library, version) for library, version in told["libraries"]),
            missing=told["missing"],
            failure=told["failure"],
            outputs=_read(Path(scratch) / "outputs.npz"),
        )


def main() -> None:
    """In the process of its own."""
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    told: dict[str, object] = {"missing": None, "failure": None, "libraries": []}
    try:
        found = backend(job["backend"])
        told["missing"] = found.missing()
        if told["missing"] is None:
            told["libraries"] = found.libraries()
            if job["engine"]:
                with np.load(folder / "feed.npz", allow_pickle=False) as arrays:
                    feed = {name: arrays[name] for name in arrays.files}
                engine = loadable(found, Path(job["engine"]), feed, folder)
                with found.load(engine, threads=1) as session:
                    outputs = session.infer(feed)
                _write(folder / "outputs.npz", [(str(i), array) for i, array in enumerate(outputs)])
    except PlannerError as error:
        told["failure"] = str(error)
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        told["failure"] = f"{type(error).__name__}: {first}"
    (folder / "answer.json").write_text(json.dumps(told), encoding="utf-8")


def loadable(found: Backend, model: Path, feed: Feed, folder: Path) -> Path:
    """What ``found`` loads: the ONNX model itself, or the engine that TensorRT builds of it in ``folder``.

    The first axis of every input is taken for the batch.
    """
    from planner.backends.tensorrt import TENSORRT, Order, engine_for

    if found.name not in TENSORRT:
        return model
    inputs = tuple(BoundInput(n, a.dtype.name, (1, *a.shape[1:]), 0) for n, a in feed.items())
    batch_size = len(next(iter(feed.values())))
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    return engine_for(found.name, model, Order(sha256, inputs, (batch_size,)), folder).engine


def _write(path: Path, arrays: list[tuple[str, np.ndarray]]) -> None:
    np.savez(path, **dict(arrays))  # type: ignore[arg-type]


def _read(path: Path) -> tuple[np.ndarray, ...]:
    if not path.is_file():
        return ()
    with np.load(path, allow_pickle=False) as arrays:
        return tuple(arrays[str(index)] for index in range(len(arrays.files)))


if __name__ == "__main__":
    main()
