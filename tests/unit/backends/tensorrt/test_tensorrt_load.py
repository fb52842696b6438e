"""Loading an engine from a folder: which are refused, before TensorRT sees a byte of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.backends.tensorrt import BuildOptions, EngineRecord, TensorRt, cudart, keep
from planner.backends.tensorrt import backend as module
from planner.backends.tensorrt.keep import find_engine, mark_measured, vouched
from planner.backends.tensorrt.place import ahead_of_time
from planner.backends.tensorrt.record import read_record, record_path, write_record
from planner.errors import BackendError, MissingDependencyError

Keep = Callable[[EngineRecord], Path]


@pytest.fixture
def tensorrt(bench: Any, monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    monkeypatch.setattr(module, "import_library", lambda name: bench.library)
    monkeypatch.setattr(module, "cuda", lambda device=0: bench.cuda)
    return TensorRt("tensorrt")


@pytest.fixture
def kept(bench: Any, tmp_path: Path) -> Keep:
    return lambda record: keep._write(tmp_path, bench.plan, record)


def test_a_kept_engine_runs(tensorrt: TensorRt, bench: Any, kept: Keep) -> None:
    engine = kept(bench.record)
    with tensorrt.load(engine, 1) as session:
        assert session.infer({"x": np.ones((1, 3), np.float32)})[0].tolist() == [[2, 2, 2]]
    assert not bench.rt.leaks and not bench.trt.living


def refused(tensorrt: TensorRt, bench: Any, engine: Path, message: str, **options: Any) -> None:
    with pytest.raises(BackendError, match=message) as caught, tensorrt.load(engine, 1, **options):
        pass
    assert "\n" not in str(caught.value)
    assert not bench.trt.freed, "TensorRT has not been asked"


def test_another_file_is_refused_trusted_or_not(tensorrt: TensorRt, bench: Any, kept: Keep) -> None:
    engine = kept(bench.record)
    engine.write_bytes(b"another plan")
    refused(tensorrt, bench, engine, "its sha256 is")
    refused(tensorrt, bench, engine, "its sha256 is", trusted=True)


def test_an_imported_engine_needs_trust(tensorrt: TensorRt, bench: Any, kept: Keep, tmp_path: Path) -> None:
    engine = kept(bench.record)
    elsewhere = tmp_path / "imported"
    elsewhere.mkdir()
    record_path(engine).rename(elsewhere / record_path(engine).name)
    imported = engine.rename(elsewhere / engine.name)
    refused(tensorrt, bench, imported, "not in this store's manifest.*--trust")
    with tensorrt.load(imported, 1, trusted=True):
        pass
    with tensorrt.load(imported, 1, store=tmp_path):
        pass


def test_no_record_no_run(tensorrt: TensorRt, bench: Any, kept: Keep) -> None:
    engine = kept(bench.record)
    record_path(engine).unlink()
    refused(tensorrt, bench, engine, "no record beside it", trusted=True)
    refused(tensorrt, bench, engine.with_name("none.engine"), "cannot be read")


@pytest.mark.parametrize("field", ["library_version", "device", "compute_capability", "driver", "cuda"])
def test_an_engine_of_another_place_is_refused(
    tensorrt: TensorRt, bench: Any, kept: Keep, field: str
) -> None:
    place = replace(bench.place, **{field: "other"})
    words = field.replace("_", " ")
    engine = kept(replace(bench.record, place=place))
    refused(tensorrt, bench, engine, f"built elsewhere: {words} other there and .* here; build it again here")


@pytest.mark.parametrize(("capability", "fits"), [("8.9", True), ("8.6", False)])
def test_an_engine_built_ahead_runs_on_its_capabilities_only(
    tensorrt: TensorRt, bench: Any, kept: Keep, capability: str, fits: bool
) -> None:
    order = replace(bench.record.order, options=BuildOptions(capabilities=(capability,)))
    engine = kept(
        replace(bench.record, place=ahead_of_time(bench.library), order=order, status="built-ahead")
    )
    if fits:
        with tensorrt.load(engine, 1):
            pass
    else:
        refused(tensorrt, bench, engine, "built for compute capability 8.6, this GPU has 8.9")


def test_an_engine_built_ahead_by_another_version_is_refused(
    tensorrt: TensorRt, bench: Any, kept: Keep
) -> None:
    place = replace(ahead_of_time(bench.library), library_version="10.0")
    order = replace(bench.record.order, options=BuildOptions(capabilities=("8.9",)))
    engine = kept(replace(bench.record, place=place, order=order, status="built-ahead"))
    refused(tensorrt, bench, engine, "built by tensorrt 10.0, here is tensorrt 11.4.0")


def test_there_is_no_unoptimized_run(tensorrt: TensorRt, bench: Any, kept: Keep) -> None:
    refused(tensorrt, bench, kept(bench.record), "judge accuracy with onnxruntime", optimized=False)


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [
        ("tensorrt", "tensorrt", "pip install tensorrt"),
        ("tensorrt-rtx", "tensorrt_rtx", "pip install tensorrt-rtx-cu13"),
    ],
)
def test_a_missing_package_is_named_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch, kept: Keep, bench: Any, name: str, package: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    missing = TensorRt(name).missing()
    assert missing is not None and missing.startswith(f"{package} cannot be imported")
    assert missing.endswith(command)
    with pytest.raises(MissingDependencyError, match=command), TensorRt(name).load(kept(bench.record), 1):
        pass


def test_missing_cuda_bindings_are_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingDependencyError, match="pip install cuda-bindings"):
        cudart.cuda()


def test_the_measured_engine_is_found_before_one_that_is_not(bench: Any, tmp_path: Path) -> None:
    def put(plan: bytes) -> Path:
        return keep._write(tmp_path, plan, replace(bench.record, sha256=keep.sha256(plan)))

    engines = [put(plan) for plan in (b"one", b"two", b"three")]
    assert len(set(engines)) == 3
    for engine in engines:
        assert mark_measured(engine).status == "measured"
        found = find_engine(bench.record.order, bench.place, tmp_path)
        assert found is not None and found.engine == engine and found.reused
        record = read_record(engine)
        assert record is not None
        write_record(engine, replace(record, status="built"))


def test_broken_files_are_built_again(bench: Any, tmp_path: Path) -> None:
    def found() -> Any:
        return find_engine(bench.record.order, bench.place, tmp_path)

    engine = keep._write(tmp_path, bench.plan, bench.record)
    assert found() is not None
    record = record_path(engine)
    text = record.read_text()
    record.write_text(text[:50])
    assert found() is None
    record.write_text(text)
    (tmp_path / keep.MANIFEST).unlink()
    assert found() is None


def test_a_manifest_survives_lines_that_were_cut_off(bench: Any, tmp_path: Path) -> None:
    manifest = tmp_path / keep.MANIFEST
    assert vouched(tmp_path) == frozenset()
    manifest.write_bytes(b'{"sha256": "abc", "eng\n{"sha256"')
    keep._vouch(tmp_path, "m.engine", "d" * 64)
    keep._vouch(tmp_path, "n.engine", "e" * 64)
    assert vouched(tmp_path) == {"d" * 64, "e" * 64}
