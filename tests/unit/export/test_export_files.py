"""Exports appear whole, name their plan, and tell nothing of the machine that planned."""

from __future__ import annotations

import hashlib
import re
import socket
from pathlib import Path

import pytest
from exported_plans import CREATED, mixed_fleet, network, simple_fleet, write_plan
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from planner.errors import InputError, ManifestError, StoreError
from planner.export import TARGETS, Exported, Settings, Target, export
from planner.export.pbtxt import to_text

TEXTS = {".yaml", ".md", ".pbtxt", ".missing"}
GOLDEN = Path(__file__).parent / "golden"


def exported(target: Target, folder: Path) -> Exported:
    report = simple_fleet() if target == "skypilot" else mixed_fleet()
    return export(write_plan(folder / "plan", report), target, folder / "out", Settings())


@pytest.mark.parametrize("target", TARGETS)
def test_every_text_names_the_plan_and_no_machine(target: Target, tmp_path: Path) -> None:
    done = exported(target, tmp_path)
    sha256 = hashlib.sha256((tmp_path / "plan" / "plan.json").read_bytes()).hexdigest()
    telling = {str(tmp_path), str(Path.home()), socket.gethostname(), str(Path.cwd())}
    found = 0
    for path in done.files:
        content = path.read_bytes()
        assert not [word for word in telling if len(word) > 1 and word.encode() in content], path
        if path.suffix in TEXTS:
            text = content.decode()
            assert sha256[:12] in text, path
            assert CREATED in text, path
            found += 1
    assert found >= 3


@pytest.mark.parametrize("target", TARGETS)
def test_golden(target: Target, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Renew with: pytest tests/unit/export --renew-golden"""
    done = exported(target, tmp_path)
    made = {
        # What depends on plan.json's other fields, and on how ONNX writes a file, is blotted out.
        path.relative_to(tmp_path / "out").as_posix(): re.sub(
            "engine [0-9a-f]{12}", f"engine {'0' * 12}", path.read_text()
        )
        .replace(done.origin.sha256, "0" * 64)
        .replace(done.origin.id, "0" * 12)
        for path in done.files
        if path.suffix in TEXTS
    }
    folder = GOLDEN / target
    if request.config.getoption("--renew-golden"):
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.unlink()
        for name, text in made.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    kept = {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }
    assert made == kept, "read the diff, then renew with --renew-golden"


def test_what_is_there_stays(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan", mixed_fleet())
    out = tmp_path / "out"
    out.mkdir()
    export(plan, "kubernetes", out, Settings())
    (out / "mine").write_text("by hand")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="not empty; give another --output, or --force"):
        export(plan, "kserve", out, Settings())
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    done = export(plan, "kserve", out, Settings(), force=True)
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(done.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "plan"], "nothing is left beside it"


def test_force_replaces_exports_only(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan", mixed_fleet())
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "README.md").write_text("# mine")
    with pytest.raises(StoreError, match="is no export"):
        export(plan, "kubernetes", precious, Settings(), force=True)
    assert (precious / "README.md").read_text() == "# mine"


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan", mixed_fleet())
    with pytest.raises(InputError, match="MIG slices"):
        export(plan, "skypilot", tmp_path / "out", Settings())
    engine = next((plan / "engines").rglob("*.engine"))
    engine.write_bytes(b"another")
    with pytest.raises(ManifestError, match="not the engine that was measured"):
        export(plan, "triton", tmp_path / "out", Settings())
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_the_folder_or_its_plan_json(tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan", mixed_fleet())
    one = export(plan, "kubernetes", tmp_path / "one", Settings())
    two = export(plan / "plan.json", "kubernetes", tmp_path / "two", Settings())
    assert [p.read_bytes() for p in one.files] == [p.read_bytes() for p in two.files]
    with pytest.raises(StoreError, match="make one with planner plan"):
        export(tmp_path / "none", "kubernetes", tmp_path / "three", Settings())


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["C"]) | st.sampled_from("\n\t\"'\\"), min_size=1
    ),
    st.lists(st.integers(-1, 1 << 40), max_size=3),
)
def test_text_format_round_trip(name: str, dims: list[int]) -> None:
    text = to_text({"name": name, "max_batch_size": 4, "input": [{"name": name, "dims": dims}] * 2})
    parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert parsed.name == name
    assert [(given.name, list(given.dims)) for given in parsed.input] == [(name, dims)] * 2


def test_the_network_of_these_tests_is_what_it_says(tmp_path: Path) -> None:
    import numpy as np
    import onnxruntime

    for external in ((), ("weights.bin",)):
        path = network(tmp_path / str(len(external)) / "model.onnx", external)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        y, score = session.run(None, {"x": np.ones((3, 8), np.float32)})
        assert y.shape == (3, 4)
        assert score.tolist() == [8, 8, 8]
