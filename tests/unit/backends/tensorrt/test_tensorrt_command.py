from __future__ import annotations

import shlex

from planner.backends.tensorrt.command import build_command
from planner.backends.tensorrt.order import BuildOptions, Order
from planner.domain.model import BoundInput

IDS = BoundInput("input ids", "int64", (1, 128), 0)
MASK = BoundInput("mask", "int64", (1, 128), 0)


def words(order: Order) -> list[str]:
    return shlex.split(build_command(order, "m.onnx", "m.engine"))


def test_one_size_needs_no_profile_numbers() -> None:
    assert words(Order("", (IDS, MASK), (8,))) == [
        "trtexec",
        "--onnx=m.onnx",
        "--saveEngine=m.engine",
        "--stronglyTyped",
        "--skipInference",
        "--builderOptimizationLevel=3",
        "--minShapes=input ids:1x128,mask:1x128",
        "--optShapes=input ids:8x128,mask:8x128",
        "--maxShapes=input ids:8x128,mask:8x128",
    ]


def test_each_size_is_a_profile() -> None:
    profiles = words(Order("", (MASK,), (1, 4)))[6:]
    assert profiles == [
        "--profile=0",
        "--minShapes=mask:1x128",
        "--optShapes=mask:1x128",
        "--maxShapes=mask:1x128",
        "--profile=1",
        "--minShapes=mask:2x128",
        "--optShapes=mask:4x128",
        "--maxShapes=mask:4x128",
    ]


def test_options_are_passed_on() -> None:
    options = BuildOptions(workspace_bytes=3 << 30, builder_level=5, sparse_weights=True)
    command = words(Order("", (BoundInput("x", "float32", (1, 3), None),), (1,), options))
    assert command[5:] == [
        "--builderOptimizationLevel=5",
        "--memPoolSize=workspace:3072M",
        "--sparsity=enable",
    ]
