"""Engines of several backends, which may share their files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from planner.domain.variant import Variant
from planner.report import Deployed, read_engines, write_engines


def test_two_backends_may_run_the_same_file(tmp_path: Path) -> None:
    made = tmp_path / "variants" / "int8"
    made.mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"graph")
    (made / "weights.bin").write_bytes(b"weights")
    variant = Variant("int8", "m" * 64, made / "model.onnx", "v" * 64, 12)
    deployed = [Deployed(variant, name, "genoa", ("weights.bin",)) for name in ("onnxruntime", "openvino")]
    folder = tmp_path / "engines"
    written = write_engines(folder, deployed, [("onnxruntime", "1"), ("openvino", "2")])
    assert read_engines(folder) == written
    assert [engine.backend for engine in written] == ["onnxruntime", "openvino"]
    assert {engine.path for engine in written} == {folder / "int8" / "model.onnx"}
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == [
        "manifest.json",
        "model.onnx",
        "weights.bin",
    ]


def test_what_a_device_loads_and_what_is_yet_to_be_built(tmp_path: Path) -> None:
    """An engine has its record beside it, one for each device; an ONNX file the command that builds one."""
    made = tmp_path / "made"
    made.mkdir()
    (made / "model.onnx").write_bytes(b"graph")
    (made / "k.engine").write_bytes(b"code")
    (made / "k.engine.json").write_bytes(b"{}")
    variant = Variant("fp16", "m" * 64, made / "model.onnx", "v" * 64, 12)
    deployed = [
        Deployed(variant, "tensorrt", "L4", (), made / "k.engine"),
        Deployed(variant, "tensorrt-rtx", "T4", (), made / "k.engine", "built-ahead"),
        Deployed(variant, "tensorrt", "V100-SXM2-16GB", (), None, "to-build", "trtexec --onnx=model.onnx"),
    ]
    folder = tmp_path / "engines"
    written = write_engines(folder, deployed, [])
    assert read_engines(folder) == written
    assert [(e.device, e.status, e.build) for e in written] == [
        ("L4", "measured", ""),
        ("T4", "built-ahead", ""),
        ("V100-SXM2-16GB", "to-build", "trtexec --onnx=model.onnx"),
    ]
    assert [e.path.relative_to(folder).as_posix() for e in written] == [
        "fp16/L4/k.engine",
        "fp16/T4/k.engine",
        "fp16/model.onnx",
    ]
    assert [len(e.files) for e in written] == [2, 2, 1]
    assert all(e.sha256 == hashlib.sha256(e.path.read_bytes()).hexdigest() for e in written)
