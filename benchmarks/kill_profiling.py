"""`planner profile` killed with SIGKILL at random moments: the store reads clean each time, the run resumes.

    python benchmarks/kill_profiling.py [--kills 50] [--seed 0] [PLAN.YAML]

Without a plan.yaml: a small classifier made here, eight configurations. After each kill the store is read (no
file may be broken, no finished profile lost or shortened), and the replicas that the killed program leaves
behind must end by themselves. When a run gets to its end before it is killed, the profiles are deleted and it
begins anew. The last run is left in peace, and must find in the store all that was finished.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import StoreError
from planner.store import ProfileStore

ENDS_WITHIN_S = 20.0
"""What a replica may be doing when its program dies: loading, or a turn of samples."""


@dataclass(frozen=True, slots=True)
class Kill:
    """``stored``: profiles that the store held after it. ``replicas``: how many were left, and ended."""

    after_s: float
    stored: int
    replicas: int
    finished: bool
    """The run got to its end before."""


class Broken(Exception):
    """What must not happen."""


def kill_often(
    spec: Path, output: Path, kills: int, moments: random.Random, longest_s: float
) -> Iterator[Kill]:
    """Run and kill after up to ``longest_s``, ``kills`` times. Raises Broken where the store suffers."""
    store = ProfileStore(output / "profiles")
    done = 0
    while done < kills:
        before = samples(store)
        after = moments.uniform(0.5, longest_s)
        running = subprocess.Popen(command(spec, output), stdout=subprocess.PIPE, text=True)
        try:
            running.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            orphans = replicas_of(output)
            running.send_signal(signal.SIGKILL)
            running.communicate()
            await_end(output)
            found = samples(store)
            lost = [name for name, count in before.items() if found.get(name, 0) < count]
            if lost:
                raise Broken(f"finished profiles are lost: {', '.join(lost)}") from None
            done += 1
            yield Kill(after, len(found), len(orphans), False)
            continue
        if running.returncode:
            raise Broken(f"planner profile ended with {running.returncode}")
        yield Kill(after, len(samples(store)), 0, True)
        shutil.rmtree(store.folder)


def finish(spec: Path, output: Path) -> dict[str, Any]:
    """What the program prints with ``--json`` when it is left in peace."""
    run = subprocess.run(command(spec, output), capture_output=True, text=True)
    if run.returncode:
        raise Broken(f"planner profile ended with {run.returncode}: {run.stderr}")
    printed: dict[str, Any] = json.loads(run.stdout)
    return printed


def command(spec: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "planner", "profile", str(spec), "-o", str(output), "--json"]


def samples(store: ProfileStore) -> dict[str, int]:
    """How many samples each file of the store holds. Raises Broken where one cannot be read."""
    found = {}
    for path, profile in store.each():
        if isinstance(profile, StoreError):
            raise Broken(str(profile))
        found[path.name] = len(profile.samples_ns)
    return found


def replicas_of(output: Path) -> list[int]:
    """Processes that measure engines below ``output``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:  # it has ended
            continue
        if b"planner.profiling.worker" in words and str(output).encode() in words:
            found.append(int(path.parent.name))
    return found


def await_end(output: Path) -> None:
    """Wait for the replicas to end by themselves. Raises Broken where one stays."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while replicas_of(output):
        if time.monotonic() > deadline:
            raise Broken(f"processes stay behind: {replicas_of(output)}")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", nargs="?", type=Path, metavar="PLAN.YAML")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=16.0, help="Seconds that a run is left at most.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="planner-") as name:
        spec, output = arguments.spec or small_plan(Path(name)), Path(name) / "plan"
        print(f"killed after 0.5 to {arguments.longest:g} s each; seed {arguments.seed}", flush=True)
        moments = random.Random(arguments.seed)
        kills = 0
        for kill in kill_often(spec, output, arguments.kills, moments, arguments.longest):
            kills += not kill.finished
            what = "finished, begun anew" if kill.finished else f"kill {kills}"
            print(
                f"{what} {kill.after_s:.1f} s: {kill.stored} profiles, {kill.replicas} replicas", flush=True
            )
        kept = len(samples(ProfileStore(output / "profiles")))
        last = finish(spec, output)
        print(
            f"{kills} kills: the store read clean each time, nothing stored was lost, no process stayed; "
            f"the last run found {kept} profiles begun or finished, measured {last['measured']}, "
            f"took {last['reused']} as they were"
        )


def small_plan(
    folder: Path,
    recipes: Sequence[str] = ("fp32", "int8", "int8-dynamic", "fp16"),
    batch_sizes: Sequence[int] = (1, 4),
) -> Path:
    """plan.yaml for the classifier of 3 kB that the tests generate."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fixtures"))
    import onnx_models
    from plan_files import tiny_plan, write_plan

    return write_plan(
        folder / "plan.yaml",
        tiny_plan(onnx_models.tiny(folder / "model.onnx")),
        workload={"slo": {"percentile": 75, "latency": "200ms"}},
        recipes=list(recipes),
        batch_sizes=list(batch_sizes),
    )


if __name__ == "__main__":
    main()
