"""The quickstart profiled on a Ray cluster of three nodes on this machine, one of them killed in the middle.

    python benchmarks/ray_quickstart.py [PLAN.YAML [OUTPUT]]

Custom resources stand for kinds of device: one node is an `edge-box`, two are `cloud-box`es. While a task is
being measured on one of the two, its node is killed (SIGKILL). Every profile of both kinds must arrive, and
a second run must measure nothing. The latencies mean nothing: the nodes share the machine. OUTPUT
is a temporary folder unless given; variants that are there already are not made again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart" / "plan.yaml"
STORE_BYTES = 100 << 20
"""Of objects, for each node."""
TOO_LONG_S = 1800.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the two runs printed with ``--json``, and replicas of the killed node that were left behind."""

    first: dict[str, Any]
    second: dict[str, Any]
    killed_after_s: float
    took_s: float
    left_behind: tuple[int, ...]

    def profiles(self) -> set[tuple[str, str]]:
        """Device and configuration of what arrived."""
        return {(p["device"], p["configuration"]) for p in self.first["profiles"]}


def profile_with_a_loss(spec: Path, output: Path) -> Outcome:
    """Profile ``spec`` on three nodes and kill one of the two that are alike as soon as it measures."""
    # For this process; the nodes that it starts inherit it.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_node("edge-box") | {"include_dashboard": False})
    try:
        doomed = cluster.add_node(**_node("cloud-box"))
        cluster.add_node(**_node("cloud-box"))
        begin = time.monotonic()
        command = [sys.executable, "-m", "planner", "profile", str(spec), "-o", str(output), "--json"]
        command += ["--ray", cluster.address]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        raylet = doomed.all_processes["raylet"][0].process.pid
        replicas = _await_replicas(raylet, running)
        killed = time.monotonic() - begin
        cluster.remove_node(doomed, allow_graceful=False)
        printed, _ = running.communicate(timeout=TOO_LONG_S)
        if running.returncode:
            raise SystemExit(f"planner profile ended with {running.returncode}")
        took = time.monotonic() - begin
        again = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=TOO_LONG_S)
        left = tuple(pid for pid in replicas if _is_replica(pid))
        return Outcome(json.loads(printed), json.loads(again.stdout), killed, took, left)
    finally:
        cluster.shutdown()


def _node(kind: str) -> dict[str, Any]:
    resources = {f"device:{kind}": 1}
    return {"num_cpus": 1, "resources": resources, "object_store_memory": STORE_BYTES}


def _await_replicas(raylet: int, running: subprocess.Popen[str]) -> list[int]:
    """The replicas that a node has started, as soon as there are some."""
    deadline = time.monotonic() + TOO_LONG_S
    while time.monotonic() < deadline and running.poll() is None:
        replicas = [pid for pid in descendants(raylet) if _is_replica(pid)]
        if replicas:
            return replicas
        time.sleep(0.1)
    raise SystemExit("no task reached the node that was to be killed")


def descendants(root: int) -> list[int]:
    """Processes below ``root``, from /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, open_ = [], [root]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def _is_replica(pid: int) -> bool:
    try:
        return b"planner.profiling.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def main() -> None:
    spec = Path(sys.argv[1]) if len(sys.argv) > 1 else QUICKSTART
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        output = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(folder) / "plan"
        outcome = profile_with_a_loss(spec, output)
    print(f"killed a node after {outcome.killed_after_s:.0f} s, everything took {outcome.took_s:.0f} s")
    for note in outcome.first["notes"]:
        print(note)
    kinds = {device for device, _ in outcome.profiles()}
    for device in sorted(kinds):
        print(f"{device}: {sum(d == device for d, _ in outcome.profiles())} profiles")
    for rejection in outcome.first["rejections"]:
        print(f"rejected: {rejection}")
    print(f"a second run: {outcome.second['measured']} measured, {outcome.second['reused']} from the store")
    # What is over the SLO by its probe has arrived too: with that, and nothing else failed.
    measured = [r for r in outcome.first["rejections"] if r["stage"] == "profile"]
    over = {
        tuple(r["subject"].rsplit(" on ", 1)[::-1])
        for r in measured
        if r["reason"].startswith("over the SLO")
    }
    arrived = outcome.profiles() | over
    by_kind = [{c for d, c in arrived if d == kind} for kind in ("edge-box", "cloud-box")]
    complete = bool(by_kind[0]) and by_kind[0] == by_kind[1] and len(over) == len(measured)
    if not complete or not outcome.first["notes"] or outcome.second["measured"] or outcome.left_behind:
        raise SystemExit("FAILED")
    print("every profile arrived")


if __name__ == "__main__":
    main()
