"""Cells of SkyPilot's files whose meaning differs by provider; each case names where it is known from."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.catalog.skypilot.rows import gpu_info, number, read_rows
from planner.errors import CatalogError


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        # aws/vms.csv: what EC2's API gives, an L4 being 24e9 bytes
        ("{'Gpus': [{'Name': 'L4', 'Count': 1, 'MemoryInfo': {'SizeInMiB': 22888}}]}", ("L4", 22888 / 1024)),
        # gcp/vms.csv: neither name nor count
        ("{'Gpus': [{'MemoryInfo': {'SizeInMiB': 81920}}]}", ("", 80.0)),
        # runpod/vms.csv of v8, before fetch_runpod.py multiplied by 1024: GB under the name of MiB
        ("{'Gpus': [{'Name': 'A100 PCIe', 'MemoryInfo': {'SizeInMiB': 80}}]}", ("A100 PCIe", 80.0)),
        # azure/vms.csv: the GPU's name and no more
        ("A100-80GB", ("A100-80GB", 80.0)),
        ("M60", ("M60", None)),
        # lambda/vms.csv of CPU machines; a GPU without memory in the script's table
        ("", ("", None)),
        ("{'Gpus': [{'Name': 'X', 'MemoryInfo': {'SizeInMiB': None}}]}", ("X", None)),
        # no Python literal, and one that is not what it should be
        ("{'Gpus': [nan]}", ("", None)),
        ("{'Gpus': []}", ("", None)),
        ("{'Gpus': 3}", ("", None)),
    ],
)
def test_memory_and_name_of_a_gpu(cell: str, expected: tuple[str, float | None]) -> None:
    assert gpu_info(cell) == expected


def test_a_cell_is_never_executed() -> None:
    assert gpu_info("{__import__('os').getcwd(): 1}") == ("", None)


@pytest.mark.parametrize(
    ("text", "value"), [("1.5", 1.5), ("", None), ("nan", None), ("inf", None), ("x", None), ("0.0", 0.0)]
)
def test_numbers(text: str, value: float | None) -> None:
    assert number(text) == value


def write(folder: Path, text: str) -> Path:
    file = folder / "vms.csv"
    file.write_text(text, encoding="utf-8-sig")
    return file


def test_columns_are_read_by_name(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, "Region,Price,New,InstanceType\nmars,2,?,box\n"), "someone")
    assert (row.instance_type, row.region, row.price, row.spot_price) == ("box", "mars", 2.0, None)
    assert (row.accelerator, row.vcpus, row.zone, row.lines) == ("", None, "", (2,))


@pytest.mark.parametrize(
    ("provider", "count", "gib"),
    # fetch_vast.py gives gpu_total_ram; AWS's g6f has an eighth of an L4, and an eighth of its memory
    [("vast", "2", 40.0), ("aws", "2", 80.0), ("aws", "0.125", 640.0)],
)
def test_memory_is_of_one_whole_gpu(tmp_path: Path, provider: str, count: str, gib: float) -> None:
    info = "\"{'Gpus': [{'MemoryInfo': {'SizeInMiB': 81920}}]}\""
    header = "InstanceType,Price,Region,AcceleratorName,AcceleratorCount,GpuInfo\n"
    (row,) = read_rows(write(tmp_path, f"{header}box,1,mars,A100,{count},{info}\n"), provider)
    assert row.gpu_gib == gib


def test_what_is_no_catalog_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"vms\.csv: column Price is missing; expected one of SkyPilot's"):
        list(read_rows(write(tmp_path, "InstanceType,Region\n"), "aws"))
    (tmp_path / "vms.csv").write_bytes(b"InstanceType,Price,Region\n\xff\xfe,1,mars\n")
    with pytest.raises(CatalogError, match=r"vms\.csv: not a CSV file in UTF-8"):
        list(read_rows(tmp_path / "vms.csv", "aws"))
