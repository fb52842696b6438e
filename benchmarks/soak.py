"""500 clients against `planner serve` on loopback for a minute, malformed requests among them.

    python benchmarks/soak.py [CLIENTS [SECONDS]]

A plan of a small model is made, and served with room for all clients to wait. Each client sends one request
after the other, a fifth of them malformed in one of eight ways, and hangs up in the middle of every fiftieth.
Every valid one must get its right answer, every malformed one the protocol's error. Told are the rates, the
memory of the service with its engines before and after (after a warm-up of a sixth of the time), and what
went wrong: exit code 1 where anything did, or where memory grew by more than a tenth.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))

from onnx_models import tiny
from plan_files import planner, tiny_plan, write_plan
from served_plans import served, soak

CLIENTS, SECONDS = 500, 60.0
GROWTH = 0.1
MIB = 1 << 20


def main() -> None:
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else CLIENTS
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = tiny(folder / "model.onnx")
        made = planner("plan", write_plan(folder / "plan.yaml", tiny_plan(model)))
        if made.returncode:
            sys.exit(made.stderr)
        with np.load(model.evaluation) as data:
            x = data["x"]
        engine = (
            folder / "plan" / json.loads((folder / "plan" / "plan.json").read_text())["engines"][0]["path"]
        )
        session = onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"x": x})
        with served(folder / "plan", "--max-waiting", str(2 * clients)) as running:
            asyncio.run(soak(running, "model", x, expected, clients, seconds / 6))
            before = running.memory_bytes()
            found = asyncio.run(soak(running, "model", x, expected, clients, seconds))
            after = running.memory_bytes()
            code = running.stop()
    print(
        f"{clients} clients, {seconds:g} s: {found.right} valid requests answered rightly "
        f"({found.right / seconds:.0f}/s), {found.refused} malformed ones refused, "
        f"{len(found.wrong)} went wrong"
    )
    print(f"memory {before / MIB:.0f} MiB before, {after / MIB:.0f} MiB after ({after / before - 1:+.1%})")
    print(f"exit code after SIGTERM: {code}")
    for words, count in Counter(found.wrong).most_common(10):
        print(f"  {count} x {words}")
    sys.exit(0 if not found.wrong and code == 0 and after <= before * (1 + GROWTH) else 1)


if __name__ == "__main__":
    main()
