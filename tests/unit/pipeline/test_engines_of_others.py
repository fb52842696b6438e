"""TensorRT engines that other machines built: taken when trusted, and shipped where profiles are theirs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from planner.backends.tensorrt import (
    EngineRecord,
    Order,
    Place,
    adopt,
    engines_beside,
    engines_of,
    record_path,
    vouched,
)
from planner.backends.tensorrt.record import write_record
from planner.domain.model import BoundInput
from planner.errors import BackendError
from planner.pipeline.engines import take_engines

ORDER = Order("a" * 64, (BoundInput("x", "float32", (1, 3), 0),), (1, 4))


def engine_in(
    folder: Path, device: str = "NVIDIA L4", status: str = "measured", content: bytes = b"code"
) -> Path:
    """An engine as a build leaves it, in a folder that does not vouch for it."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = folder / f"{hashlib.sha256(content).hexdigest()[:8]}-{device.split()[-1]}.engine"
    engine.write_bytes(content)
    place = Place("tensorrt", "10.9", device, "8.9" if device else "", "580", "13.0")
    digest = hashlib.sha256(content).hexdigest()
    write_record(engine, EngineRecord(place, ORDER, ("y",), digest, len(content), status, "2026-01-01"))  # type: ignore[arg-type]
    return engine


def test_engines_of_another_store_need_trust(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs" / "profiles", tmp_path / "ours" / "profiles"
    engine_in(engines_beside(theirs))
    engine_in(engines_beside(theirs), "NVIDIA A100-SXM4-40GB MIG 1g.5gb", content=b"slice")
    assert take_engines(ours, theirs, trust=False) == (0, 2)
    assert not engines_beside(ours).exists()
    assert take_engines(ours, theirs, trust=True) == (2, 0)
    assert len(engines_of(ORDER, "tensorrt", engines_beside(ours) / "L4")) == 1
    assert len(engines_of(ORDER, "tensorrt", engines_beside(ours) / "A100-40GB-SXM" / "1g.5gb")) == 1
    assert engines_of(ORDER, "tensorrt-rtx", engines_beside(ours) / "L4") == {}


def test_what_no_gpu_of_the_catalog_ran_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / "profiles"
    engine_in(engines_beside(theirs), "NVIDIA GTX 1")
    engine_in(engines_beside(theirs), content=b"other").with_name("x.engine")
    record_path(engine_in(engines_beside(theirs), content=b"third")).write_text("half")
    assert take_engines(tmp_path / "profiles", theirs, trust=True) == (1, 2)


def test_an_engine_that_is_not_its_records_is_refused(tmp_path: Path) -> None:
    engine = engine_in(tmp_path / "theirs")
    files = {engine.name: b"other code", record_path(engine).name: record_path(engine).read_bytes()}
    with pytest.raises(BackendError, match="its record says another"):
        adopt(files, tmp_path / "ours")
    assert list((tmp_path / "ours").iterdir()) == []
    assert vouched(tmp_path / "ours") == frozenset()


def test_only_what_was_measured_is_shipped(tmp_path: Path) -> None:
    for status in ("built", "measured"):
        engine = engine_in(tmp_path / status, status=status, content=status.encode())
        adopt({p.name: p.read_bytes() for p in (engine, record_path(engine))}, tmp_path / "ours")
    ((digest, kept),) = engines_of(ORDER, "tensorrt", tmp_path / "ours").items()
    assert digest == hashlib.sha256(b"measured").hexdigest()
    assert kept.read_bytes() == b"measured"
