"""A function in a process of its own, on one GPU: what a native library does to its process ends there.

Not ``multiprocessing``: its fresh processes run the caller's script again, whatever that does.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from planner.errors import BackendError, PlannerError, cause_of_death, first_line

Result = TypeVar("Result")


def only_sees(gpu: str) -> dict[str, str]:
    """What makes a process see the GPU, or slice, of that UUID alone; empty: as it is.

    Source: CUDA_VISIBLE_DEVICES, https://docs.nvidia.com/cuda/cuda-c-programming-guide/#env-vars
    """
    return {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}


def apart(
    function: Callable[..., Result], *arguments: object, gpu: str = "", timeout_s: float = 3600.0
) -> Result:
    """``function(*arguments)``; it must be of a module, and all values such as can be pickled.

    Raises what it raises of the planner's errors, and BackendError where its process dies or hangs.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        asked, answer = Path(folder) / "asked", Path(folder) / "answer"
        asked.write_bytes(pickle.dumps((name, arguments)))
        try:
            run = subprocess.run(
                [sys.executable, "-m", "planner.profiling.apart", str(asked), str(answer)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=timeout_s,
                env=environment(only_sees(gpu)),
            )
        except subprocess.TimeoutExpired:
            raise BackendError(f"{function.__name__}: no answer within {timeout_s:g} s; it hangs") from None
        if not answer.is_file():
            cause = cause_of_death(run.returncode)
            raise BackendError(f"{function.__name__}: its process has died ({cause})")
        result, error = pickle.loads(answer.read_bytes())
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's, for one that is to find the same modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **more}


def main() -> None:
    asked, answer = Path(sys.argv[1]), Path(sys.argv[2])
    name, arguments = pickle.loads(asked.read_bytes())
    module, _, attribute = name.partition(":")
    result, error = None, None
    try:
        result = getattr(__import__(module, fromlist=[attribute]), attribute)(*arguments)
    except PlannerError as found:
        error = found
    except Exception as found:
        error = BackendError(f"{attribute}: {type(found).__name__}: {first_line(found)}")
    part = answer.with_suffix(".part")
    part.write_bytes(pickle.dumps((result, error)))
    part.rename(answer)


if __name__ == "__main__":
    main()
