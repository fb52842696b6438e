"""Memory and time of every recipe on a model above 2 GB, whose weights lie in external files.

    python benchmarks/large_models.py [RECIPE ...]     # needs 12 GB of memory and 14 GB of disk

A stack of products with random weights (real models of this size cannot be had from PyPI): what counts here
is how often the weights are held, not what they say. Each recipe runs in a process of its own; its peak
resident memory is compared with the size of the model. At most 1.5 times is the aim for recipes that look at
weights only, 3.5 times for those that calibrate.

Resident memory counts the pages of files that are mapped, which the system takes back when it needs them.
*Anonymous* is the peak without those, looked at every few milliseconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDTH, LAYERS = 2048, 135
RECIPES = (
    "fp16",
    "bf16",
    "int8-dynamic",
    "int4",
    "int4-tensorrt",
    "int8",
    "int8-tensorrt",
    "fp8",
    "sparse-2:4",
    "lowrank-30",
    "prune-30",
)
MAKE = """
import json, sys, time
import numpy as np
from pathlib import Path
from planner.variants import Context, bind, make_variant, read_model, recipe
model = read_model(Path(sys.argv[1]))
inputs = bind(model, {"batch": "batch"})
samples = np.random.default_rng(1).standard_normal((32, %d), dtype=np.float32)
begin = time.perf_counter()
made = make_variant(model, sys.argv[2], Context(inputs, {"x": samples}), Path(sys.argv[3]))
print(json.dumps({
    "seconds": time.perf_counter() - begin,
    "made_bytes": made.size_bytes,
    "calibrated": recipe(sys.argv[2]).needs_calibration,
}))
"""


def write_model(path: Path) -> int:
    """Writes the model a layer at a time; returns its size in bytes."""
    rng = np.random.default_rng(0)
    nodes, weights, source = [], [], "x"
    with (path.parent / "weights.bin").open("wb") as file:
        for layer in range(LAYERS):
            values = rng.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)
            tensor = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=values.shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", "weights.bin"),
                ("offset", file.tell()),
                ("length", values.nbytes),
            ):
                tensor.external_data.add(key=key, value=str(value))
            file.write(values.data)
            weights.append(tensor)
            last = layer == LAYERS - 1
            product = "y" if last else f"p{layer}"
            nodes.append(helper.make_node("MatMul", [source, f"w{layer}"], [product], name=f"product{layer}"))
            if not last:
                nodes.append(helper.make_node("Relu", [product], [f"r{layer}"], name=f"relu{layer}"))
                source = f"r{layer}"
    shape = ["batch", WIDTH]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return (path.parent / "weights.bin").stat().st_size


def watched(command: list[str]) -> tuple[int, int, int, str, str]:
    """Exit status, peaks of resident and of anonymous memory in bytes, and what was printed (Linux)."""
    peaks = {"VmHWM": 0, "RssAnon": 0}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        while process.poll() is None:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                key, _, told = line.partition(":")
                if key in peaks:
                    peaks[key] = max(peaks[key], int(told.split()[0]) * 1024)
            time.sleep(0.005)
        out.seek(0), err.seek(0)
        return process.returncode, peaks["VmHWM"], peaks["RssAnon"], out.read(), err.read()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="planner-large-") as folder:
        path = Path(folder) / "model.onnx"
        size = write_model(path)
        print(f"model of {size / 1e9:.2f} GB in {LAYERS} products, {time.strftime('%Y-%m-%d')}")
        print("| recipe | peak / model | asked | anonymous / model | seconds | made, GB |")
        print("|---|---|---|---|---|---|")
        for name in sys.argv[1:] or RECIPES:
            with tempfile.TemporaryDirectory(dir=folder) as made:
                command = [sys.executable, "-c", MAKE % WIDTH, str(path), name, made]
                status, peak, anonymous, out, err = watched(command)
            if status:
                print(f"| {name} | failed: {err.strip().splitlines()[-1]} |", flush=True)
                continue
            told = json.loads(out)
            asked = 3.5 if told["calibrated"] else 1.5
            print(
                f"| {name} | {peak / size:.2f} | {asked} | {anonymous / size:.2f} "
                f"| {told['seconds']:.0f} | {told['made_bytes'] / 1e9:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
