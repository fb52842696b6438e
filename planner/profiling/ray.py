"""The nodes of a Ray cluster, and tasks for them. The only importer of Ray, and only when asked for.

The Python of every node must have the planner, in the version of here: tasks are sent by name.
Source of the calls: https://docs.ray.io/en/latest/ray-core/api/core.html
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

from planner.errors import InputError, MissingDependencyError, first_line
from planner.profiling.bench import Job
from planner.profiling.cluster import Node, Said, Slot, check_planner
from planner.profiling.dispatch import Answer, Lost, Order, measure_group
from planner.profiling.environment import usable_cores
from planner.variants import external_locations

LOCAL = "local"
"""In place of an address: a cluster of this machine only, which ends with the program."""
CONNECT_S = 10.0
ANSWER_S = 120.0
"""A node that has not started a Python process and answered by then takes no part."""


@contextmanager
def connected(address: str) -> Iterator[RayCluster]:
    """Join the cluster at ``address``: ``host:port`` on one of its nodes, ``ray://host:port`` elsewhere.

    Raises MissingDependencyError without Ray, InputError where no cluster answers there.
    """
    # Whoever profiles has not agreed to report it; Ray's default is to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingDependencyError("Ray is not installed; pip install planner[ray]") from None
    _check_answers(address)
    here = {"num_cpus": usable_cores(), "include_dashboard": False} if address == LOCAL else {}
    # Ray writes of lost nodes on stdout, where a report may be expected; it has no setting against it.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL", **here)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"--ray {address}: cannot join the cluster ({first_line(error)}); give the address of a "
                f"running one, of this Ray ({ray.__version__}), or `local`"
            ) from None
        try:
            yield RayCluster(ray)
        finally:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray waits for minutes for a cluster that is not there; InputError at once is better."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--ray {address}: nothing answers there ({first_line(error)}); start the cluster with "
            "`ray start --head` and give the address that it prints, or use `local`"
        ) from None


class RayCluster:
    """``dispatch.Cluster`` over Ray. Files travel once, whichever tasks and nodes read them."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._stored: dict[Path, Any] = {}
        self._sent: dict[Hashable, str] = {}
        """The node's id of each ticket."""

    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are alive, in a fixed order."""
        found = [
            Node(node["NodeID"], node["NodeManagerAddress"], dict(node["Resources"]))
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        return tuple(sorted(found, key=lambda node: (node.address, node.id)))

    def ask(self, nodes: Sequence[Node], backends: Sequence[str]) -> dict[Node, Said | str]:
        """What each node says of itself, or why it does not answer.

        Raises MissingDependencyError or InputError where a node's planner is not that of here.
        """
        here = version("planner")

        # Nested, so that Ray sends its code: a node without the planner shall be able to say so.
        def look() -> tuple[str | None, Any]:
            from importlib.metadata import PackageNotFoundError, version

            try:
                there = version("planner")
            except PackageNotFoundError:
                return None, None
            if there != here:
                return there, None
            from planner.profiling.cluster import introduce

            return there, introduce(backends)

        asked = {node: self._on(look, node.id, num_cpus=0).remote() for node in nodes}
        said: dict[Node, Said | str] = {}
        for node, reference in asked.items():
            try:
                there, words = self._ray.get(reference, timeout=ANSWER_S)
            except self._ray.exceptions.RayError as error:
                said[node] = first_line(error)
                continue
            check_planner(node.address, there, here)
            said[node] = words
        return said

    def send(self, order: Order, jobs: Sequence[Job], slot: Slot) -> Hashable:
        engine = self._put(jobs[0].engine, _engine_files)
        feeds = [self._put(job.feed, Path.read_bytes) for job in jobs]
        task = self._on(
            measure_group,
            slot.node.id,
            num_cpus=slot.cpus,
            num_gpus=slot.gpus,
            resources=dict(slot.resources),
        )
        ticket: Hashable = task.remote(order, engine, *feeds)
        self._sent[ticket] = slot.node.id
        return ticket

    def next(self, tickets: Collection[Hashable]) -> tuple[Hashable, Answer | Lost]:
        (ticket, *_), _ = self._ray.wait(list(tickets), num_returns=1)
        exceptions = self._ray.exceptions
        try:
            answer: Answer = self._ray.get(ticket)
        except exceptions.RayTaskError as error:  # raised by the task itself: it would be again
            return ticket, Answer((), first_line(error.cause or error))
        except exceptions.RayError as error:
            crashed = isinstance(error, exceptions.WorkerCrashedError | exceptions.OutOfMemoryError)
            alive = any(node.id == self._sent[ticket] for node in self.nodes())
            return ticket, Lost(first_line(error), gone=not (crashed and alive))
        return ticket, answer

    def _on(self, function: Any, node: str, **reserved: Any) -> Any:
        """``function`` as a task for that node. Repeating is up to the caller, who tells."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        return self._ray.remote(function).options(max_retries=0, scheduling_strategy=there, **reserved)

    def _put(self, path: Path, read: Any) -> Any:
        if path not in self._stored:
            self._stored[path] = self._ray.put(read(path))
        return self._stored[path]


def _engine_files(path: Path) -> dict[str, bytes]:
    """The engine and its external data, by their places relative to its folder."""
    locations = (path.name, *external_locations(path))
    return {location: (path.parent / location).read_bytes() for location in locations}
