"""Engines of several backends, which may share their files."""

from __future__ import annotations

from pathlib import Path

from planner.domain.variant import Variant
from planner.report import Deployed, read_engines, write_engines


def test_two_backends_may_run_the_same_file(tmp_path: Path) -> None:
    made = tmp_path / "variants" / "int8"
    made.mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"graph")
    (made / "weights.bin").write_bytes(b"weights")
    variant = Variant("int8", "m" * 64, made / "model.onnx", "v" * 64, 12)
    deployed = [Deployed(variant, name, ("weights.bin",)) for name in ("onnxruntime", "openvino")]
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
