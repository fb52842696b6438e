"""A function in a process of its own: its answer, its errors, and its end."""

from __future__ import annotations

import ctypes
import os
import time

import numpy as np
import pytest

from planner.errors import BackendError, SpecError
from planner.profiling.apart import apart


def doubled(array: np.ndarray) -> np.ndarray:
    return array * 2


def sees() -> tuple[str | None, int]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()


def refuses() -> None:
    raise SpecError("plan.yaml: threads: expected 1")


def divides() -> float:
    return 1 / 0


def crashes() -> None:
    ctypes.string_at(0)


def hangs() -> None:
    time.sleep(60)


def test_the_answer_of_another_process() -> None:
    assert apart(doubled, np.arange(3)).tolist() == [0, 2, 4]
    visible, pid = apart(sees, gpu="MIG-1234")
    assert visible == "MIG-1234" and pid != os.getpid()


def test_our_errors_come_as_they_are() -> None:
    with pytest.raises(SpecError, match="threads: expected 1"):
        apart(refuses)


def test_other_errors_and_ends_are_the_backends() -> None:
    with pytest.raises(BackendError, match="ZeroDivisionError: division by zero"):
        apart(divides)
    with pytest.raises(BackendError, match=r"crashes: its process has died \(killed by signal 11\)"):
        apart(crashes)
    with pytest.raises(BackendError, match="no answer within 2 s"):
        apart(hangs, timeout_s=2)
