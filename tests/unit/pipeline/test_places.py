"""The devices of a machine that a plan measures on, with scripted GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plan_files import tiny_plan, write_plan

from planner import pipeline
from planner.catalog import load, local_cpu, match_cpu, sold_as
from planner.errors import SpecError
from planner.pipeline.places import Place, places
from planner.profiling.nvml import Gpu, Gpus, MigDevice

if TYPE_CHECKING:
    from onnx_models import LabelledModel

GIB = 1024**3
L4 = Gpu(
    index=0,
    uuid="GPU-1",
    name="NVIDIA L4",
    memory_bytes=round(22.5 * GIB),
    used_bytes=0,
    compute_capability="8.9",
    sm_clock_mhz=None,
    max_sm_clock_mhz=None,
    memory_clock_mhz=None,
    max_memory_clock_mhz=None,
    temperature_c=None,
    power_w=None,
    throttled_by=(),
    processes=(),
    mig_enabled=False,
    slices=(),
)


def found(spec: Path, *gpus: Gpu, elsewhere: bool = False) -> tuple[Place, ...]:
    catalog, identity = load(None), local_cpu()
    cpu = match_cpu(identity, catalog)
    seen = Gpus("580", "13.0", gpus, None)
    read = pipeline.load_spec(spec).only
    return places(read, catalog, cpu, sold_as(cpu, identity, catalog), 4, elsewhere, lambda: seen)


@pytest.fixture
def plan_for(tiny_model: LabelledModel, tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(*backends: str) -> Path:
        return write_plan(tmp_path / "plan.yaml", tiny_plan(tiny_model), backends=list(backends))

    return write


def test_gpus_count_where_a_backend_runs_on_them(plan_for) -> None:  # type: ignore[no-untyped-def]
    assert [p.runs_on for p in found(plan_for("onnxruntime"), L4)] == ["cpu"]
    gpu = found(plan_for("onnxruntime", "tensorrt"), L4)[1]
    assert (gpu.device, gpu.gpu, gpu.priced_as.name, gpu.cores) == ("L4", "GPU-1", "L4", 4)
    assert [p.device for p in found(plan_for("tensorrt"), L4)] == ["L4"]


def test_each_kind_of_gpu_once_and_none_that_has_no_price(plan_for) -> None:  # type: ignore[no-untyped-def]
    twin, t4 = replace(L4, index=1, uuid="GPU-2"), replace(L4, uuid="GPU-3", name="Tesla T4")
    unknown, split = (
        replace(L4, name="NVIDIA GTX 1"),
        replace(L4, uuid="GPU-5", mig_enabled=True),
    )  # no slices
    t4 = replace(t4, memory_bytes=15 * GIB)
    assert [(p.device, p.gpu) for p in found(plan_for("tensorrt"), split, unknown, L4, twin, t4)] == [
        ("L4", "GPU-1"),
        ("T4", "GPU-3"),
    ]


def test_a_backend_that_nothing_here_runs(plan_for) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpecError, match="tensorrt runs on nvidia-gpu, this machine has none"):
        found(plan_for("onnxruntime", "tensorrt"))
    assert [p.runs_on for p in found(plan_for("onnxruntime", "tensorrt"), elsewhere=True)] == ["cpu"]


def test_mig_slices_are_places_of_their_own(plan_for) -> None:  # type: ignore[no-untyped-def]
    slices = tuple(
        MigDevice(f"MIG-{k}", profile, 5 * GIB, 0, ())
        for k, profile in enumerate(("1g.5gb", "1g.5gb", "3g.20gb", "9g.99gb"))
    )
    a100 = replace(L4, name="NVIDIA A100-SXM4-40GB", memory_bytes=40 * GIB, mig_enabled=True, slices=slices)
    assert [(p.device, p.gpu, p.slices, p.priced_as.name) for p in found(plan_for("tensorrt"), a100)] == [
        ("A100-40GB-SXM/1g.5gb", "MIG-0", (1, 1), "A100-40GB-SXM"),
        ("A100-40GB-SXM/3g.20gb", "MIG-2", (3, 4), "A100-40GB-SXM"),
    ]
