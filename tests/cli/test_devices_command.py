"""planner devices and planner doctor: what people and programs read, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from planner.cli import app, render_devices
from planner.profiling import doctor
from planner.profiling.check import Check
from planner.profiling.devices import Cpu, Here
from planner.profiling.doctor import Finding
from planner.profiling.nvml import Gpu, GpuProcess, Gpus, MigDevice

GIB = 1024**3
LACKING = "libcublasLt.so.13: cannot open shared object file; install it with: pip install 'x[cuda]'"

H100 = "NVIDIA H100 80GB HBM3"
SLICES = (
    MigDevice("MIG-a", "3g.40gb", 40 * GIB, 0, ()),
    MigDevice("MIG-b", "1g.10gb", 10 * GIB, 0, (GpuProcess(77, None),)),
)
GPUS = (
    Gpu(0, "GPU-0", H100, 80 * GIB, 0, "9.0", 345, 1980, 2619, 2619, 40, 70.0, (), (), True, SLICES),
    Gpu(1, "GPU-1", H100, 80 * GIB, 0, "9.0", 345, 1980, 2619, 2619, 40, 70.0, (), (), True, ()),
    Gpu(
        2, "GPU-2", "NVIDIA L4", 23 * GIB, GIB, "8.9", 1200, 2040, 6251, 6251, 88, 71.0,
        ("temperature (driver)", "power cap"), tuple(GpuProcess(p, GIB) for p in range(40, 45)), False, (),
    ),
    Gpu(3, "GPU-3", "Tesla T4", 15 * GIB, 0, "7.5", None, None, None, None, None, None, (), (), False, ()),
)  # fmt: skip
HERE = Here(
    Cpu("AMD EPYC", "Zen 4", "genoa", False, "a [note] on it", 2, 8 * GIB, ("avx512_vnni", "avx2")),
    Gpus("575.57.08", "12.9", GPUS, None),
    (
        Check("onnxruntime", "cpu", (("onnxruntime", "1.31.1"),)),
        Check("openvino", "cpu", failure="its process died (killed by signal 11)"),
        Check("onnxruntime-cuda", "nvidia-gpu"),
        Check("onnxruntime-tensorrt", "nvidia-gpu", missing=LACKING),
        Check("openvino-gpu", "intel-gpu"),
    ),
)


def test_the_devices_table(capsys: pytest.CaptureFixture[str]) -> None:
    render_devices.devices(HERE)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    flat = " ".join(printed.split())
    assert "(nearest: genoa), 2 threads" in flat
    assert "a [note] on it" in flat
    assert "H100 80GB HBM3 MIG 3g.40gb" in flat
    assert "40.0 GiB" in flat
    assert "345/1980 MHz" in flat
    assert "GPU 1: NVIDIA H100 80GB HBM3 has MIG on and no slice" in flat
    assert "GPU 2: NVIDIA L4 is throttled: temperature (driver), power cap" in flat
    assert "shared with process 40 (1.0 GiB), process 41 (1.0 GiB), process 42 (1.0 GiB) and 2 more" in flat
    assert "MIG 1g.10gb is shared with process 77" in flat
    assert "NVIDIA driver 575.57.08, CUDA up to 12.9." in flat
    assert f"onnxruntime-tensorrt cannot run here: {LACKING}" in flat
    assert "openvino failed: its process died (killed by signal 11)" in flat
    assert printed.count("onnxruntime-cuda") == 4, "on two slices, the L4 and the T4"
    assert "Intel GPU" in flat


def test_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    render_devices.devices_json(HERE)
    told = json.loads(capsys.readouterr().out)
    assert told["cpu"]["backends"] == ["onnxruntime"]
    assert told["nvidia"]["backends"] == ["onnxruntime-cuda"]
    assert [len(gpu["slices"]) for gpu in told["nvidia"]["gpus"]] == [2, 0, 0, 0]
    assert told["nvidia"]["gpus"][0]["slices"][1]["processes"] == [{"pid": 77, "memory_bytes": None}]
    assert told["nvidia"]["gpus"][2]["throttled_by"] == ["temperature (driver)", "power cap"]
    assert {b["backend"]: b["can_run"] for b in told["backends"]}["openvino"] is False


def test_devices_on_this_machine() -> None:
    run = CliRunner().invoke(app, ["devices", "--json"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert told["cpu"]["cores"] >= 1
    assert "onnxruntime" in told["cpu"]["backends"]
    for backend in told["backends"]:
        assert backend["can_run"] or backend["missing"], backend


def test_the_doctor_on_this_machine() -> None:
    run = CliRunner().invoke(app, ["doctor", "--json"])
    assert run.exit_code == 0, run.output
    told = {b["backend"]: b for b in json.loads(run.stdout)["backends"]}
    assert told["onnxruntime"]["agrees"]
    assert told["onnxruntime"]["largest_difference"] < doctor.TOLERANCE
    for backend in told.values():
        assert backend["agrees"] or backend["missing"], backend


AGREES = Finding(Check("onnxruntime", "cpu", (("onnxruntime", "1.31.1"),)), 1e-7)
LACKS = Finding(Check("onnxruntime-cuda", "nvidia-gpu", missing=LACKING), None)
DIFFERS = Finding(Check("openvino", "cpu"), 0.02)
SHAPELESS = Finding(Check("openvino", "cpu"), float("inf"))
FAILS = Finding(Check("openvino", "cpu", failure="its process died [killed]"), None)


@pytest.mark.parametrize(
    ("findings", "code", "expected"),
    [
        ((AGREES, LACKS), 0, "agree"),
        ((AGREES, DIFFERS), 1, "differ"),
        ((AGREES, SHAPELESS, LACKS), 1, "differ"),
        ((AGREES, FAILS), 1, "its process died [killed]"),
        ((LACKS,), 4, "cannot run here"),
    ],
)
def test_the_doctors_exit_codes(
    findings: tuple[Finding, ...], code: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    run = CliRunner().invoke(app, ["doctor"])
    assert run.exit_code == code, run.output
    assert expected in " ".join(run.stdout.split())
    assert max(map(len, run.stdout.splitlines())) <= 100
    if code == 4:
        assert (
            run.stderr == "planner: no backend can run here; install one with: pip install onnxruntime-gpu\n"
        )
    as_json = CliRunner().invoke(app, ["doctor", "--json"])
    assert as_json.exit_code == code
    assert len(json.loads(as_json.stdout)["backends"]) == len(findings)


def test_nothing_prints_below_the_command_line() -> None:
    """rich and print stay in planner/cli."""
    package = Path(render_devices.__file__).parents[1]
    for name in ("nvml", "check", "devices", "doctor"):
        text = (package / "profiling" / f"{name}.py").read_text()
        assert "print(" not in text
        assert "rich" not in text
