"""Joining a Ray cluster that is not there, or without Ray."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from planner.errors import InputError, MissingDependencyError
from planner.profiling.ray import connected


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install planner\[ray\]"), connected("local"):
        pass


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_an_address_where_nothing_answers_is_told_at_once(prefix: str) -> None:
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and no listen: connections are refused
        address = f"{prefix}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"--ray {address}: nothing answers there"), connected(address):
            pass


def test_ray_is_imported_only_when_asked_for() -> None:
    code = "import sys, planner.pipeline, planner.cli, planner.profiling.ray; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
