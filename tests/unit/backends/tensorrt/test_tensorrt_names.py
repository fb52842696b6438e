"""Every name of TensorRT and of the CUDA runtime that the code uses exists in what is installed elsewhere.

Without a GPU neither can be run. So the names are read from the source: those of TensorRT are looked up in
lists made from the official bindings' binary (see the fixtures' renew.py) and by getattr in TensorRT-RTX, on
the class that the variable holds; those of CUDA by getattr in the installed package.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import planner.backends.tensorrt as package

SOURCES = {path.stem: ast.parse(path.read_text()) for path in Path(package.__file__).parent.glob("*.py")}
LISTS = sorted((Path(__file__).parents[3] / "fixtures" / "tensorrt_names").glob("*.txt"))

# What a variable or attribute holds, by module; "" is TensorRT itself.
HOLDS = {
    "build": {
        "trt": "",
        "builder": "Builder",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
        "tensor": "ITensor",
        "error": "ParserError",
    },
    "timing": {"config": "IBuilderConfig", "timings": "ITimingCache", "theirs": "ITimingCache"},
    "rtx": {"trt": "", "config": "IBuilderConfig", "settings": "IRuntimeConfig", "engine": "ICudaEngine"},
    "tensors": {"trt": "", "engine": "ICudaEngine"},
    "session": {"trt": "", "runtime": "Runtime"},
    "lane": {"_context": "IExecutionContext", "engine": "ICudaEngine"},
    "library": {"trt": ""},
}


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def used(module: str) -> Iterator[tuple[str, ...]]:
    """Paths of names from TensorRT on, such as (IBuilderConfig, set_flag) or (BuilderFlag, REFIT)."""
    holds = HOLDS[module]
    for node in ast.walk(SOURCES[module]):
        path: list[str] = []
        while isinstance(node, ast.Attribute):
            path.insert(0, node.attr)
            if (owner := name_of(node.value)) in holds:
                names = (holds[owner], *path)
                yield tuple(name for name in names if name and not name.startswith("__"))
                break
            node = node.value


STANDARD = {path for module in HOLDS if module != "rtx" for path in used(module) if path}
RTX_ONLY = set(used("rtx"))


def test_the_names_are_found_in_the_source() -> None:
    assert {
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "set_tensor_address"),
        ("IExecutionContext", "set_input_shape"),
        ("IExecutionContext", "set_optimization_profile_async"),
        ("IBuilderConfig", "set_timing_cache"),
        ("BuilderFlag", "SPARSE_WEIGHTS"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "create_execution_context"),
        ("ILogger", "ERROR"),
        ("TensorIOMode", "INPUT"),
    } <= STANDARD
    assert ("IBuilderConfig", "set_compute_capability") in RTX_ONLY


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_official_tensorrt_has_them(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# tensorrt_cu") and len(lines[1]) == len("# sha256 ") + 64
    known = set(lines[3:])
    assert "execute_async_v3" in known and "is_stream_capturable" not in known
    assert not {name for names in STANDARD for name in names} - known


def test_there_are_lists_of_both_major_versions() -> None:
    assert {path.stem.split(".")[0] for path in LISTS} == {"10", "11"}


@pytest.mark.parametrize("path", sorted(STANDARD | RTX_ONLY), ids=".".join)
def test_tensorrt_rtx_has_them(path: tuple[str, ...]) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    if path[-1] == "name":  # of an enumeration's member
        path = path[:-1]
    reduce(getattr, path, trt)


def test_what_is_rtx_only_is_used_behind_a_check_for_rtx() -> None:
    """Only rtx.py uses it, and each call of its functions stands under ``if ... .is_rtx``."""
    for module, tree in SOURCES.items():
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "is_rtx" in ast.unparse(node.test)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name_of(node.func) in ("set_capabilities", "execution_context"):
                assert id(node) in guarded, f"{module}: line {node.lineno}"


def cuda_names() -> set[tuple[str, ...]]:
    found = set()
    for node in ast.walk(SOURCES["cudart"]):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if text.startswith("self._rt."):
            found.add(tuple(text.removeprefix("self._rt.").split(".")))
    return found


@pytest.mark.parametrize("path", sorted(cuda_names()), ids=".".join)
def test_the_cuda_runtime_has_them(path: tuple[str, ...]) -> None:
    runtime: Any = pytest.importorskip("cuda.bindings.runtime")
    assert reduce(getattr, path, runtime) is not None


def test_cuda_is_used_in_its_own_module_only() -> None:
    assert {("cudaMalloc",), ("cudaGraphLaunch",), ("cudaError_t", "cudaSuccess")} <= cuda_names()
    for module, tree in SOURCES.items():
        names = {name_of(node) for node in ast.walk(tree) if isinstance(node, ast.expr)}
        assert module == "cudart" or not any(re.match("cuda[A-Z]", name) for name in names)
